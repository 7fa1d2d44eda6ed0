"""A timer that is taken back only when all went well."""

import asyncio


def too_slow() -> None:
    raise AssertionError("too slow")


async def buggy() -> None:
    timer = asyncio.get_running_loop().call_later(60, too_slow)
    await asyncio.sleep(0.001)  # unsafe: early, late: timers
    timer.cancel()


async def mended() -> None:
    timer = asyncio.get_running_loop().call_later(60, too_slow)
    try:
        await asyncio.sleep(0.001)
    finally:
        timer.cancel()
