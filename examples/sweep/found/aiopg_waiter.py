"""aiopg 1.4.0: a query that is called off closes its connection, and nobody tells those who wait for one.

Seen on 22 November 2026 with Python 3.13.0.

calloff sweep examples/sweep/found/aiopg_waiter.py:query --setup pool --bystander query --teardown close

Needs a PostgreSQL server: PG_DSN (``host=127.0.0.1 user=postgres``). Run by itself, it shows the damage without a sweep.
"""

import asyncio
import os

import aiopg

DSN = os.environ.get("PG_DSN", "host=127.0.0.1 user=postgres")


async def pool() -> aiopg.Pool:
    return await aiopg.create_pool(DSN, minsize=1, maxsize=1)


async def query(pool: aiopg.Pool, statement: str = "select 1") -> None:
    async with pool.acquire() as connection, connection.cursor() as cursor:
        await cursor.execute(statement)


async def close(pool: aiopg.Pool) -> None:
    pool.terminate()
    await pool.wait_closed()


async def main() -> None:
    connections = await pool()
    first = asyncio.create_task(query(connections, "select pg_sleep(5)"))
    await asyncio.sleep(0.1)
    second = asyncio.create_task(query(connections))
    await asyncio.sleep(0.1)
    first.cancel()
    _, waiting = await asyncio.wait({second}, timeout=3)
    print(connections.size, "connections; the waiter", "still waits after 3 s" if waiting else "had its turn")
    second.cancel()
    await close(connections)


if __name__ == "__main__":
    asyncio.run(main())
