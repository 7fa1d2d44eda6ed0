"""coredis 6.9.0: whoever is called off while a connection is made takes its slot of the pool along.

Seen on 22 November 2026 with Python 3.13.0.

calloff sweep examples/sweep/found/coredis_slot.py:ping --setup client --bystander ping --teardown close --phases early,late

Needs a Redis server on 127.0.0.1, port REDIS_PORT (6379). Run by itself, it shows the damage without a sweep.
"""

import asyncio
import os

import coredis

PORT = int(os.environ.get("REDIS_PORT", "6379"))


class Client:
    """A client with one connection at most, open in a task of its own."""

    def __init__(self) -> None:
        self.redis = coredis.Redis("127.0.0.1", PORT, max_connections=1)
        self.ready, self.enough = asyncio.Event(), asyncio.Event()
        self.task = asyncio.create_task(self.stay_open())

    async def stay_open(self) -> None:
        async with self.redis:
            self.ready.set()
            await self.enough.wait()


async def client() -> Client:
    client = Client()
    await client.ready.wait()
    return client


async def ping(client: Client) -> None:
    await client.redis.ping()


async def close(client: Client) -> None:
    client.enough.set()
    await client.task


async def main() -> None:
    one = await client()
    first = asyncio.create_task(ping(one))
    for _ in range(4):
        await asyncio.sleep(0)  # it is connecting
    first.cancel()
    await asyncio.wait({first})
    print("the first was cancelled while its connection was made:", first.cancelled())
    try:
        await asyncio.wait_for(ping(one), 2)
    except TimeoutError:
        print("the second had no connection in 2 s, and none is in use")
    await close(one)


if __name__ == "__main__":
    asyncio.run(main())
