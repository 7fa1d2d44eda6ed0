"""An item is taken from a queue and, when called off, neither done nor put back: join() waits for ever."""

import asyncio


async def setup() -> "asyncio.Queue[int]":
    queue: asyncio.Queue[int] = asyncio.Queue()
    for number in range(4):
        queue.put_nowait(number)
    return queue


async def buggy(queue: "asyncio.Queue[int]") -> None:
    for _ in range(2):
        await queue.get()
        await asyncio.sleep(0.001)  # unsafe: early, late: locks
        queue.task_done()


async def mended(queue: "asyncio.Queue[int]") -> None:
    for _ in range(2):
        item = await queue.get()
        try:
            await asyncio.sleep(0.001)
        except BaseException:
            queue.put_nowait(item)
            raise
        finally:
            queue.task_done()
