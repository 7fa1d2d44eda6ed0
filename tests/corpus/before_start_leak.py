"""A task that is cancelled before its first step never closes what it was given."""

import asyncio
import socket


async def serve(connection: socket.socket) -> None:
    try:
        await asyncio.sleep(0.001)
    finally:
        connection.close()


KEPT: list[socket.socket] = []


async def buggy() -> None:
    ours, theirs = socket.socketpair()
    theirs.close()
    KEPT.append(ours)
    await asyncio.create_task(serve(ours))  # unsafe: before: files


async def mended() -> None:
    ours, theirs = socket.socketpair()
    theirs.close()
    KEPT.append(ours)
    with ours:
        await asyncio.create_task(serve(ours))
