"""The wait for a program is called off, the program is not."""

import asyncio

SECONDS = 0.5


async def buggy() -> None:
    process = await asyncio.create_subprocess_exec("sleep", str(SECONDS))
    await process.wait()  # unsafe: early: processes


async def mended() -> None:
    process = await asyncio.create_subprocess_exec("sleep", str(SECONDS))
    try:
        await process.wait()
    finally:
        if process.returncode is None:
            process.kill()
