"""async-cache 2.0.3: the callers who wait for a value that another one is loading wait for ever when that one leaves.

Seen on 22 November 2026 with Python 3.13.0.

calloff sweep examples/sweep/found/async_cache_waiter.py:read --setup cache --bystander read

Run by itself, it shows the damage without a sweep.
"""

import asyncio
from collections.abc import Awaitable, Callable

from cache import AsyncLRU


async def cache() -> Callable[[int], Awaitable[int]]:
    @AsyncLRU(maxsize=10)
    async def double(number: int) -> int:
        await asyncio.sleep(0.05)
        return 2 * number

    return double


async def read(double: Callable[[int], Awaitable[int]]) -> int:
    return await double(1)


async def main() -> None:
    double = await cache()
    first, second = (asyncio.create_task(read(double)) for _ in range(2))
    await asyncio.sleep(0.01)
    first.cancel()
    _, waiting = await asyncio.wait({second}, timeout=2)
    print("the second caller", "still waits after 2 s" if waiting else f"got {second.result()}")
    second.cancel()


if __name__ == "__main__":
    asyncio.run(main())
