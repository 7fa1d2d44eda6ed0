"""The cancel arrives in a child, which swallows it: the function returns as if nothing had happened."""

import asyncio


async def fetch() -> str:
    try:
        await asyncio.sleep(0.001)
    except BaseException:
        return "default"
    return "fetched"


async def buggy() -> str:
    return await asyncio.create_task(fetch())  # unsafe: early: obeyed


async def careful_fetch() -> str:
    try:
        await asyncio.sleep(0.001)
    except Exception:
        return "default"
    return "fetched"


async def mended() -> str:
    return await asyncio.create_task(careful_fetch())
