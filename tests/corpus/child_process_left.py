"""The wait for a program is called off, the program is not."""

import asyncio


async def buggy() -> None:
    process = await asyncio.create_subprocess_exec("sleep", "0.5")
    await process.wait()  # unsafe: early: processes


async def mended() -> None:
    process = await asyncio.create_subprocess_exec("sleep", "0.5")
    try:
        await process.wait()
    finally:
        if process.returncode is None:
            process.kill()
