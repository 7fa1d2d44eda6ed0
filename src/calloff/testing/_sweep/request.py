"""A request to an ASGI application as something to sweep: in process, without a server and without a client library.

The application's lifespan is started before each run and ended after it. In place of a cancel, the client may go away:
then `receive` says so, and it is the application's (or its middleware's) own doing what becomes of the request.
"""

import asyncio
import contextlib
from collections.abc import Awaitable, Callable, Iterable, Mapping
from typing import Any, NamedTuple
from urllib.parse import unquote

from .case import Function

__all__ = ["Client", "Request", "World"]

App = Callable[[Mapping[str, Any], Callable[[], Awaitable[Any]], Callable[[Any], Awaitable[None]]], Awaitable[None]]
_METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"})


class Request(NamedTuple):
    """What is asked for."""

    method: str
    path: str
    headers: tuple[tuple[bytes, bytes], ...] = ()
    body: bytes = b""

    @classmethod
    def read(cls, line: str, headers: Iterable[str] = (), body: str = "") -> "Request":
        """Read ``GET /items?page=2`` and headers as ``name: value``.

        Raises:
            ValueError: it is none of that.
        """
        method, _, path = line.strip().partition(" ")
        if method.upper() not in _METHODS or not path.strip().startswith("/"):
            raise ValueError(f"--request: a method and a path, as in 'GET /items', not {line!r}")
        pairs = [(b"host", b"localhost")]
        for header in headers:
            name, colon, value = header.partition(":")
            if not colon or not name.strip():
                raise ValueError(f"--header: 'name: value', not {header!r}")
            pairs.append((name.strip().lower().encode("latin-1"), value.strip().encode("latin-1")))
        if body:
            pairs.append((b"content-length", str(len(body.encode())).encode()))
        return cls(method.upper(), path.strip(), tuple(pairs), body.encode())

    def scope(self, state: dict[str, Any]) -> dict[str, Any]:
        """The scope of the ASGI specification."""
        path, _, query = self.path.partition("?")
        return {
            "type": "http",
            "asgi": {"version": "3.0", "spec_version": "2.3"},
            "http_version": "1.1",
            "method": self.method,
            "scheme": "http",
            "path": unquote(path),
            "raw_path": path.encode(),
            "query_string": query.encode(),
            "root_path": "",
            "headers": list(self.headers),
            "client": ("127.0.0.1", 50000),
            "server": ("localhost", 80),
            "state": dict(state),
        }


class World:
    """What one run needs: the application that was started, and what the user's own set-up made."""

    def __init__(self, app: App) -> None:
        self.given: tuple[Any, ...] = ()
        self.state: dict[str, Any] = {}
        self.gone = asyncio.Event()
        self._app = app
        self._started = asyncio.Event()
        self._stop = asyncio.Event()
        self._failed = ""
        self._lifespan: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Run the start of the lifespan.

        Raises:
            RuntimeError: the application said that it failed.
        """
        self._lifespan = asyncio.create_task(self._live())
        await self._started.wait()
        if self._failed:
            raise RuntimeError(f"the application did not start: {self._failed}")

    async def stop(self) -> None:
        """Run the end of the lifespan."""
        self._stop.set()
        if self._lifespan is not None:
            await self._lifespan

    async def _live(self) -> None:
        scope = {"type": "lifespan", "asgi": {"version": "3.0", "spec_version": "2.0"}, "state": self.state}
        told: list[str] = []

        async def receive() -> dict[str, Any]:
            if not told:
                told.append("startup")
                return {"type": "lifespan.startup"}
            await self._stop.wait()
            return {"type": "lifespan.shutdown"}

        async def send(message: Any) -> None:
            if message["type"] == "lifespan.startup.failed":
                self._failed = message.get("message") or "it does not say why"
            self._started.set()

        try:
            with contextlib.suppress(Exception):  # an application that has no lifespan says so by an exception
                await self._app(scope, receive, send)
        finally:
            self._started.set()


class Client:
    """Sends one request to an application, as the functions of a case.

    Args:
        app: the ASGI application.
        request: what is asked for.
        setup, check, teardown: the user's own functions.
    """

    def __init__(
        self,
        app: App,
        request: Request,
        setup: Function | None = None,
        check: Function | None = None,
        teardown: Function | None = None,
    ) -> None:
        self._app = app
        self._request = request
        self._setup = setup
        self._check = check
        self._teardown = teardown

    async def setup(self) -> World:
        """Make the user's world, and start the application in it."""
        world = World(self._app)
        if self._setup is not None:
            world.given = (await self._setup(),)
        await world.start()
        return world

    async def check(self, world: World) -> Any:
        """Ask the user's check."""
        return True if self._check is None else await self._check(*world.given)

    async def teardown(self, world: World) -> None:
        """End the application, then the user's world."""
        await world.stop()
        if self._teardown is not None:
            await self._teardown(*world.given)

    async def send(self, world: World) -> str:
        """Send the request; the status and the body."""
        world.gone.clear()
        bodies = [self._request.body]
        status, answer, ended = 0, bytearray(), asyncio.Event()

        async def receive() -> dict[str, Any]:
            if bodies:
                return {"type": "http.request", "body": bodies.pop(), "more_body": False}
            waits = [asyncio.ensure_future(event.wait()) for event in (world.gone, ended)]
            try:
                await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
            finally:
                for wait in waits:
                    wait.cancel()
            return {"type": "http.disconnect"}

        async def send(message: Any) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
            elif message["type"] == "http.response.body":
                answer.extend(message.get("body", b""))
                if not message.get("more_body", False):
                    ended.set()

        await self._app(self._request.scope(world.state), receive, send)
        return f"{status} {bytes(answer[:400])!r}"

    @staticmethod
    def hang_up(world: World) -> None:
        """The client goes away."""
        world.gone.set()
