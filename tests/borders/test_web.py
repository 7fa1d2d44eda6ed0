"""A client leaves: server by server, framework by framework, its handler is stopped; and what is to go on goes on."""

import asyncio
import os
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest
from borders.servers import free_port

pytest.importorskip("hypercorn")
pytest.importorskip("granian")

import h2.config
import h2.connection
import websockets.sync.client

HERE = Path(__file__).parent
LIMIT = 60
CALLS = {
    "uvicorn-h11": ["uvicorn", "--http", "h11", "--log-level", "critical", "--port"],
    "uvicorn-httptools": ["uvicorn", "--http", "httptools", "--log-level", "critical", "--port"],
    "hypercorn": ["hypercorn", "--log-level", "critical", "-b"],
    "granian": ["granian", "--interface", "asgi", "--no-log", "--workers", "1", "--http"],
}


class Server:
    def __init__(self, name, app, tmp_path):
        self.h2 = name.endswith("-h2")
        kind = name.removesuffix("-h2")
        self.port = free_port()
        self.events = tmp_path / "events"
        self.events.touch()
        last = [f"127.0.0.1:{self.port}"] if kind == "hypercorn" else [str(self.port)]
        if kind == "granian":
            last = ["2" if self.h2 else "1", "--port", str(self.port)]
        argv = [sys.executable, "-m", *CALLS[kind], *last, "web_app:app"]
        env = {**os.environ, "APP": app, "EVENTS": str(self.events), "PYTHONPATH": str(HERE)}
        quiet = subprocess.DEVNULL
        self.process = subprocess.Popen(argv, cwd=HERE, env=env, stdout=quiet, stderr=quiet, start_new_session=True)

    def until_up(self):
        until = time.monotonic() + LIMIT
        while True:
            try:
                socket.create_connection(("127.0.0.1", self.port), 1).close()
                return
            except OSError:
                assert self.process.poll() is None, "the server has ended"
                assert time.monotonic() < until
                time.sleep(0.02)

    def said(self):
        return self.events.read_text().splitlines()

    def until(self, *lines):
        """Wait until these have been written down, and forget all."""
        until = time.monotonic() + LIMIT
        while not set(lines) <= set(self.said()):
            assert time.monotonic() < until, (lines, self.said())
            time.sleep(0.005)

    def forget(self):
        self.events.write_text("")

    def request(self, method, path, body=b"", headers=()):
        """Send a request; what is returned is closed to leave."""
        one = socket.create_connection(("127.0.0.1", self.port), LIMIT)
        if not self.h2:
            lines = [f"{method} {path} HTTP/1.1", "Host: localhost", f"Content-Length: {len(body)}"]
            lines += [f"{name}: {value}" for name, value in headers]
            one.sendall("\r\n".join([*lines, "", ""]).encode() + body)
            return one
        client = h2.connection.H2Connection(h2.config.H2Configuration(client_side=True))
        client.initiate_connection()
        fields = [(":method", method), (":path", path), (":scheme", "http"), (":authority", "localhost"), *headers]
        client.send_headers(1, fields, end_stream=not body)
        if body:
            client.send_data(1, body, end_stream=True)
        one.sendall(client.data_to_send())
        return one

    def end(self):
        self.process.kill()
        subprocess.run(["pkill", "-KILL", "-s", str(self.process.pid)], check=False)
        self.process.wait()


@pytest.fixture
def serve(tmp_path):
    started = []

    def start(name, app):
        started.append(Server(name, app, tmp_path))
        started[-1].until_up()
        return started[-1]

    yield start
    for server in started:
        server.end()


def leave(server, method, path, begins, *said, body=b"", **options):
    one = server.request(method, path, body, **options)
    server.until(begins)
    one.close()
    server.until(*said)
    server.forget()


FASTAPI = [
    ("uvicorn-h11", "behind"),
    ("uvicorn-httptools", "plain"),
    ("hypercorn", "behind"),
    ("hypercorn-h2", "plain"),
    ("granian", "behind"),
    ("granian-h2", "plain"),
]


@pytest.mark.parametrize(("name", "app"), FASTAPI)
def test_fastapi(serve, name, app):
    server = serve(name, app)
    leave(server, "GET", "/wait/7", "wait began", "wait stopped disconnected GET /wait/{id}")
    leave(server, "GET", "/thread", "thread began", "thread stopped")
    cleaned = "resource cleaned", "async resource cleaned"
    leave(server, "GET", "/depends", "depends began", "depends stopped disconnected GET /depends", *cleaned)
    leave(
        server, "POST", "/body", "body began", "body of 1000", "body stopped disconnected POST /body", body=b"x" * 1000
    )
    leave(server, "POST", "/unread", "unread began", "unread stopped disconnected POST /unread", body=b"x" * 1000)
    leave(server, "GET", "/stream", "stream began", "stream stopped")
    if not server.h2:
        one = server.request("GET", "/background")
        assert one.recv(100).startswith(b"HTTP/1.1 200")
        one.close()
        server.until("background done")
        assert answer(server, "/boom").startswith("HTTP/1.1 418")
        assert answer(server, "/wait/1", ("Request-Timeout-Ms", "50")).startswith("HTTP/1.1 504")
        server.forget()
        client = websockets.sync.client.connect(f"ws://127.0.0.1:{server.port}/ws")
        server.until("ws began")
        client.socket.shutdown(socket.SHUT_RDWR)
        server.until("ws stopped disconnected WS /ws")


def answer(server, path, *headers):
    with server.request("GET", path, headers=headers) as one:
        return one.recv(1000).decode()


@pytest.mark.parametrize("name", ["uvicorn-httptools", "granian"])
def test_litestar(serve, name):
    server = serve(name, "litestar")
    leave(server, "GET", "/wait/7", "wait began", "wait stopped disconnected GET /wait/{id}")


def test_aiohttp():
    """By a middleware of its own, as the how-to page has it."""
    from aiohttp import web

    import calloff

    said = []

    @web.middleware
    async def stopping(request, handler):
        route = request.match_info.route.resource
        op = calloff.start(handler(request), name=f"{request.method} {route.canonical}", timeout=30)
        try:
            return await op
        finally:
            said.append((op.name, str(op.state)))

    began = asyncio.Event()

    async def wait(request):
        began.set()
        await asyncio.sleep(LIMIT)

    async def main():
        app = web.Application(middlewares=[stopping])
        app.router.add_get("/wait/{id}", wait)
        runner = web.AppRunner(app, handler_cancellation=True)
        await runner.setup()
        port = free_port()
        await web.TCPSite(runner, "127.0.0.1", port).start()
        _, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(b"GET /wait/7 HTTP/1.1\r\nHost: localhost\r\n\r\n")
        await began.wait()
        writer.close()
        async with asyncio.timeout(LIMIT):
            while not said:
                await asyncio.sleep(0.01)
        assert said == [("GET /wait/{id}", "cancelled")]
        await runner.cleanup()

    asyncio.run(main())


@pytest.mark.parametrize("base", [False, True], ids=["plain", "behind BaseHTTPMiddleware"])
def test_those_who_leave_leave_no_query(postgres, base):
    """Fifteen leave in the middle of a query, five at a time, with a pool of five."""
    import psycopg
    from fastapi import Depends, FastAPI
    from sqlalchemy import text
    from sqlalchemy.ext.asyncio import AsyncSession, async_sessionmaker, create_async_engine
    from starlette.middleware.base import BaseHTTPMiddleware

    import calloff
    from calloff.asgi import install, serving

    engine = create_async_engine(
        f"postgresql+asyncpg://calloff@127.0.0.1:{postgres.port}/postgres",
        pool_size=5,
        max_overflow=0,
        pool_timeout=LIMIT,
    )
    make, app = async_sessionmaker(engine), FastAPI()

    async def session():
        async with make() as one:
            yield one

    @app.get("/slow")
    async def slow(one: AsyncSession = Depends(session)):  # noqa: B008
        await one.execute(text("select /* left */ pg_sleep(3600)"))

    @app.get("/quick")
    async def quick(one: AsyncSession = Depends(session)):  # noqa: B008
        return (await one.execute(text("select 41 + 1"))).scalar()

    if base:

        class Base(BaseHTTPMiddleware):
            async def dispatch(self, request, call_next):
                return await call_next(request)

        app.add_middleware(Base)
    install(app)
    watching = psycopg.connect(f"host=127.0.0.1 port={postgres.port} user=calloff dbname=postgres", autocommit=True)

    def queries():
        found = (
            "select count(*) from pg_stat_activity where state = 'active' and query like %s and pid <> pg_backend_pid()"
        )
        return watching.execute(found, ("%/* left */%",)).fetchone()[0]

    async def until(number):
        async with asyncio.timeout(LIMIT):
            while queries() != number:
                await asyncio.sleep(0.02)

    async def main():
        async with serving(app, port=0, log_level="critical", drain=0) as server:
            for _ in range(3):
                writers = []
                for _ in range(5):
                    _, writer = await asyncio.open_connection("127.0.0.1", server.port)
                    writer.write(b"GET /slow HTTP/1.1\r\nHost: x\r\n\r\n")
                    writers.append(writer)
                await until(5)
                for writer in writers:
                    writer.close()
                await until(0)
            async with asyncio.timeout(LIMIT):
                while engine.pool.checkedout() or any(op.name == "GET /slow" for op in calloff.operations()):
                    await asyncio.sleep(0.01)
            reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
            writer.write(b"GET /quick HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
            assert (await reader.read()).endswith(b"42")
            writer.close()
        await engine.dispose()

    with watching:
        asyncio.run(main())


SHUTTING = HERE.parent / "asgi" / "shutting.py"


class Started:
    """A server with the application of tests/asgi/shutting.py; what that says is in `said`."""

    def __init__(self, argv, port, tmp_path):
        self.port, self.out = port, tmp_path / "out"
        with self.out.open("w") as out:
            self.process = subprocess.Popen(
                argv,
                cwd=SHUTTING.parent,
                env={**os.environ, "PYTHONUNBUFFERED": "1"},
                stdout=out,
                stderr=subprocess.DEVNULL,
            )

    def until(self, line):
        until = time.monotonic() + LIMIT
        while line not in self.out.read_text().splitlines():
            assert self.process.poll() is None
            assert time.monotonic() < until
            time.sleep(0.02)

    def open(self, path):
        until = time.monotonic() + LIMIT
        while True:
            try:
                one = socket.create_connection(("127.0.0.1", self.port), LIMIT)
                break
            except OSError:
                assert time.monotonic() < until
                time.sleep(0.05)
        one.sendall(f"GET {path} HTTP/1.1\r\nHost: localhost\r\n\r\n".encode())
        return one


@pytest.fixture
def start(tmp_path):
    started = []

    def run(argv, port):
        started.append(Started([sys.executable, "-m", "calloff", *argv], port, tmp_path))
        return started[-1]

    yield run
    for each in started:
        each.process.kill()
        each.process.wait()


def test_a_websocket_is_closed_with_1012_at_the_end(start):
    port = free_port()
    phases = ["--drain", "100ms", "--grace", "1s", "--closing", "5s"]
    server = start(["asgi", "shutting.py:app", "--port", str(port), *phases], port)
    server.open("/quick").close()
    client = websockets.sync.client.connect(f"ws://127.0.0.1:{port}/ws")
    server.until("open")
    server.process.terminate()
    with pytest.raises(websockets.exceptions.ConnectionClosed):
        while True:
            client.recv(LIMIT)
    assert client.close_code == 1012
    assert server.process.wait(LIMIT) == 143
    assert "shutdown done" in server.out.read_text().splitlines()


@pytest.mark.parametrize("kind", ["sse", "stubborn", "thread", "blocked"])
def test_those_who_keep_their_server_are_bounded_from_outside(start, kind):
    """As the how-to page says: `calloff run --grace` around uvicorn, which gets less."""
    port = free_port()
    mine = ["uvicorn", "shutting:app", "--port", str(port), "--log-level", "critical"]
    server = start(["run", "--grace", "2", "--", sys.executable, "-m", *mine, "--timeout-graceful-shutdown", "1"], port)
    with server.open(f"/{kind}"):
        server.until("open")
        server.process.terminate()
        assert server.process.wait(LIMIT) in (137, 143)
