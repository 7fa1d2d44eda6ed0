"""Something happens between the acquire and the try: a cancel there keeps the slot."""

import asyncio


class Pool:
    def __init__(self) -> None:
        self.free = 1

    async def acquire(self) -> None:
        while not self.free:
            await asyncio.sleep(0.001)
        self.free -= 1

    def release(self) -> None:
        self.free += 1


async def setup() -> Pool:
    return Pool()


async def buggy(pool: Pool) -> None:
    await pool.acquire()
    await asyncio.sleep(0)  # unsafe: early: restart
    try:
        await asyncio.sleep(0.001)
    finally:
        pool.release()


async def mended(pool: Pool) -> None:
    await pool.acquire()
    try:
        await asyncio.sleep(0)
        await asyncio.sleep(0.001)
    finally:
        pool.release()
