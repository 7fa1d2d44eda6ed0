"""A hand-made timeout that takes back any cancel, also one that is not its own."""

import asyncio


async def buggy() -> None:
    task = asyncio.current_task()
    assert task is not None
    try:
        await asyncio.sleep(0.001)  # unsafe: early, late: cancelling
    except asyncio.CancelledError:
        task.uncancel()
        raise


async def mended() -> None:
    task = asyncio.current_task()
    assert task is not None
    try:
        await asyncio.sleep(0.001)
    finally:
        task.set_name("done")
