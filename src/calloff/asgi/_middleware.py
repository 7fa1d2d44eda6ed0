"""The middleware: a request is an operation, and a client that leaves, a deadline or a shutdown stops it.

Pure ASGI: between a server and an application, whatever framework that is written in. The application runs in a task of its
own, which has the context of the one that called us; context variables that a handler sets do not get out to middlewares
around this one. What becomes of the operation is decided by calloff's ladder; here are only the reasons, and the answers.
"""

import logging
from asyncio import CancelledError, get_running_loop
from collections.abc import Awaitable, Callable, Collection
from contextlib import suppress
from types import CoroutineType
from typing import Any, Literal

from .._operation.beginning import begin
from .._operation.operation import Operation, current_operation
from .._places.task import EagerBody, drive
from .._scopes.timers import timers_of
from .._words.budget import HEADERS
from .._words.duration import delay, limit
from .._words.errors import CalloffError, OperationCancelled, TimedOut
from .._words.reason import Kind, Reason
from .._words.state import State
from .._words.text import name_of
from ._answers import CLIENT_GONE, answer, farewell, status_of, words
from ._channel import Channel, Receive, Scope, Send, Young, current_channel
from ._count import counts, requests

__all__ = ["BrokenOff", "Middleware"]

_logger = logging.getLogger("calloff")
_READ = ("grpc-timeout", "request-timeout-ms", "x-envoy-expected-rq-timeout-ms", "request-timeout")


class BrokenOff(CalloffError):
    """A request was stopped when a part of its response had been sent: the server has to break the connection off.

    Goes to the server, which logs it and closes the connection, so that no client takes the half for the whole.
    """

    __module__ = "calloff.asgi"


class Middleware:
    """Run each request and each websocket as an operation, and stop that when nobody waits for it any longer.

    Args:
        app: the ASGI application. For Starlette and FastAPI use `install`, which finds the right place inside of others.
        timeout: seconds that a request has; ``None`` for no limit. A handler may change its own:
            ``calloff.current().reschedule(120)``. Websockets have none.
        grace: seconds between asking a request to stop and force.
        read: the headers in which clients tell how long they wait; the smallest of them and `timeout` counts.
        skew: seconds by which such a header is shortened, for the way here.
        on_disconnect: ``"finish"`` has every request finished whatever its client does; `keep` does it for one.
        heard: seconds that an application has which has heard itself (in ``receive``) that the client left.
        lazy: the age in seconds at which a request gets somebody to listen for its client.
        ahead: how many bytes of a body that the application does not read are taken from the server.
        retry_after: the seconds that an answer 503 names.
        detail: tell the client the whole text of the error, with the line where the request was: for development.

    The operation is named by its route (``GET /items/{id}``) as soon as that is known. It is stopped with kind
    `disconnected` when the client is gone, with `deadline` at its limit. A request that is stopped before it has begun to
    answer is answered with 504 (a limit) or with 503 and ``Retry-After`` (everything else) as ``application/problem+json``;
    where a part was sent, `BrokenOff` goes to the server. After the last part of the response neither the client nor a
    limit matters any longer: background tasks go on.

    Raises:
        ValueError: a negative or NaN duration, or an unknown word. The caller's fault.

    It is called so:

        app = calloff.asgi.Middleware(app, timeout=30)
    """

    __module__ = "calloff.asgi"

    def __init__(
        self,
        app: Callable[[Scope, Receive, Send], Awaitable[None]],
        *,
        timeout: float | None = None,
        grace: float = 5.0,
        read: Collection[str] = _READ,
        skew: float = 0.0,
        on_disconnect: Literal["stop", "finish"] = "stop",
        heard: float = 3.0,
        lazy: float = 0.05,
        ahead: int = 65536,
        retry_after: int = 1,
        detail: bool = False,
    ) -> None:
        if on_disconnect not in ("stop", "finish"):
            raise ValueError(f'on_disconnect must be "stop" or "finish", not {on_disconnect!r}')
        names: tuple[Any, ...] = (read,) if isinstance(read, str) else tuple(read)
        for name in names:
            if not isinstance(name, str) or name.lower().encode() not in HEADERS:
                known = ", ".join(known.decode() for known in HEADERS)
                raise ValueError(f"read must be some of {known}, not {name!r}")
        numbers: dict[str, Any] = {"ahead": ahead, "retry_after": retry_after}
        for name, number in numbers.items():
            if not isinstance(number, int) or number < 0:
                raise ValueError(f"{name} must be a whole number that is not negative, not {number!r}")
        self.app: Callable[[Scope, Receive, Send], Awaitable[None]] = app
        self.timeout: float | None = limit(timeout, "timeout")
        self.grace: float = min(delay(grace, "grace"), Operation.policy.longest_grace)
        self._skew = delay(skew, "skew")
        self._heard = delay(heard, "heard")
        self._lazy = delay(lazy, "lazy")
        self._ahead = ahead
        self._retry_after = retry_after
        self._detail = detail
        self._finish = on_disconnect == "finish"
        self._readers = {name.lower().encode(): HEADERS[name.lower().encode()] for name in names}
        self._looked_at = frozenset((*self._readers, b"expect"))
        self._young: Young | None = None
        _warn_of_tasks_inside(app)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one connection."""
        kind: str = scope["type"]
        if kind == "http":
            name = name_of(f"{scope['method']} {scope['path']}")
            left, expects = self._limit(scope)
            if left is not None and left <= 0:
                text = "The client's deadline had passed before the request arrived."
                await answer(send, 504, text, self._retry_after)
                return
        elif kind == "websocket":
            name, left, expects = name_of(f"WS {scope['path']}"), None, False
        else:
            await self.app(scope, receive, send)
            return
        young = self._young
        loop = get_running_loop()
        if young is None or young.timers.loop is not loop:
            young = self._young = Young(timers_of(loop), self._lazy, self._heard, self._ahead)
        channel = Channel(scope, receive, send, young, name)
        if expects:
            channel.expects = True
        if self._finish:
            channel.keep = True
        token = current_channel.set(channel)
        try:
            work: Any = self.app(scope, channel.receive, channel.send)
            coro: Any = work if type(work) is CoroutineType else _awaited(work)
            channel.body = body = drive(coro, EagerBody, coro.__qualname__)
            parent = current_operation.get()
            if parent is not None and parent.done():
                parent = None
            op: Operation[None] = begin(body, name, loop, left, None, self.grace, parent, None)
        finally:
            current_channel.reset(token)
        if op._ended_at is None:
            channel.grow_old()
        elif op._stop is None and op._phase is State.COMPLETED:  # in its first step
            channel.closed = True
            return
        requests[op] = channel
        try:
            await op
        except (TimedOut, OperationCancelled) as error:
            if error.operation is None or error.operation.id != op.id:
                raise  # of something else, inside the application
            channel.close()
            await self._tell(channel, send, error.reason, error)
        except CancelledError:  # the server does not wait any longer
            if not channel.started:
                channel.close()
                with suppress(Exception):
                    await self._tell(channel, send, Reason(Kind.SHUTDOWN), None)
            raise
        else:
            if op.reason is not None and not channel.started:  # it returned when it was asked to
                channel.close()
                await self._tell(channel, send, op.reason, None)
        finally:
            channel.tell_route()
            channel.close()
            del requests[op]

    def _limit(self, scope: Scope) -> tuple[float | None, bool]:
        """The seconds that the request has, and whether its client waits to be asked for the body."""
        left, expects = self.timeout, False
        for name, value in scope["headers"]:
            if name in self._looked_at:
                if name == b"expect":
                    expects = True
                    continue
                seconds = self._readers[name](value.strip())
                if seconds is None:
                    counts.malformed += 1
                elif left is None or seconds - self._skew < left:
                    left = seconds - self._skew
        return left, expects

    async def _tell(
        self, channel: Channel, send: Send, reason: Reason, error: TimedOut | OperationCancelled | None
    ) -> None:
        """Tell the client of the stop, as far as that can still be done."""
        if channel.complete:
            return
        if channel.scope["type"] == "websocket":
            if not channel.client_gone:
                await farewell(send, reason.kind is Kind.SHUTDOWN)
            return
        status = status_of(reason)
        if not channel.started:
            text = str(error) if self._detail and error is not None else words(reason)
            await answer(send, status, text, self._retry_after)
        elif status != CLIENT_GONE:
            raise BrokenOff(f"the response to {channel.named} was broken off: {words(reason)}") from error


async def _awaited(work: Awaitable[None]) -> None:
    await work


def _warn_of_tasks_inside(app: object) -> None:
    """A cancel that goes through the task group of Starlette's `BaseHTTPMiddleware` does not arrive where it should."""
    seen = 0
    while app is not None and seen < 50:
        if any(base.__name__ == "BaseHTTPMiddleware" for base in type(app).__mro__):
            _logger.warning(
                "calloff.asgi.Middleware is around %s, whose task group swallows a part of a stop: use "
                "calloff.asgi.install(app), which puts it inside",
                type(app).__name__,
            )
            return
        app, seen = getattr(app, "app", None), seen + 1
