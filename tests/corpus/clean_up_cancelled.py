"""The clean-up awaits before it gives back: a second cancel, there, keeps it."""

import asyncio


async def setup() -> asyncio.Semaphore:
    return asyncio.Semaphore(2)


async def buggy(slots: asyncio.Semaphore) -> None:
    await slots.acquire()
    try:
        await asyncio.sleep(0.001)
    finally:
        await asyncio.sleep(0.002)  # unsafe: early, late, double: locks
        slots.release()


async def mended(slots: asyncio.Semaphore) -> None:
    await slots.acquire()
    try:
        await asyncio.sleep(0.001)
    finally:
        try:
            await asyncio.sleep(0.002)
        finally:
            slots.release()
