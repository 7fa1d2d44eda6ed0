"""The wake-up goes to a waiter that is being cancelled, and is not passed on: the next waits for ever."""

import asyncio
import collections


class Gate:
    """Lets one in at a time."""

    def __init__(self) -> None:
        self.taken = True  # by somebody who leaves soon
        self.waiters: collections.deque[asyncio.Future[None]] = collections.deque()

    async def enter(self) -> None:
        while self.taken:
            waiter: asyncio.Future[None] = asyncio.get_running_loop().create_future()
            self.waiters.append(waiter)
            await waiter  # unsafe: late: bystander
        self.taken = True

    async def careful_enter(self) -> None:
        while self.taken:
            waiter: asyncio.Future[None] = asyncio.get_running_loop().create_future()
            self.waiters.append(waiter)
            try:
                await waiter
            except asyncio.CancelledError:
                if waiter in self.waiters:
                    self.waiters.remove(waiter)
                elif not self.taken:
                    self.wake_next()
                raise
        self.taken = True

    def leave(self) -> None:
        self.taken = False
        self.wake_next()

    def wake_next(self) -> None:
        while self.waiters:
            waiter = self.waiters.popleft()
            if not waiter.done():
                waiter.set_result(None)
                return


async def setup() -> Gate:
    gate = Gate()
    asyncio.get_running_loop().call_later(0.01, gate.leave)
    return gate


async def bystander(gate: Gate) -> None:
    await gate.careful_enter()
    gate.leave()


async def buggy(gate: Gate) -> None:
    await gate.enter()
    gate.leave()


async def mended(gate: Gate) -> None:
    await gate.careful_enter()
    gate.leave()
