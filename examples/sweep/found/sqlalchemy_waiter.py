"""SQLAlchemy 2.1.9: whoever waits for a slot is not told when a connection could not be made; it sleeps on to its timeout.

Seen on 22 November 2026 with Python 3.13.0.

calloff sweep examples/sweep/found/sqlalchemy_waiter.py:query --setup engine --bystander query --teardown close --max 10

Needs asyncpg and a PostgreSQL server: PG_URL (``postgresql+asyncpg://postgres@127.0.0.1/postgres``). Run by itself, it
shows the delay without a sweep.
"""

import asyncio
import os
import time

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncEngine, create_async_engine

URL = os.environ.get("PG_URL", "postgresql+asyncpg://postgres@127.0.0.1/postgres")


async def engine() -> AsyncEngine:
    return create_async_engine(URL, pool_size=1, max_overflow=0, pool_timeout=4)


async def query(engine: AsyncEngine) -> None:
    async with engine.connect() as connection:
        await connection.execute(text("select 1"))


async def close(engine: AsyncEngine) -> None:
    await engine.dispose()


async def main() -> None:
    one = await engine()
    first = asyncio.create_task(query(one))
    await asyncio.sleep(0.001)
    second = asyncio.create_task(query(one))
    await asyncio.sleep(0.001)
    first.cancel()
    began = time.monotonic()
    await asyncio.wait({first})
    print("the first was cancelled while its connection was made:", first.cancelled(), "-", one.pool.status())
    await second
    print(f"the second had its turn {time.monotonic() - began:.1f} s later (pool_timeout is 4 s)")
    await close(one)


if __name__ == "__main__":
    asyncio.run(main())
