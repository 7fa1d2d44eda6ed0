"""websockets 14.1: the answer to a ping that was called off breaks the connection.

calloff sweep examples/sweep/websockets_ping.py:ping --setup connection --teardown close
"""

import contextlib

from websockets.asyncio.client import ClientConnection, connect
from websockets.asyncio.server import ServerConnection, serve


async def connection() -> ClientConnection:
    async def echo(connection: ServerConnection) -> None:
        async for message in connection:
            await connection.send(message)

    server = contextlib.AsyncExitStack()
    listening = await server.enter_async_context(serve(echo, "127.0.0.1", 0))
    port = listening.sockets[0].getsockname()[1]
    connection = await connect(f"ws://127.0.0.1:{port}", ping_interval=None)
    connection.server = server
    return connection


async def ping(connection: ClientConnection) -> str:
    """Wait until the other side is known to be there, then speak to it."""
    await (await connection.ping())
    await connection.send("hello")
    return await connection.recv()


async def close(connection: ClientConnection) -> None:
    await connection.close()
    await connection.server.aclose()
