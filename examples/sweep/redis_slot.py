"""redis 4.5.4: a command that is called off goes on behind a shield, and keeps its place in the pool.

calloff sweep examples/sweep/redis_slot.py:one_key --setup client --check a_place_is_free
"""

import contextlib

import redis.asyncio as redis
from fakes import redis_server


async def client() -> redis.Redis:
    server = contextlib.AsyncExitStack()
    port = await server.enter_async_context(redis_server(delay=0.1))
    pool = redis.BlockingConnectionPool(max_connections=1, timeout=0.02, host="127.0.0.1", port=port)
    client = redis.Redis(connection_pool=pool)
    client.server = server
    return client


async def one_key(client: redis.Redis) -> bytes:
    return await client.get("a")


async def a_place_is_free(client: redis.Redis) -> None:
    await client.ping()
