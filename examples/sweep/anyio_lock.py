"""anyio 3.4.0: a task that is cancelled as it takes a free lock keeps it for ever.

calloff sweep examples/sweep/anyio_lock.py:take --setup lock
"""

import anyio


async def lock() -> anyio.Lock:
    return anyio.Lock()


async def take(lock: anyio.Lock) -> None:
    async with lock:
        await anyio.sleep(0.001)
