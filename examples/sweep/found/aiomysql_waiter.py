"""aiomysql 0.3.2: a query that is called off closes its connection, and nobody tells those who wait for one.

Seen on 22 November 2026 with Python 3.13.0.

calloff sweep examples/sweep/found/aiomysql_waiter.py:query --setup pool --bystander query --teardown close

Needs a MySQL or MariaDB server on 127.0.0.1, port MYSQL_PORT (3306), with the user MYSQL_USER (``test``) and the password
MYSQL_PASSWORD (``test``). Run by itself, it shows the damage without a sweep.
"""

import asyncio
import os

import aiomysql

SERVER = {
    "host": "127.0.0.1",
    "port": int(os.environ.get("MYSQL_PORT", "3306")),
    "user": os.environ.get("MYSQL_USER", "test"),
    "password": os.environ.get("MYSQL_PASSWORD", "test"),
}


async def pool() -> aiomysql.Pool:
    return await aiomysql.create_pool(minsize=1, maxsize=1, **SERVER)


async def query(pool: aiomysql.Pool, statement: str = "select 1") -> None:
    async with pool.acquire() as connection, connection.cursor() as cursor:
        await cursor.execute(statement)


async def close(pool: aiomysql.Pool) -> None:
    pool.terminate()


async def main() -> None:
    connections = await pool()
    first = asyncio.create_task(query(connections, "select sleep(5)"))
    await asyncio.sleep(0.1)
    second = asyncio.create_task(query(connections))
    await asyncio.sleep(0.1)
    first.cancel()
    _, waiting = await asyncio.wait({second}, timeout=3)
    print(connections.size, "connections; the waiter", "still waits after 3 s" if waiting else "had its turn")
    await query(connections)
    _, waiting = await asyncio.wait({second}, timeout=1)
    print("after another query, the waiter", "still waits" if waiting else "had its turn")
    second.cancel()
    await close(connections)


if __name__ == "__main__":
    asyncio.run(main())
