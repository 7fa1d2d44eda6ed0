"""A pool of connections with a bug that hardly any test finds: called off in the wrong moment, it loses one.

    python examples/pool.py
and, with the whole report: calloff sweep examples/pool.py:query --setup setup     (exit status 1)
"""

import asyncio
from collections import deque

import calloff.testing


class Pool:
    def __init__(self, *connections):
        self.free = list(connections)
        self.waiters = deque()

    async def get(self):
        if self.free:
            return self.free.pop()
        waiter = asyncio.get_running_loop().create_future()
        self.waiters.append(waiter)
        return await waiter

    def put(self, connection):
        while self.waiters:
            waiter = self.waiters.popleft()
            if not waiter.done():
                waiter.set_result(connection)
                return
        self.free.append(connection)


class MendedPool(Pool):
    async def get(self):
        if self.free:
            return self.free.pop()
        waiter = asyncio.get_running_loop().create_future()
        self.waiters.append(waiter)
        try:
            return await waiter
        except asyncio.CancelledError:
            if waiter.done() and not waiter.cancelled():
                self.put(waiter.result())  # it was handed over just now
            raise


async def query(pool):
    connection = await pool.get()
    try:
        await asyncio.sleep(0.01)  # ask, and wait for the rows
    finally:
        pool.put(connection)


async def setup(kind=Pool):
    pool = kind()  # somebody else has the only connection, and gives it back soon
    asyncio.get_running_loop().call_later(0.01, pool.put, "connection 1")
    return pool


async def setup_mended():
    return await setup(MendedPool)


if __name__ == "__main__":
    for made_by in (setup, setup_mended):
        report = asyncio.run(calloff.testing.sweep(query, setup=made_by))
        print(made_by.__name__, report.verdict, [finding.phase for finding in report.findings])
