"""The loop over an async generator is called off: its clean-up runs when the garbage collector comes by."""

import asyncio
from collections.abc import AsyncGenerator
from contextlib import aclosing


async def rows() -> AsyncGenerator[int, None]:
    await asyncio.sleep(0)
    try:
        for number in range(2):
            yield number
    finally:
        await asyncio.sleep(0)


async def buggy() -> None:
    async for _ in rows():
        await asyncio.sleep(0.001)  # unsafe: early, late: generators


async def mended() -> None:
    async with aclosing(rows()) as found:
        async for _ in found:
            await asyncio.sleep(0.001)
