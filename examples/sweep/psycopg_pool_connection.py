"""psycopg-pool 3.2.7: who is called off as they get a connection may take it with them; the pool has lost it.

calloff sweep examples/sweep/psycopg_pool_connection.py:query --setup pool --teardown close
"""

import asyncio
import types

from psycopg.pq import TransactionStatus
from psycopg_pool import AsyncConnectionPool


class Connection:
    """As much of psycopg's connection as the pool uses, without a server."""

    autocommit = True

    def __init__(self) -> None:
        self.pgconn = types.SimpleNamespace(transaction_status=TransactionStatus.IDLE)

    @classmethod
    async def connect(cls, _conninfo: str, **_options: object) -> "Connection":
        return cls()

    async def execute(self, _query: str) -> None:
        await asyncio.sleep(0.001)

    async def close(self) -> None:
        self.pgconn.transaction_status = TransactionStatus.UNKNOWN

    async def __aenter__(self) -> "Connection":
        return self

    async def __aexit__(self, *_error: object) -> None: ...


async def pool() -> AsyncConnectionPool:
    """With one connection, which is in use for a moment still."""
    pool = AsyncConnectionPool(
        connection_class=Connection,
        min_size=1,
        timeout=2,
        open=False,
        check=AsyncConnectionPool.check_connection,
    )
    await pool.open(wait=True)
    first = await pool.getconn()
    asyncio.get_running_loop().call_later(0.01, asyncio.ensure_future, pool.putconn(first))
    return pool


async def query(pool: AsyncConnectionPool) -> None:
    async with pool.connection() as connection:
        await connection.execute("select 1")


async def close(pool: AsyncConnectionPool) -> None:
    await pool.close()
