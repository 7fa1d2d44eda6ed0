"""redis 8.0.0: a pipeline that is called off as it ends keeps its connection.

calloff sweep examples/sweep/redis_pipeline.py:watched --setup client
"""

import contextlib

import redis.asyncio as redis
from fakes import redis_server


async def client() -> redis.Redis:
    server = contextlib.AsyncExitStack()
    port = await server.enter_async_context(redis_server(delay=0.002))
    pool = redis.BlockingConnectionPool(max_connections=1, timeout=0.2, host="127.0.0.1", port=port, protocol=2)
    client = redis.Redis(connection_pool=pool)
    client.server = server
    return client


async def watched(client: redis.Redis) -> bytes:
    async with client.pipeline() as pipeline:
        await pipeline.watch("a")
        return await pipeline.get("a")
