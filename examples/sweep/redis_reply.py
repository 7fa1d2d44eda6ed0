"""redis 4.5.1: a command that is called off leaves its reply behind, and the next command gets it.

calloff sweep examples/sweep/redis_reply.py:two_keys --setup client
"""

import contextlib

import redis.asyncio as redis
from fakes import redis_server


async def client() -> redis.Redis:
    server = contextlib.AsyncExitStack()
    port = await server.enter_async_context(redis_server(delay=0.02))
    client = redis.Redis(port=port, decode_responses=True)
    client.server = server
    await client.ping()
    return client


async def two_keys(client: redis.Redis) -> tuple[str, str]:
    return await client.get("a"), await client.get("b")
