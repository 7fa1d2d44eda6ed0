"""aiohttp 3.14.5: a request that is called off as its turn comes takes the wake-up with it; the next one waits for ever.

calloff sweep examples/sweep/aiohttp_waiter.py:request --setup session --bystander request
"""

import asyncio
import contextlib

import aiohttp
from fakes import http_server


async def session() -> aiohttp.ClientSession:
    """With one connection, which is in use for a moment still."""
    server = contextlib.AsyncExitStack()
    url = f"http://127.0.0.1:{await server.enter_async_context(http_server())}/"
    session = aiohttp.ClientSession(url, connector=aiohttp.TCPConnector(limit=1))
    session._server = server
    response = await session.get("/long")
    asyncio.get_running_loop().call_later(0.01, response.close)
    return session


async def request(session: aiohttp.ClientSession) -> str:
    async with session.get("/") as response:
        return await response.text()
