"""asyncio-pool 0.6.0: `map` and `spawn` take a cancel for an error of the job at hand, and go on.

Seen on 22 November 2026 with Python 3.13.0.

calloff sweep examples/sweep/found/asyncio_pool_map.py:squares --setup pool

Run by itself, it shows the damage without a sweep.
"""

import asyncio

from asyncio_pool import AioPool


async def pool() -> AioPool:
    return AioPool(size=1)


async def square(number: int) -> int:
    await asyncio.sleep(0.01)
    return number * number


async def squares(pool: AioPool) -> list[int]:
    return await pool.map(square, [1, 2, 3])


async def main() -> None:
    task = asyncio.create_task(squares(await pool()))
    await asyncio.sleep(0.005)
    task.cancel()
    await asyncio.wait({task})
    print("cancelled" if task.cancelled() else f"cancelled, and yet it returned {task.result()}")


if __name__ == "__main__":
    asyncio.run(main())
