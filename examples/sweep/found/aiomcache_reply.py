"""aiomcache 0.8.2: a connection goes back to the pool with the reply to a request that was called off still to come.

Seen on 22 November 2026 with Python 3.13.0.

calloff sweep examples/sweep/found/aiomcache_reply.py:count --setup client --check in_step --teardown close

Run by itself, it shows the damage without a sweep. A memcached does as well as the small server here.
"""

import asyncio
import contextlib

import aiomcache


async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """``incr KEY 1`` yields 10 for ``ten`` and 20 for ``twenty``."""
    with contextlib.suppress(ConnectionError):
        while line := await reader.readline():
            await asyncio.sleep(0.01)
            writer.write({b"ten": b"10\r\n", b"twenty": b"20\r\n"}[line.split()[1]])
    writer.close()


async def client() -> aiomcache.Client:
    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    client = aiomcache.Client("127.0.0.1", server.sockets[0].getsockname()[1], pool_size=1)
    client._server = server
    assert await client.incr(b"ten") == 10
    return client


async def count(client: aiomcache.Client) -> None:
    await client.incr(b"ten")


async def in_step(client: aiomcache.Client) -> None:
    twenty = await client.incr(b"twenty")
    assert twenty == 20, f"asked for the twenty, got {twenty}"


async def close(client: aiomcache.Client) -> None:
    await client.close()
    client._server.close()


async def main() -> None:
    cache = await client()
    try:
        await asyncio.wait_for(cache.incr(b"ten"), 0.005)
    except TimeoutError:
        print("the request for ten was called off")
    print("asked for twenty, got", await cache.incr(b"twenty"))
    print("asked for ten, got", await cache.incr(b"ten"))
    await close(cache)


if __name__ == "__main__":
    asyncio.run(main())
