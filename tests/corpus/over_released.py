"""The acquire stands inside the try: a cancel there releases a slot that was never had."""

import asyncio


async def setup() -> asyncio.Semaphore:
    slots = asyncio.Semaphore(1)
    await slots.acquire()
    asyncio.get_running_loop().call_later(0.005, slots.release)
    return slots


async def buggy(slots: asyncio.Semaphore) -> None:
    try:
        await slots.acquire()  # unsafe: early, late: locks
        await asyncio.sleep(0.001)
    finally:
        slots.release()


async def mended(slots: asyncio.Semaphore) -> None:
    async with slots:
        await asyncio.sleep(0.001)
