"""anyio 4.13.0: a release that comes while who waits is being called off wakes nobody; the next one waits for ever.

calloff sweep examples/sweep/anyio_release.py:take --setup lock --bystander give_and_take
"""

import anyio


async def lock() -> anyio.Lock:
    return anyio.Lock()


async def take(lock: anyio.Lock) -> None:
    await anyio.sleep(0.005)
    async with lock:
        await anyio.sleep(0.001)


async def give_and_take(lock: anyio.Lock) -> None:
    """Has the lock, gives it back while the other waits for it, and wants it again at once."""
    async with lock:
        await anyio.sleep(0.02)
    async with lock:
        await anyio.sleep(0.001)
