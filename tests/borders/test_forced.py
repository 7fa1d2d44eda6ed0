"""A clean-up that hangs in a library is forced: who shares its pool or connection works on, as after a second cancel."""

import asyncio
import contextlib

import pytest

import calloff

asyncpg = pytest.importorskip("asyncpg", reason="runs in the environment of the group borders")
aiohttp = pytest.importorskip("aiohttp")
psycopg = pytest.importorskip("psycopg")
websockets = pytest.importorskip("websockets")
from aiohttp import web  # noqa: E402
from websockets.asyncio.client import connect  # noqa: E402
from websockets.asyncio.server import serve  # noqa: E402

pytestmark = pytest.mark.usefixtures("patient")


async def force(hangs, waiting):
    """Force a clean-up that does `hangs`, once it is `waiting`."""

    async def body():
        try:
            await asyncio.sleep(1000)
        finally:
            await hangs()

    op = calloff.start(body(), grace=60)
    await asyncio.sleep(0.01)
    op.cancel()
    async with asyncio.timeout(60):
        while not await waiting():
            await asyncio.sleep(0.01)
    outcome = await op.stop(grace=0)
    assert isinstance(outcome, calloff.Cancelled), outcome
    assert outcome.report.rung is calloff.Rung.FORCED


def test_a_place_of_a_pool_of_asyncpg_is_given_back(postgres):
    hanging, free = asyncio.Event(), asyncio.Event()

    async def setup(_):
        if not free.is_set():
            hanging.set()
            await free.wait()

    async def is_hanging():
        return hanging.is_set()

    async def main():
        async with asyncpg.create_pool(
            host="127.0.0.1",
            port=postgres.port,
            user="calloff",
            database="postgres",
            min_size=1,
            max_size=1,
            setup=setup,
        ) as pool:
            await force(pool.acquire, is_hanging)
            free.set()
            assert await asyncio.wait_for(pool.fetchval("select 1"), 60) == 1

    asyncio.run(main())


def test_a_connection_of_psycopg_is_idle_again(postgres):
    dsn = f"host=127.0.0.1 port={postgres.port} user=calloff dbname=postgres"
    running = "select count(*) from pg_stat_activity where state = 'active' and query like 'select pg_sleep(61)%'"

    async def count(watching):
        return (await (await watching.execute(running)).fetchone())[0]

    async def main():
        async with (
            await psycopg.AsyncConnection.connect(dsn, autocommit=True) as connection,
            await psycopg.AsyncConnection.connect(dsn, autocommit=True) as watching,
        ):
            await force(lambda: connection.execute("select pg_sleep(61)"), lambda: count(watching))
            assert await count(watching) == 0
            assert await (await connection.execute("select 1")).fetchone() == (1,)

    asyncio.run(main())


def test_half_a_message_of_websockets_is_left_to_the_next():
    begun, free = asyncio.Event(), asyncio.Event()

    async def halves():
        yield "half and "
        begun.set()
        await free.wait()
        yield "half"

    async def handler(socket):
        await socket.send(halves())
        await socket.wait_closed()

    async def has_begun():
        return begun.is_set()

    async def main():
        async with serve(handler, "127.0.0.1", 0) as server:
            port = server.sockets[0].getsockname()[1]
            async with connect(f"ws://127.0.0.1:{port}") as socket:
                await force(socket.recv, has_begun)
                free.set()
                assert await asyncio.wait_for(socket.recv(), 60) == "half and half"

    asyncio.run(main())


def test_a_socket_of_aiohttp_can_be_read_by_the_next():
    waits: list[bool] = []

    async def handler(request):
        socket = web.WebSocketResponse()
        await socket.prepare(request)
        async for message in socket:
            await socket.send_str(message.data)
        return socket

    async def is_waiting():
        return bool(waits)

    async def main():
        app = web.Application()
        app.router.add_get("/", handler)
        runner = web.AppRunner(app)
        await runner.setup()
        async with contextlib.AsyncExitStack() as stack:
            stack.push_async_callback(runner.cleanup)
            site = web.TCPSite(runner, "127.0.0.1", 0)
            await site.start()
            session = await stack.enter_async_context(aiohttp.ClientSession())
            socket = await stack.enter_async_context(
                session.ws_connect(f"http://{runner.addresses[0][0]}:{runner.addresses[0][1]}/")
            )

            async def hangs():
                waits.append(True)
                await socket.receive()

            await force(hangs, is_waiting)
            reading = asyncio.create_task(socket.receive())
            await asyncio.sleep(0)
            with contextlib.suppress(ConnectionError):
                await socket.send_str("hello")
            message = await asyncio.wait_for(reading, 60)
            assert (message.type, message.data) == (aiohttp.WSMsgType.TEXT, "hello")

    asyncio.run(main())
