"""aiosmtplib 5.1.3: after a command that was called off, each command gets the reply to the one before it.

Seen on 22 November 2026 with Python 3.13.0.

calloff sweep examples/sweep/found/aiosmtplib_reply.py:reset --setup client --check in_step --teardown close

Run by itself, it shows the damage without a sweep.
"""

import asyncio
import contextlib

import aiosmtplib


async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """A server that says which command it replies to."""
    with contextlib.suppress(ConnectionError):
        writer.write(b"220 ready\r\n")
        while line := await reader.readline():
            await asyncio.sleep(0.01)
            writer.write(b"250 reply to " + line)
    writer.close()


async def client() -> aiosmtplib.SMTP:
    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    client = aiosmtplib.SMTP(hostname="127.0.0.1", port=port, start_tls=False)
    client._server = server
    await client.connect()
    await client.ehlo()
    return client


async def reset(client: aiosmtplib.SMTP) -> None:
    await client.rset()


async def in_step(client: aiosmtplib.SMTP) -> None:
    if not client.is_connected:
        await client.connect()
    reply = await client.noop()
    assert reply.message == "reply to NOOP", f"NOOP got the {reply.message}"


async def close(client: aiosmtplib.SMTP) -> None:
    client.close()
    client._server.close()


async def main() -> None:
    session = await client()
    try:
        await asyncio.wait_for(session.rset(), 0.005)
    except TimeoutError:
        print("RSET was called off; connected:", session.is_connected)
    print("NOOP ->", (await session.noop()).message)
    print("VRFY ->", (await session.vrfy("somebody")).message)
    await close(session)


if __name__ == "__main__":
    asyncio.run(main())
