"""A stop reaches what a driver waits for: the statement ends in the server, and the connection is whole afterwards."""

import asyncio
import contextlib
import socket
import sqlite3
import threading
import time

import pytest

import calloff
from calloff import integrations

psycopg = pytest.importorskip("psycopg", reason="runs in the environment of the group borders")
psycopg2 = pytest.importorskip("psycopg2")
psycopg_pool = pytest.importorskip("psycopg_pool")
pymysql = pytest.importorskip("pymysql")
redis = pytest.importorskip("redis")

LONG = "/* to be called off */"


def dsn(server):
    return f"host=127.0.0.1 port={server.port} user=calloff dbname=postgres"


def my(server):
    return pymysql.connect(host="127.0.0.1", port=server.port, user="root", autocommit=True)


# --- what waits, with its connection, and what is asked of the connection afterwards


def with_psycopg(server):
    with psycopg.connect(dsn(server)) as connection:
        try:
            with integrations.psycopg(connection):
                connection.execute(f"select pg_sleep(60) {LONG}")
        finally:
            connection.rollback()
            assert connection.execute("select 1").fetchone() == (1,)


def with_a_pool(server):
    with psycopg_pool.ConnectionPool(dsn(server), min_size=1, max_size=1) as pool:
        try:
            with pool.connection() as connection, integrations.psycopg(connection):
                connection.execute(f"select pg_sleep(60) {LONG}")
        finally:
            with pool.connection(timeout=10) as connection:
                assert connection.execute("select 1").fetchone() == (1,)


def with_psycopg2(server):
    connection = psycopg2.connect(dsn(server))
    try:
        with integrations.psycopg2(connection), connection.cursor() as cursor:
            cursor.execute(f"select pg_sleep(60) {LONG}")
    finally:
        connection.rollback()
        with connection.cursor() as cursor:
            cursor.execute("select 1")
            assert cursor.fetchone() == (1,)
        connection.close()


def with_pymysql(server):
    connection = my(server)
    try:
        with integrations.mysql(connection, lambda: my(server)):
            cursor = connection.cursor()
            cursor.execute(f"select sleep(60) {LONG}")  # which tells of the end by a 1, and raises nothing
    finally:
        if connection.open:  # it closes itself when it is interrupted in the middle of an answer, as in a process
            cursor = connection.cursor()
            cursor.execute("select 1")
            assert cursor.fetchone() == (1,)
            connection.close()


async def with_async_psycopg(server):
    async with await psycopg.AsyncConnection.connect(dsn(server)) as connection:
        try:
            await connection.execute(f"select pg_sleep(60) {LONG}")
        finally:
            await connection.rollback()
            assert await (await connection.execute("select 1")).fetchone() == (1,)


def running_in_postgres(server):
    with psycopg.connect(dsn(server), autocommit=True) as connection:
        query = (
            "select count(*) from pg_stat_activity where state = 'active' and query like %s and pid <> pg_backend_pid()"
        )
        return connection.execute(query, (f"%pg_sleep(60) {LONG}",)).fetchone()[0]


def running_in_mariadb(server):
    with contextlib.closing(my(server)) as connection, connection.cursor() as cursor:
        cursor.execute(
            "select count(*) from information_schema.processlist where info like %s and id <> connection_id()",
            (f"%sleep(60) {LONG}",),
        )
        return cursor.fetchone()[0]


async def stopped(work, running, server, **limits):
    """Start it, wait until the server has it, stop it: how long until the server has it no more."""
    op = calloff.start(work, grace=20, **limits)
    while not await asyncio.to_thread(running, server):
        assert not op.done(), await op.outcome()
        await asyncio.sleep(0.01)
    began = time.monotonic()
    outcome = await op.stop("not needed")
    seconds = time.monotonic() - began
    assert await asyncio.to_thread(running, server) == 0
    assert isinstance(outcome, calloff.Cancelled), outcome
    assert outcome.report.rung is calloff.Rung.ASKED
    assert seconds < 10  # of 60; on a machine with time to spare it takes some hundredths
    return outcome


POSTGRES = [with_psycopg, with_a_pool, with_psycopg2]


@pytest.mark.parametrize("place", [calloff.thread, calloff.process], ids=["thread", "process"])
@pytest.mark.parametrize("work", POSTGRES)
def test_postgres(postgres, work, place):
    outcome = asyncio.run(stopped(place(work, postgres), running_in_postgres, postgres))
    assert outcome.report.helped in (
        ("psycopg.Connection.cancel_safe",),
        ("psycopg2.connection.cancel",),
    )


def test_async_psycopg_calls_its_statements_off_by_itself(postgres):
    outcome = asyncio.run(stopped(with_async_psycopg(postgres), running_in_postgres, postgres))
    assert outcome.report.helped == ()


@pytest.mark.parametrize("place", [calloff.thread, calloff.process], ids=["thread", "process"])
def test_mariadb(mariadb, place):
    outcome = asyncio.run(stopped(place(with_pymysql, mariadb), running_in_mariadb, mariadb))
    assert outcome.report.helped == ("KILL QUERY",)


def test_a_hundred_stops_at_any_moment_leave_the_connection_whole(postgres):
    """Also where it is asked before the statement was sent, which the server does not notice."""

    def work(connection):
        try:
            with integrations.psycopg(connection):
                connection.execute("select pg_sleep(60)")
        except BaseException:
            connection.rollback()
            raise
        finally:
            assert connection.execute("select 1").fetchone() == (1,)
            connection.rollback()

    async def main():
        with await asyncio.to_thread(psycopg.connect, dsn(postgres)) as connection:
            for number in range(100):
                op = calloff.start(calloff.thread(work, connection), grace=20)
                await asyncio.sleep(number % 10 * 0.0005)
                outcome = await op.stop()
                assert isinstance(outcome, calloff.Cancelled), outcome
                assert outcome.report.rung is calloff.Rung.ASKED

    asyncio.run(main())


def test_redis(redis_server):
    ready = threading.Event()

    def work(client):
        with integrations.redis(client) as mine:
            mine.ping()
            ready.set()
            mine.blpop("nothing", 60)

    async def main():
        client = redis.Redis(port=redis_server.port, max_connections=1)
        for _ in range(3):
            ready.clear()
            op = calloff.start(calloff.thread(work, client), grace=20)
            await asyncio.to_thread(ready.wait, 30)
            outcome = await op.stop()
            assert isinstance(outcome, calloff.Cancelled), outcome
            assert outcome.report.rung is calloff.Rung.ASKED
            assert await asyncio.to_thread(client.ping)
        client.close()

    asyncio.run(main())


def test_sqlite():
    def work():
        connection = sqlite3.connect(":memory:")
        try:
            with integrations.sqlite3(connection):
                endless = "with recursive n(x) as (select 1 union all select x + 1 from n) select count(*) from n"
                connection.execute(endless).fetchone()
        finally:
            assert connection.execute("select 1").fetchone() == (1,)
            connection.close()

    async def main():
        for pause in (0, 0.001, 0.1):
            op = calloff.start(calloff.thread(work), grace=20)
            await asyncio.sleep(pause)
            outcome = await op.stop()
            assert isinstance(outcome, calloff.Cancelled), outcome

    asyncio.run(main())


def test_a_socket():
    def work(end):
        with integrations.socket(end):
            return end.recv(1)

    async def main():
        end, other = socket.socketpair()
        op = calloff.start(calloff.thread(work, end), grace=20)
        while "recv" not in str(op.where()):
            await asyncio.sleep(0.001)
        outcome = await op.stop()
        assert isinstance(outcome, calloff.Cancelled), outcome
        end.close()
        other.close()

    asyncio.run(main())


def test_a_future_of_grpc():
    grpc = pytest.importorskip("grpc")
    from concurrent import futures

    entered, done = threading.Event(), threading.Event()

    def hang(request, context):
        context.add_callback(done.set)
        entered.set()
        done.wait(60)
        return b""

    server = grpc.server(futures.ThreadPoolExecutor(2))
    handler = grpc.unary_unary_rpc_method_handler(hang)
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler("test.Service", {"Hang": handler}),))
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()

    def work(channel):
        call = channel.unary_unary("/test.Service/Hang").future(b"")
        with calloff.on_stop(call.cancel):
            return call.result()

    async def main():
        with grpc.insecure_channel(f"127.0.0.1:{port}") as channel:
            op = calloff.start(calloff.thread(work, channel), grace=20)
            await asyncio.to_thread(entered.wait, 30)
            outcome = await op.stop()
            assert isinstance(outcome, calloff.Cancelled), outcome
            assert await asyncio.to_thread(done.wait, 30), "the server has not heard of it"

    asyncio.run(main())
    server.stop(None)
