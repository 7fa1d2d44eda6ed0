"""A question is called off and its reply left in the connection, where the next question takes it for its own."""

import asyncio
import contextlib


class Client:
    """One connection for all, opened again when it was dropped."""

    def __init__(self, port: int) -> None:
        self.port = port
        self.lock = asyncio.Lock()
        self.streams: tuple[asyncio.StreamReader, asyncio.StreamWriter] | None = None

    async def ask(self, word: bytes) -> bytes:
        async with self.lock:
            reader, writer = await self.connected()
            writer.write(word)
            return await reader.readline()  # unsafe: early: restart

    async def careful_ask(self, word: bytes) -> bytes:
        async with self.lock:
            reader, writer = await self.connected()
            try:
                writer.write(word)
                return await reader.readline()
            except BaseException:
                writer.close()
                self.streams = None
                raise

    async def connected(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        if self.streams is None:
            self.streams = await asyncio.open_connection("127.0.0.1", self.port)
        return self.streams


async def echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    with contextlib.suppress(ConnectionError):
        while line := await reader.readline():
            writer.write(line)
    writer.close()


async def setup() -> Client:
    server = await asyncio.start_server(echo, "127.0.0.1", 0)
    client = Client(server.sockets[0].getsockname()[1])
    await client.ask(b"first\n")
    return client


async def bystander(client: Client) -> None:
    await client.careful_ask(b"another\n")


async def buggy(client: Client) -> bytes:
    return await client.ask(b"one\n")


async def mended(client: Client) -> bytes:
    return await client.careful_ask(b"one\n")
