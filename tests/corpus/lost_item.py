"""An item is handed over to a waiter that is being cancelled: nobody has it."""

import asyncio
import collections


class Mailbox:
    def __init__(self) -> None:
        self.items: collections.deque[str] = collections.deque()
        self.waiters: collections.deque[asyncio.Future[str]] = collections.deque()

    def put(self, item: str) -> None:
        while self.waiters:
            waiter = self.waiters.popleft()
            if not waiter.done():
                waiter.set_result(item)
                return
        self.items.append(item)

    async def get(self) -> str:
        if self.items:
            return self.items.popleft()
        waiter: asyncio.Future[str] = asyncio.get_running_loop().create_future()
        self.waiters.append(waiter)
        return await waiter  # unsafe: late: bystander

    async def careful_get(self) -> str:
        if self.items:
            return self.items.popleft()
        waiter: asyncio.Future[str] = asyncio.get_running_loop().create_future()
        self.waiters.append(waiter)
        try:
            return await waiter
        except asyncio.CancelledError:
            if waiter.done() and not waiter.cancelled():
                self.put(waiter.result())
            raise


async def setup() -> Mailbox:
    return Mailbox()


async def bystander(box: Mailbox) -> None:
    await asyncio.sleep(0.005)
    box.put("a")
    await asyncio.sleep(0.005)
    if len(box.items) == 0:
        box.put("b")  # the first was taken: here is one more, which whoever comes next will find
        if not getattr(box, "took", False):
            box.items.clear()
    assert await asyncio.wait_for(box.careful_get(), 0.5)


async def buggy(box: Mailbox) -> None:
    await box.get()
    box.took = True  # type: ignore[attr-defined]


async def mended(box: Mailbox) -> None:
    await box.careful_get()
    box.took = True  # type: ignore[attr-defined]
