"""A connection is closed only when all went well."""

import asyncio
from typing import Any


async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    try:
        writer.write(await reader.readline())
        await writer.drain()
    finally:
        writer.close()


async def setup() -> Any:
    return await asyncio.start_server(answer, "127.0.0.1", 0)


async def teardown(server: Any) -> None:
    server.close()


async def buggy(server: Any) -> bytes:
    reader, writer = await asyncio.open_connection(*server.sockets[0].getsockname())
    writer.write(b"hello\n")
    line = await reader.readline()  # unsafe: early, late: files
    writer.close()
    return line


async def mended(server: Any) -> bytes:
    reader, writer = await asyncio.open_connection(*server.sockets[0].getsockname())
    try:
        writer.write(b"hello\n")
        return await reader.readline()
    finally:
        writer.close()
