"""uvicorn, with an end whose every phase is bounded.

    ask       the first signal: not ready any more; new requests are still served for `leave` seconds, since whoever sends
              them hears of it late
    draining  the listeners are closed, what is in flight goes on, at most `drain` seconds
    stopping  what is left is stopped, request by request, as operations: `grace` seconds and one more
    closing   the application's lifespan shutdown, at most `closing` seconds
    over      connections that are still there are cut

uvicorn's own shutdown waits for connections and tasks without limit, or cancels their tasks once. Here nothing is waited
for longer than the phase has, and the application's code is always inside of an operation: a request has its own (the
middleware sees to it), and so has the lifespan. The loop may be blocked by some of it: `ends_since` and `ends_at` say from
which point on whatever blocks is interrupted (`calloff.run` looks at them), also while no line of this module can run.
"""

import asyncio
import logging
import socket
import sys
from asyncio import CancelledError
from collections.abc import Generator
from contextlib import contextmanager, suppress
from math import inf
from typing import Any, NamedTuple, TypeVar

try:
    import uvicorn
except ModuleNotFoundError as _missing:
    raise ModuleNotFoundError(
        "calloff.asgi.serve needs uvicorn, which is not installed: pip install 'calloff[serve]'", name=_missing.name
    ) from _missing

if _missing_parts := [name for name in ("_serve", "capture_signals", "startup") if not hasattr(uvicorn.Server, name)]:
    raise ImportError(
        f"calloff.asgi.serve drives uvicorn 0.34 and later, and this is {uvicorn.__version__}, whose Server has no "
        f"{' and no '.join(_missing_parts)}: pip install 'calloff[serve]'",
        name="uvicorn",
    )

from .._api.notify import running
from .._api.start import start
from .._operation.operation import Operation
from .._scopes.shield import shield
from .._scopes.timers import NEVER, Entry, timers_of
from .._words.errors import CalloffError
from .._words.reason import Kind
from ._channel import Message, Receive, Scope, Send
from ._count import requests
from ._middleware import BrokenOff

__all__ = ["Front", "Phases", "UvicornServer", "configure", "listen"]

T = TypeVar("T")
_logger = logging.getLogger("uvicorn.error")
_SHUTDOWN = "the server is shutting down"
#: seconds, of every phase: beyond them something is broken
_LAST, _ANSWERS = 1.0, 0.5
_MARK = "calloff.server"


class _Alarm:
    """A point at which the loop has something to do: one that is blocked then is looked at (the `Entry` protocol)."""

    def __init__(self) -> None:
        self.timer_at: float = NEVER
        self.timer_bucket: dict[Entry, None] | None = None

    def timer_due(self, now: float, /) -> None:
        """Nothing: the loop is not blocked."""


class Phases(NamedTuple):
    """How long each phase of the end takes at most, in seconds."""

    leave: float
    drain: float
    grace: float
    closing: float

    @property
    def bound(self) -> float:
        """All of them, with what force takes."""
        return self.leave + self.drain + self.grace + self.closing + 2 * (_LAST + _ANSWERS)


class Front:
    """The outermost part of the application: says whether it is ready, and makes an operation of the lifespan."""

    def __init__(self, app: Any, ready: str | None) -> None:
        self.app: Any = app
        self.ready: str | None = ready
        self.phase: str = "starting"
        self.lifespan: Operation[None] | None = None

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one connection, or the lifespan."""
        kind = scope["type"]
        if kind == "lifespan":
            work: Any = self.app(scope, receive, send)
            self.lifespan = op = start(work, name="lifespan", detached=True)
            await op
            return
        if kind == "http" and scope["path"] == self.ready:
            await self._tell(send)
            return
        scope[_MARK] = self
        if self.phase != "up" and kind == "http" and scope["http_version"].startswith("1"):
            send = _closing(send)
        try:
            await self.app(scope, receive, send)
        except BrokenOff:  # uvicorn closes the connection of what has not completed its response, and says so in a line
            pass

    async def _tell(self, send: Send) -> None:
        status, body = (200, b"ready\n") if self.phase == "up" else (503, f"{self.phase}\n".encode())
        headers = [
            (b"content-type", b"text/plain"),
            (b"content-length", b"%d" % len(body)),
            (b"cache-control", b"no-store"),
        ]
        await send({"type": "http.response.start", "status": status, "headers": headers})
        await send({"type": "http.response.body", "body": body})

    def open_requests(self) -> list[Operation[Any]]:
        """The operations of what this server serves."""
        return [op for op, channel in requests.items() if channel.scope.get(_MARK) is self and not op.done()]


def _closing(send: Send) -> Send:
    """Clients that keep their connection are told to take another one."""

    async def close(message: Message) -> None:
        if message["type"] == "http.response.start":
            message["headers"] = [*message.get("headers", ()), (b"connection", b"close")]
        await send(message)

    return close


class UvicornServer(uvicorn.Server):
    """One server, from its start to its end.

    Attributes:
        ends_since: the point on the loop's clock from which on what blocks the loop is asked to end.
        ends_at: the point at which it is forced.
    """

    def __init__(
        self, config: uvicorn.Config, front: Front, phases: Phases, sockets: list[socket.socket] | None
    ) -> None:
        super().__init__(config)
        self.front: Front = front
        self.phases: Phases = phases
        self.sockets: list[socket.socket] | None = sockets
        self.ends_since: float = inf
        self.ends_at: float = inf
        self.up: asyncio.Event = asyncio.Event()
        self._alarm = _Alarm()
        self._asked = 0
        self._hurry: asyncio.Future[None] | None = None
        self._down = False

    # --- the life of it

    async def live(self) -> None:
        """Serve until somebody asks for the end, or this task is cancelled; the end is in order in both cases."""
        try:
            await self._serve(self.sockets)
            if self.started:  # older ones leave a server alone that was asked to end while it started
                await self.shutdown(self.sockets)
        except CancelledError:
            if self.started and not self._down:
                self.ask()
                await shield(self.shutdown(self.sockets))
            raise
        finally:
            self.front.phase = "over"
            timers_of(asyncio.get_running_loop()).remove(self._alarm)
            for bound in self.sockets or ():
                bound.close()

    @contextmanager
    def capture_signals(self) -> Generator[None]:
        """Leave the signals alone: they are the program's."""
        yield

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Start the application, and listen."""
        with suppress(SystemExit):  # by which newer ones say that they can't; older ones return
            await super().startup(sockets)
        if not self.started:
            if not self._asked:
                raise CalloffError("the server did not start: the application's lifespan startup failed")
            return
        if not self._asked:
            self.front.phase = "up"
            if (notifier := running.get(asyncio.get_running_loop())) is not None:
                notifier.ready()
        self.up.set()
        if sockets is not None:  # in which case uvicorn leaves that to others
            _logger.info("Serving on %s (SIGTERM or Ctrl-C ends it)", self.url)

    @property
    def port(self) -> int:
        """The port; 0 where a socket has none."""
        names = [bound.getsockname() for server in self.servers for bound in server.sockets]
        return next((int(name[1]) for name in names if isinstance(name, tuple)), 0)

    @property
    def url(self) -> str:
        """Where it is reached."""
        host = self.config.host
        return f"{'https' if self.config.is_ssl else 'http'}://{f'[{host}]' if ':' in host else host}:{self.port}"

    def ask(self) -> None:
        """Begin the end; the second time, and each further one, the present phase is over at once."""
        loop = asyncio.get_running_loop()
        now = loop.time()
        self._asked += 1
        if self._asked == 1:
            self.front.phase = "leaving"
            if (notifier := running.get(loop)) is not None:
                notifier.stopping(self.phases.bound)
            self._blocking_until(now + self.phases.leave + self.phases.drain, self.phases.grace)
            if not self.started:
                self._stop(self.front.lifespan, self.phases.closing)
            if self.phases.leave and self.started:
                loop.call_later(self.phases.leave, self._leave)
                return
        else:
            self._blocking_until(now, self.phases.grace)
            if self._hurry is not None and not self._hurry.done():
                self._hurry.set_result(None)
        self._leave()

    def _leave(self) -> None:
        self.should_exit = True

    def _blocking_until(self, since: float, grace: float) -> None:
        self.ends_since, self.ends_at = since, since + grace
        timers = timers_of(asyncio.get_running_loop())
        timers.remove(self._alarm)
        timers.add(self._alarm, since)

    # --- the phases

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Go through the phases of the end."""
        if self._down:
            return
        self._down = True
        loop = asyncio.get_running_loop()
        _logger.info("Shutting down")
        self.front.phase = "draining"
        drain, grace = self.phases.drain, self.phases.grace
        self._blocking_until(loop.time() + drain, grace)
        for server in self.servers:
            server.close()
        for bound in sockets or ():
            bound.close()
        for connection in list(self.server_state.connections):
            if hasattr(connection, "cycle"):  # websockets are closed when their time has come
                connection.shutdown()
        await self._quiet(loop.time() + drain)
        self.front.phase = "stopping"
        await self._stop_requests()
        self.front.phase = "closing"
        await self._close()
        for connection in list(self.server_state.connections):
            transport: Any = getattr(connection, "transport", None)
            if transport is not None:
                transport.abort()

    async def _quiet(self, until: float) -> bool:
        """Wait until nothing is in flight; at most until that point, or until somebody is in a hurry."""
        loop = asyncio.get_running_loop()
        self._hurry = hurry = loop.create_future()
        while True:
            tasks = [task for task in self.server_state.tasks if not task.done()]
            left = until - loop.time()
            if not tasks or left <= 0 or hurry.done():
                return not tasks
            together = asyncio.ensure_future(asyncio.wait(tasks))
            try:
                await asyncio.wait((together, hurry), timeout=left, return_when=asyncio.FIRST_COMPLETED)
            finally:
                together.cancel()

    async def _stop_requests(self) -> None:
        """Stop what is in flight: as operations, and what is not in any, or is not gone with its own, as tasks."""
        loop = asyncio.get_running_loop()
        force_at = loop.time() + self.phases.grace
        self._blocking_until(loop.time(), self.phases.grace)
        last = force_at + _LAST + _ANSWERS
        while loop.time() < last:
            for op in self.front.open_requests():
                self._stop(op, max(0.0, force_at - loop.time()))
            slice_ends = min(last, loop.time() + 0.1)  # a connection that was kept alive may have sent another one
            if await self._quiet(slice_ends):
                break
            if self._hurry is not None and self._hurry.done():
                force_at = min(force_at, loop.time())
                last = min(last, force_at + _LAST + _ANSWERS)
        for connection in list(self.server_state.connections):
            connection.shutdown()
        rest = [task for task in self.server_state.tasks if not task.done()]
        for task in rest:
            task.cancel(_SHUTDOWN)
        if rest:
            await asyncio.wait(rest, timeout=_ANSWERS)

    def _stop(self, op: Operation[Any] | None, grace: float) -> None:
        if op is not None and not op.done():
            op.request(Kind.SHUTDOWN, _SHUTDOWN, None, min(op._grace, grace))

    async def _close(self) -> None:
        """Have the application shut down, and the last answers sent."""
        loop = asyncio.get_running_loop()
        until = loop.time() + self.phases.closing
        self._blocking_until(until, 0.0)
        self._hurry = hurry = loop.create_future()
        closing = asyncio.ensure_future(self.lifespan.shutdown())
        try:
            await asyncio.wait((closing, hurry), timeout=self.phases.closing, return_when=asyncio.FIRST_COMPLETED)
            lifespan = self.front.lifespan
            if not closing.done() and lifespan is not None:
                _logger.error("The application's shutdown did not end in time")
                self._stop(lifespan, 0.0)
                await asyncio.wait((lifespan.completion(),), timeout=_LAST + _ANSWERS)
            elif lifespan is not None and not lifespan.done():  # it has said that it is done, and returns
                await asyncio.wait((lifespan.completion(),), timeout=_LITTLE)
        finally:
            closing.cancel()
        left = min(until, loop.time() + _ANSWERS)
        while self.server_state.connections and loop.time() < left:  # the kernel takes what they still have to send
            await asyncio.sleep(0.01)


_LITTLE = 0.1


def configure(front: Front, **options: Any) -> uvicorn.Config:
    """What uvicorn is to know."""
    return uvicorn.Config(front, **options)


async def listen(host: str, port: int, backlog: int = 2048) -> list[socket.socket]:
    """Sockets that listen at every address of `host`, as asyncio would make them.

    Raises:
        OSError: the host is unknown, or the port is taken or not allowed.
    """
    loop = asyncio.get_running_loop()
    found = await loop.getaddrinfo(host or None, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    bound: list[socket.socket] = []
    try:
        for family, kind, protocol, _, address in dict.fromkeys(found):
            one = socket.socket(family, kind, protocol)
            bound.append(one)
            if sys.platform != "win32":
                one.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            if family == socket.AF_INET6:
                one.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
            one.bind(address)
            one.listen(backlog)
            one.setblocking(False)
    except OSError as error:
        for one in bound:
            one.close()
        raise OSError(error.errno, f"can't listen on {host}, port {port}: {error.strerror}") from None
    return bound
