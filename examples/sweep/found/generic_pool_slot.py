"""generic-connection-pool 0.8.1: whoever is called off while a connection is made, or as it is handed over, keeps the slot.

Seen on 22 November 2026 with Python 3.13.0.

calloff sweep examples/sweep/found/generic_pool_slot.py:use --setup pool --bystander use

Run by itself, it shows the damage without a sweep.
"""

import asyncio
from typing import Any

from generic_connection_pool.asyncio import BaseConnectionManager, ConnectionPool


class Connection:
    pass


class Manager(BaseConnectionManager[str, Connection]):
    async def create(self, endpoint: str) -> Connection:
        await asyncio.sleep(0.01)
        return Connection()

    async def dispose(self, endpoint: str, conn: Connection) -> None:
        pass


async def pool() -> Any:
    return ConnectionPool(Manager(), max_size=1, total_max_size=2, min_idle=1, idle_timeout=30, max_lifetime=60)


async def use(pool: Any) -> None:
    async with pool.connection("server"):
        await asyncio.sleep(0.001)


async def main() -> None:
    slots = await pool()
    try:
        await asyncio.wait_for(use(slots), 0.005)
    except TimeoutError:
        print("the first gave up while its connection was made")
    try:
        await asyncio.wait_for(use(slots), 2)
    except TimeoutError:
        print("the second had no connection in 2 s, and none is in use")


if __name__ == "__main__":
    asyncio.run(main())
