"""A server of the page on a real socket, in a thread of its own."""

import asyncio
import http.client
import json
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractAsyncContextManager, contextmanager
from dataclasses import dataclass
from typing import Any

from calloff.web._server import bind, make_server
from calloff.web._source import Source

TOKEN = "a-token-for-tests-only"


@dataclass
class Served:
    """Where it listens, and how to speak to it."""

    port: int
    _page: Any = None

    def until_nobody_looks(self) -> None:
        """The server hears of a stream that was closed in a thread of its own."""
        end = time.monotonic() + 20
        while self._page._streams:
            assert time.monotonic() < end, "a stream is still open"
            time.sleep(0.002)

    @property
    def link(self) -> str:
        return f"http://127.0.0.1:{self.port}/#token={TOKEN}"

    def ask(
        self, path: str, *, method: str = "GET", token: str | None = TOKEN, body: Any = None, **headers: str
    ) -> tuple[int, str, dict[str, str]]:
        """One request; status, text and headers of the answer. Underscores in `headers` are hyphens."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=20)
        try:
            self.send(connection, path, method=method, token=token, body=body, **headers)
            answer = connection.getresponse()
            answered = {name.lower(): value for name, value in answer.getheaders()}
            endless = answered.get("content-type", "").startswith("text/event-stream")
            return answer.status, (answer.readline() if endless else answer.read()).decode(), answered
        finally:
            connection.close()

    def send(
        self,
        connection: http.client.HTTPConnection,
        path: str,
        *,
        method: str = "GET",
        token: str | None = TOKEN,
        body: Any = None,
        **headers: str,
    ) -> None:
        sent = {name.replace("_", "-"): value for name, value in headers.items()}
        if token is not None:
            sent.setdefault("Authorization", f"Bearer {token}")
        if body is not None and not isinstance(body, bytes):
            body = json.dumps(body).encode()
            sent.setdefault("Content-Type", "application/json")
        connection.request(method, path, body=body, headers=sent)

    @contextmanager
    def stream(self, parameters: str = "") -> Iterator[Iterator[tuple[str, Any]]]:
        """The live stream as pairs of event and data."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=20)
        try:
            self.send(connection, f"/api/events?{parameters}")
            answer = connection.getresponse()
            assert (answer.status, answer.getheader("content-type")) == (200, "text/event-stream; charset=utf-8")
            yield _events(answer)
        finally:
            connection.close()


def _events(answer: http.client.HTTPResponse) -> Iterator[tuple[str, Any]]:
    event = ""
    for line in iter(answer.readline, b""):
        name, _, value = line.decode().strip().partition(": ")
        if name == "event":
            event = value
        elif name == "data":
            yield event, json.loads(value)


@contextmanager
def served(
    connect: Callable[[], AbstractAsyncContextManager[Source]], *, hosts: tuple[str, ...] = ()
) -> Iterator[Served]:
    """Serves until the block is left; then nothing of it is left either."""
    bound, started = bind("127.0.0.1", 0), threading.Event()
    server = make_server(connect, token=TOKEN, hosts=hosts, started=started.set)
    thread = threading.Thread(target=lambda: asyncio.run(server.serve([bound])), name="serving")
    thread.start()
    try:
        assert started.wait(20)
        app: Any = server.config.app
        (page,) = (route.endpoint.__self__ for route in app.routes if route.path == "/api/events")
        yield Served(bound.getsockname()[1], page)
    finally:
        server.should_exit = True
        thread.join(20)
        assert not thread.is_alive()
