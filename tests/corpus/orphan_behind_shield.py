"""A shield keeps the inner task from the cancel, and nobody waits for it."""

import asyncio


async def write() -> None:
    await asyncio.sleep(0.5)


async def buggy() -> None:
    await asyncio.shield(write())  # unsafe: early: tasks


async def mended() -> None:
    writing = asyncio.ensure_future(write())
    try:
        await asyncio.shield(writing)
    except asyncio.CancelledError:
        while not writing.done():
            try:
                await asyncio.shield(writing)
            except asyncio.CancelledError:
                pass
        raise
