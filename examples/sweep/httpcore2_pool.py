"""httpcore2 2.0.0: a request that is called off as it connects leaves a connection that fills a place in the pool for ever.

calloff sweep examples/sweep/httpcore2_pool.py:request --setup pool
"""

import asyncio
import contextlib

import httpcore2
from fakes import http_server


async def pool() -> httpcore2.AsyncConnectionPool:
    """With one connection, which is in use for a moment still."""
    server = contextlib.AsyncExitStack()
    pool = httpcore2.AsyncConnectionPool(max_connections=1)
    pool.url = f"http://127.0.0.1:{await server.enter_async_context(http_server())}/"
    pool.server = server
    first = contextlib.AsyncExitStack()
    await first.enter_async_context(pool.stream("GET", pool.url + "long"))
    asyncio.get_running_loop().call_later(0.01, asyncio.ensure_future, first.aclose())
    return pool


async def request(pool: httpcore2.AsyncConnectionPool) -> bytes:
    response = await pool.request("GET", pool.url)
    return response.content
