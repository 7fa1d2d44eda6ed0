"""`serve`: whatever is open, the end comes, in order; and the application's shutdown has run."""

import asyncio
import http.client
import importlib.util
import os
import re
import signal
import socket
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from asgi import shutting
from places.process_table import wait_until_it_waits

import calloff
from calloff.asgi import serve, serving

HERE = Path(__file__).parent
#: seconds: far beyond every bound, and far below what the handlers wait
LIMIT = 60


class Program:
    """A server in a process of its own."""

    def __init__(self, *phases, argv=None, lifespan=""):
        argv = argv or [sys.executable, str(HERE / "shutting.py"), *map(str, phases)]
        env = {**os.environ, "PYTHONUNBUFFERED": "1", "LIFESPAN": lifespan}
        self.process = subprocess.Popen(argv, env=env, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        self.out, self.err = list[Any](), list[Any]()
        self.connections = []
        self.changed = threading.Condition()
        self._readers = [
            threading.Thread(target=self._read, args=(self.process.stdout, self.out)),
            threading.Thread(target=self._read, args=(self.process.stderr, self.err)),
        ]
        for reader in self._readers:
            reader.start()

    def _read(self, pipe, lines):
        for line in pipe:
            with self.changed:
                lines.append(line.rstrip("\n"))
                self.changed.notify_all()

    def until(self, condition):
        with self.changed:
            assert self.changed.wait_for(condition, LIMIT), (self.out, self.err)

    @property
    def port(self):
        found: list[Any] = []

        def look():
            found[:] = re.findall(r"Serving on http://[\w.]+:(\d+)", "\n".join(self.err))
            return found

        self.until(look)
        return int(found[0])

    def open(self, path):
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=LIMIT)
        self.connections.append(connection)
        connection.request("GET", path)
        return connection

    def get(self, path):
        """The status, the body, and what is said about the connection."""
        answer = self.open(path).getresponse()
        return answer.status, answer.read(), answer.headers["connection"]

    def kill(self, number=signal.SIGTERM):
        self.process.send_signal(number)

    def heard(self, number=signal.SIGTERM):
        """Wait until the process has taken that signal from the kernel."""
        deadline = time.monotonic() + LIMIT
        bit = 1 << (number - 1)
        while any(int(word, 16) & bit for word in re.findall(r"(?:ShdPnd|SigPnd):\t(\w+)", self._facts())):
            assert time.monotonic() < deadline
            time.sleep(0.01)

    def _facts(self):
        return Path(f"/proc/{self.process.pid}/status").read_text()

    def end(self):
        status = self.process.wait(LIMIT)
        for reader in self._readers:
            reader.join(LIMIT)
        return status

    def close(self):
        self.process.kill()
        self.end()
        for connection in self.connections:
            connection.close()
        self.process.stdout.close()
        self.process.stderr.close()


@pytest.fixture
def program():
    running = []

    def run(*phases, **options):
        running.append(Program(*phases, **options))
        return running[-1]

    yield run
    for each in running:
        each.close()


@pytest.mark.parametrize(
    ("kind", "status"),
    [
        ("idle", None),
        ("short", 200),
        ("slow", 503),
        ("stubborn", 503),
        ("blocked", 503),
        ("thread", 503),
        ("sse", 200),
    ],
)
def test_the_end_comes_whatever_is_open(program, kind, status):
    server = program(0, 5 if kind == "short" else 0.2, 0.2, 5)
    if kind == "idle":
        assert server.get("/quick")[0] == 200  # whose connection is kept
    else:
        connection = server.open(f"/{kind}")
        server.until(lambda: "open" in server.out)
    server.kill()
    assert server.end() == 143
    assert server.out[-3:] == ["shutdown began", "shutdown done", "after"]
    assert ("short ended well" in server.out) is (kind == "short")
    if status is not None:
        answer = connection.getresponse()
        assert answer.status == status
        if status == 503:
            assert answer.headers["retry-after"] == "1"
            assert answer.headers["content-type"] == "application/problem+json"
    assert "Traceback" not in "\n".join(server.err)


def test_at_the_first_signal_it_is_not_ready_and_at_the_second_the_phase_is_over(program):
    server = program(3600, 0.2, 0.2, 5)
    assert server.get("/readyz") == (200, b"ready\n", None)
    server.kill()
    while (told := server.get("/readyz"))[0] == 200:
        pass
    assert told == (503, b"leaving\n", None)
    assert server.get("/quick") == (200, b"quick", "close")  # whoever has not heard of it yet
    server.kill()
    assert server.end() == 143
    assert "shutdown done" in server.out


def test_a_second_signal_ends_the_drain(program):
    server = program(0, 3600, 0.2, 5)
    connection = server.open("/slow")
    server.until(lambda: "open" in server.out)
    server.kill()
    server.until(lambda: any("Shutting down" in line for line in server.err))
    server.kill()
    assert server.end() == 143
    assert connection.getresponse().status == 503
    assert "shutdown done" in server.out


def test_a_second_signal_is_heard_while_the_loop_is_blocked(program):
    server = program(0, 3600, 0.2, 5)
    connection = server.open("/blocked")
    server.until(lambda: "open" in server.out)
    server.kill()
    server.heard()
    wait_until_it_waits(server.process.pid)  # the handler has run: of two signals before that there would be one call
    server.kill()
    assert server.end() == 143
    assert connection.getresponse().status == 503


@pytest.mark.parametrize("how", ["never down", "blocked"])
def test_a_shutdown_of_the_application_that_hangs_is_bounded(program, how):
    server = program(0, 0.2, 0.2, 3, lifespan=how)
    assert server.port
    server.kill()
    assert server.end() == 143
    assert server.out == ["shutdown began", "after"]


def test_a_start_that_hangs_is_called_off(program):
    server = program(0, 0.2, 0.2, 0.2, lifespan="never up")
    server.until(lambda: "starting" in server.out)
    server.kill()
    assert server.end() == 143


def test_an_application_that_does_not_start(program):
    server = program(0, 0, 0, 0, lifespan="refuses")
    assert server.end() == 1
    assert "calloff.CalloffError: the server did not start: the application's lifespan startup failed" in server.err


def test_ctrl_c(program):
    server = program(0, 0.2, 0.2, 5)
    assert server.port
    server.kill(signal.SIGINT)
    assert server.end() == -signal.SIGINT
    assert server.out == ["shutdown began", "shutdown done", "after"]


# --- inside of a program


def get(url, path):
    connection = http.client.HTTPConnection(url.removeprefix("http://"), timeout=LIMIT)
    try:
        connection.request("GET", path)
        answer = connection.getresponse()
        return answer.status, answer.read()
    finally:
        connection.close()


async def plain(scope, receive, send):
    """An application that is none of Starlette's, and has no lifespan."""
    assert scope["type"] == "http"
    if scope["path"] == "/slow":
        await asyncio.sleep(3600)
    body = calloff.current().name.encode()
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"%d" % len(body))]})
    await send({"type": "http.response.body", "body": body})


OPTIONS: dict[str, Any] = {"port": 0, "log_level": "critical", "drain": 0.1, "grace": 0.1}


def test_inside_of_a_program():
    async def main():
        async with serving(plain, **OPTIONS) as server:
            assert server.phase == "up"
            assert await asyncio.to_thread(get, server.url, "/x") == (200, b"GET /x")
            assert await asyncio.to_thread(get, server.url, "/readyz") == (200, b"ready\n")
            slow = asyncio.create_task(asyncio.to_thread(get, server.url, "/slow"))
            while not any(op.name == "GET /slow" for op in calloff.operations()):
                await asyncio.sleep(0.01)
        assert (await slow)[0] == 503
        assert server.phase == "over"
        assert [op for op in calloff.operations() if op.name != "main"] == []

    asyncio.run(main())


def test_a_program_that_is_stopped_takes_its_server_with_it():
    with ThreadPoolExecutor(1) as pool:
        answers = []

        async def program():
            async with serving(plain, **OPTIONS) as server:
                answers.append(pool.submit(get, server.url, "/slow"))
                await asyncio.sleep(3600)

        async def main():
            op = calloff.start(program, grace=30)
            while not any(each.name == "GET /slow" for each in calloff.operations()):
                await asyncio.sleep(0.01)
            assert isinstance(await op.stop(), calloff.Cancelled)

        asyncio.run(main())
        assert answers[0].result(LIMIT)[0] == 503


def test_an_application_with_the_middleware_gets_no_second_one():
    from starlette.applications import Starlette

    for make, expected in (
        (lambda: Starlette(), 1),
        (lambda: calloff.asgi.Middleware(plain), 0),
    ):
        app = make()
        from calloff.asgi._serve import _Made
        from calloff.asgi._server import Phases

        made = _Made(app, "127.0.0.1", 0, 3, None, Phases(0, 0, 0, 0), {})
        assert made.front.app is app
        assert len(getattr(app, "user_middleware", ())) == expected


def test_a_port_that_is_taken():
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]

        async def main():
            async with serving(plain, port=port):
                pass

        with pytest.raises(OSError, match=f"can't listen on 127.0.0.1, port {port}: "):
            asyncio.run(main())


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"drain": -1}, "drain"),
        ({"leave": float("nan")}, "leave"),
        ({"timeout": -1}, "timeout"),
        ({"workers": 4}, "one process, so it has no 'workers'"),
        ({"reload": True}, "'reload'"),
        ({"ready": "readyz"}, 'ready must be a path such as "/readyz"'),
    ],
    ids=str,
)
def test_bad_options_are_told(options, says):
    with pytest.raises(ValueError, match=says):
        serve(plain, **options)


# --- the command line


def test_the_verb(program):
    argv = [sys.executable, "-m", "calloff", "asgi", "--port", "0", "--drain", "100ms", "--grace", "100ms"]
    server = program(argv=[*argv, f"{HERE / 'shutting.py'}:app"])
    connection = server.open("/slow")
    server.until(lambda: "open" in server.out)
    server.kill()
    assert server.end() == 143
    assert connection.getresponse().status == 503
    assert server.out[-1] == "shutdown done"


@pytest.mark.parametrize(
    ("words", "status", "says"),
    [
        (["no_such_module:app"], 127, "calloff asgi: there is no module 'no_such_module'"),
        (["json:app"], 127, "'json' has no function 'app'"),
        (["json:loads", "--port", "x"], 2, "must be a number from 0 to 65535, not 'x'"),
        (["json:loads", "--drain", "soon"], 2, "--drain must be a duration"),
        (["json:loads", "--ready", "x"], 2, "ready must be a path"),
        (["json:loads", "--host", "no.such.host.invalid", "--log-level", "critical"], 125, "calloff asgi: "),
        ([], 2, "MODULE:APP"),
    ],
    ids=str,
)
def test_the_verb_refuses(words, status, says):
    done = subprocess.run(
        [sys.executable, "-m", "calloff", "asgi", *words], capture_output=True, text=True, timeout=LIMIT
    )
    assert done.returncode == status, done.stderr
    assert says in done.stderr
    assert "Traceback" not in done.stderr


def test_shutting_is_an_application():
    assert shutting.app.routes


def test_a_uvicorn_that_does_not_fit_is_refused(monkeypatch):
    monkeypatch.delattr("uvicorn.Server.capture_signals")
    spec = importlib.util.find_spec("calloff.asgi._server")
    assert spec is not None
    assert spec.loader is not None
    with pytest.raises(
        ImportError, match=r"drives uvicorn 0.34 and later, and this is .*, whose Server has no capture_"
    ):
        spec.loader.exec_module(importlib.util.module_from_spec(spec))
