"""The wait for a thread is called off, the thread is not."""

import asyncio
import threading

SECONDS = 0.5


def work(stop: threading.Event) -> None:
    stop.wait(SECONDS)


async def buggy() -> None:
    stop = threading.Event()
    await asyncio.to_thread(work, stop)  # unsafe: early: threads


async def mended() -> None:
    stop = threading.Event()
    working = asyncio.ensure_future(asyncio.to_thread(work, stop))
    try:
        await asyncio.shield(working)
    finally:
        stop.set()
        while not working.done():
            try:
                await asyncio.shield(working)
            except asyncio.CancelledError:
                pass
