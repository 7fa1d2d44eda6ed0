"""The clean-up waits for something that only the work would have brought about."""

import asyncio


async def setup() -> asyncio.Event:
    return asyncio.Event()


async def buggy(finished: asyncio.Event) -> None:
    try:
        await asyncio.sleep(0.001)  # unsafe: early, late: ended
        finished.set()
    finally:
        await finished.wait()


async def mended(finished: asyncio.Event) -> None:
    try:
        await asyncio.sleep(0.001)
    finally:
        finished.set()
    await finished.wait()
