"""The clean-up relies on what the cancel kept from being made."""

import asyncio


async def buggy() -> None:
    connection = None
    try:
        await asyncio.sleep(0.001)  # unsafe: early, late: error
        connection = {"open": True}
        await asyncio.sleep(0.001)
    finally:
        connection["open"] = False  # type: ignore[index]


async def mended() -> None:
    connection = None
    try:
        await asyncio.sleep(0.001)
        connection = {"open": True}
        await asyncio.sleep(0.001)
    finally:
        if connection is not None:
            connection["open"] = False
