"""A worker that no cancel ends."""

import asyncio


async def buggy() -> None:
    left = 200
    while left:
        try:
            await asyncio.sleep(0.0005)  # unsafe: early, late: obeyed
            left -= 1 if left < 200 else 199
        except asyncio.CancelledError:
            left = 10**9


async def mended() -> None:
    left = 200
    while left:
        await asyncio.sleep(0.0005)
        left -= 1 if left < 200 else 199
