"""A lock is released by hand, and not when the function is called off."""

import asyncio


async def setup() -> asyncio.Lock:
    return asyncio.Lock()


async def buggy(lock: asyncio.Lock) -> None:
    await lock.acquire()
    await asyncio.sleep(0.001)  # unsafe: early, late: locks
    lock.release()


async def mended(lock: asyncio.Lock) -> None:
    async with lock:
        await asyncio.sleep(0.001)
