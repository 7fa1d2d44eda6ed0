"""Small servers for the scripts beside this file; each keeps to what its script asks of it."""

import asyncio
import contextlib
from collections.abc import AsyncIterator


@contextlib.asynccontextmanager
async def redis_server(delay: float = 0) -> AsyncIterator[int]:
    """Answers ``GET key`` with ``value of key``, `delay` seconds later; yields its port."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(ConnectionError, asyncio.IncompleteReadError):
            while head := await reader.readline():  # *2\r\n$3\r\nGET\r\n$1\r\na\r\n
                words = []
                for _ in range(int(head[1:])):
                    size = int((await reader.readline())[1:])
                    words.append((await reader.readexactly(size + 2))[:-2])
                await asyncio.sleep(delay)
                answer = b"value of " + words[1] if words[0] == b"GET" else b"OK"
                writer.write(b"$%d\r\n%s\r\n" % (len(answer), answer))
        writer.close()

    async with await asyncio.start_server(serve, "127.0.0.1", 0) as server:
        yield server.sockets[0].getsockname()[1]


@contextlib.asynccontextmanager
async def http_server() -> AsyncIterator[int]:
    """Answers with ``hello`` and keeps the connection; of ``/long`` it sends no more than the head; yields its port."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(ConnectionError, asyncio.IncompleteReadError):
            while head := await reader.readuntil(b"\r\n\r\n"):
                body = b"" if b"/long" in head else b"hello"
                writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\n" + body)
        writer.close()

    async with await asyncio.start_server(serve, "127.0.0.1", 0) as server:
        yield server.sockets[0].getsockname()[1]
