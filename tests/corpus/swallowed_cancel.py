"""A retry loop that takes the cancel for one more failure."""

import asyncio


async def attempt() -> None:
    await asyncio.sleep(0.001)


async def buggy() -> None:
    for _ in range(3):
        try:
            await attempt()  # unsafe: early, late: obeyed
        except BaseException:
            continue


async def mended() -> None:
    for _ in range(3):
        try:
            await attempt()
        except Exception:
            continue
