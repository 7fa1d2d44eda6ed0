"""anyio 4.9.0: who is called off as it gets the token of a limiter keeps it; the next one waits for ever.

calloff sweep examples/sweep/anyio_limiter.py:borrow --setup limiter --bystander borrow
"""

import asyncio

import anyio


async def limiter() -> anyio.CapacityLimiter:
    """With one token, which is lent for a moment still."""
    limiter = anyio.CapacityLimiter(1)
    owner = object()
    await limiter.acquire_on_behalf_of(owner)
    asyncio.get_running_loop().call_later(0.01, limiter.release_on_behalf_of, owner)
    return limiter


async def borrow(limiter: anyio.CapacityLimiter) -> None:
    async with limiter:
        await anyio.sleep(0.001)
