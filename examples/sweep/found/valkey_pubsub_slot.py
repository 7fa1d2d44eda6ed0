"""valkey 6.2.0: a `PubSub` or a watching `Pipeline` that is called off as it closes never gives its connection back.

Seen on 22 November 2026 with Python 3.13.0.

calloff sweep examples/sweep/found/valkey_pubsub_slot.py:subscribe --setup client --bystander ping --teardown close
calloff sweep examples/sweep/found/valkey_pubsub_slot.py:watch --setup client --bystander ping --teardown close

Needs a Redis or Valkey server on 127.0.0.1, port REDIS_PORT (6379). Run by itself, it shows the damage without a sweep.
"""

import asyncio
import os

from valkey.asyncio import BlockingConnectionPool, Valkey
from valkey.exceptions import ConnectionError

PORT = int(os.environ.get("REDIS_PORT", "6379"))


async def client() -> Valkey:
    pool = BlockingConnectionPool(host="127.0.0.1", port=PORT, max_connections=1, timeout=2)
    client = Valkey(connection_pool=pool)
    await client.ping()
    return client


async def subscribe(client: Valkey) -> None:
    async with client.pubsub() as pubsub:
        await pubsub.subscribe("news")
        await pubsub.get_message(timeout=0.1)


async def watch(client: Valkey) -> None:
    async with client.pipeline() as pipeline:
        await pipeline.watch("key")


async def ping(client: Valkey) -> None:
    await client.ping()


async def close(client: Valkey) -> None:
    await client.connection_pool.disconnect()


async def main() -> None:
    one = await client()
    pool = one.connection_pool
    task = asyncio.create_task(subscribe(one))
    while not any(c._writer and c._writer.is_closing() for c in pool._in_use_connections):
        await asyncio.sleep(0)
    task.cancel()  # it is closing its connection
    await asyncio.wait({task})
    print("cancelled as it closed:", task.cancelled(), "connections in use:", len(pool._in_use_connections))
    try:
        await one.ping()
    except ConnectionError as error:
        print("ping:", error)


if __name__ == "__main__":
    asyncio.run(main())
