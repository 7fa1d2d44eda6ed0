"""What the function was given to close stays open when it is called off before its first step."""

import asyncio
import socket


async def setup() -> socket.socket:
    ours, theirs = socket.socketpair()
    theirs.close()
    return ours


async def buggy(connection: socket.socket) -> None:  # unsafe: before: files
    with connection:
        await asyncio.sleep(0.001)


async def mended(connection: socket.socket) -> None:
    """The caller keeps it, and closes it."""
    await asyncio.sleep(0.001)


async def teardown(connection: socket.socket) -> None:
    if OWNER_CLOSES:
        connection.close()


OWNER_CLOSES = False
