"""What a request costs more when it is an operation, beside other ways to end the handler of a client that has left.

In process: the CPU of one request of Starlette without a socket, where the server's side behaves as uvicorn's does. End
to end: the CPU that uvicorn (httptools, uvloop) spends on a request, as the kernel counts it, while a client with 32
connections asks as fast as it can. All take turns, round by round.
"""

import asyncio
import gc
import os
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Awaitable, Callable
from importlib.util import find_spec
from typing import Any

from ._rows import AtMost, Below, Figure, Row

EXTRA = 30e-6
CONNECTIONS = 32
REQUEST = b"GET /quick HTTP/1.1\r\nHost: localhost\r\n\r\n"
App = Callable[[Any, Any, Any], Awaitable[None]]


def plain() -> App:
    from starlette.applications import Starlette
    from starlette.responses import PlainTextResponse
    from starlette.routing import Route

    async def quick(request: Any) -> Any:
        return PlainTextResponse("ok")

    return Starlette(routes=[Route("/quick", quick)])


def ours() -> App:
    from calloff.asgi import Middleware

    return Middleware(plain())


def ours_limited() -> App:
    from calloff.asgi import Middleware

    return Middleware(plain(), timeout=30)


def base() -> App:
    from starlette.middleware.base import BaseHTTPMiddleware

    class Base(BaseHTTPMiddleware):
        async def dispatch(self, request: Any, call_next: Any) -> Any:
            return await call_next(request)

    return Base(plain())


def fastapi_disconnect() -> App:
    from fastapi_disconnect import CancelOnDisconnectMiddleware

    app: App = CancelOnDisconnectMiddleware(plain())
    return app


def aiofence() -> App:
    from aiofence.contrib.starlette import DisconnectMiddleware

    app: App = DisconnectMiddleware(plain())
    return app


MAKERS = {
    "Starlette": plain,
    "Middleware": ours,
    "Middleware(timeout=30)": ours_limited,
    "BaseHTTPMiddleware": base,
}
PEERS: dict[str, AtMost | Below | None] = {"BaseHTTPMiddleware": Below()}
for _name, _make in {"fastapi-disconnect": fastapi_disconnect, "aiofence": aiofence}.items():
    if find_spec(_name.replace("-", "_")):  # they have releases for newer Pythons only
        MAKERS[_name], PEERS[_name] = _make, None


def run(quick: bool) -> list[Row]:
    """Both measurements."""
    inside = asyncio.run(_inside(5 if quick else 15, 1000 if quick else 3000))
    outside = _outside(3 if quick else 6, 1500 if quick else 6000)
    extra = Figure(tuple(a - b for a, b in zip(inside["Middleware"].samples, inside["Starlette"].samples, strict=True)))
    limited = inside["Middleware(timeout=30)"].samples
    extra_limited = Figure(tuple(a - b for a, b in zip(limited, inside["Starlette"].samples, strict=True)))
    rows = [
        Row("a request: what Middleware adds", "s", extra, goal=AtMost(EXTRA)),
        Row("a request: what Middleware(timeout=30) adds", "s", extra_limited, goal=AtMost(EXTRA)),
    ]
    for peer, goal in PEERS.items():
        rows.append(Row("a request under Middleware", "s", inside["Middleware"], peer, inside[peer], goal))
    for peer, goal in {"Starlette": AtMost(1.5), **PEERS}.items():
        rows.append(Row("a request, end to end", "s", outside["Middleware"], peer, outside[peer], goal))
    return rows


# --- in process


class _Cycle:
    """The server's side of one request."""

    def __init__(self) -> None:
        self.event, self.complete = asyncio.Event(), False
        self.event.set()

    async def receive(self) -> dict[str, Any]:
        if not self.complete:
            await self.event.wait()
            self.event.clear()
        if self.complete:
            return {"type": "http.disconnect"}
        return {"type": "http.request", "body": b"", "more_body": False}

    async def send(self, message: dict[str, Any]) -> None:
        if message["type"] == "http.response.body" and not message.get("more_body"):
            self.complete = True
            self.event.set()


_HEADERS = [(b"host", b"x"), (b"user-agent", b"x"), (b"accept", b"*/*"), (b"accept-encoding", b"gzip"), (b"x-id", b"1")]


async def _one(app: App) -> None:
    scope = {
        "type": "http",
        "asgi": {"version": "3.0", "spec_version": "2.3"},
        "http_version": "1.1",
        "method": "GET",
        "path": "/quick",
        "raw_path": b"/quick",
        "query_string": b"",
        "headers": _HEADERS,
        "scheme": "http",
        "client": ("127.0.0.1", 1),
        "server": ("127.0.0.1", 80),
        "root_path": "",
    }
    cycle = _Cycle()
    await app(scope, cycle.receive, cycle.send)
    assert cycle.complete


async def _load(app: App, count: int) -> float:
    loop = asyncio.get_running_loop()
    gc.collect()
    began = time.process_time()
    for _ in range(count // 10):
        await asyncio.gather(*[loop.create_task(_one(app)) for _ in range(10)])
    return (time.process_time() - began) / count


async def _inside(rounds: int, count: int) -> dict[str, Figure]:
    apps = {name: make() for name, make in MAKERS.items()}
    samples: dict[str, list[float]] = {name: [] for name in apps}
    for app in apps.values():
        await _load(app, 200)
    names = list(apps)
    for number in range(rounds):
        turn = number % len(names)
        for name in names[turn:] + names[:turn]:
            samples[name].append(await _load(apps[name], count))
    return {name: Figure(tuple(each)) for name, each in samples.items()}


# --- end to end


def serve(name: str, port: int) -> None:
    """A server of its own, in this process."""
    import uvicorn

    uvicorn.run(MAKERS[name](), port=port, log_level="critical", access_log=False, lifespan="off")


def _outside(rounds: int, count: int) -> dict[str, Figure]:
    names = ["Starlette", "Middleware", *PEERS]
    servers: dict[str, tuple[int, subprocess.Popen[bytes]]] = {}
    try:
        for name in names:
            with socket.create_server(("127.0.0.1", 0)) as free:
                port = int(free.getsockname()[1])
            code = f"from benchmarks.serving import serve; serve({name!r}, {port})"
            servers[name] = port, subprocess.Popen([sys.executable, "-c", code])
        for port, _ in servers.values():
            _until_up(port)
        samples: dict[str, list[float]] = {name: [] for name in names}
        for number in range(rounds + 1):
            turn = number % len(names)
            for name in names[turn:] + names[:turn]:
                port, process = servers[name]
                before = _cpu(process.pid)
                _ask(port, count)
                if number:  # the first round warms up
                    samples[name].append((_cpu(process.pid) - before) / count)
    finally:
        for _, process in servers.values():
            process.kill()
            process.wait()
    return {name: Figure(tuple(each)) for name, each in samples.items()}


def _until_up(port: int) -> None:
    until = time.monotonic() + 60
    while True:
        try:
            socket.create_connection(("127.0.0.1", port), 1).close()
            return
        except OSError:
            if time.monotonic() > until:
                raise
            time.sleep(0.05)


def _cpu(pid: int) -> float:
    """Seconds of CPU that a process has used, finer than the ticks of /proc/PID/stat."""
    with open(f"/proc/{pid}/schedstat") as file:
        return int(file.read().split()[0]) / 1e9


def _ask(port: int, count: int) -> None:
    """That many requests by as many connections as there are, one after another on each."""

    def one() -> None:
        with socket.create_connection(("127.0.0.1", port), 60) as connection:
            for _ in range(count // CONNECTIONS):
                connection.sendall(REQUEST)
                got = b""
                while not got.endswith(b"\r\n\r\nok"):
                    part = connection.recv(4096)
                    if not part:
                        raise ConnectionError(f"the server has closed the connection: {got!r}")
                    got += part

    threads = [threading.Thread(target=one) for _ in range(CONNECTIONS)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


if __name__ == "__main__":
    from ._rows import as_table

    print(as_table(run(quick=os.environ.get("QUICK") == "1")))
