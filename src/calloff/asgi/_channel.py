"""What stands between a server and the application for one request or one websocket.

`receive` has one consumer at a time. While the application itself is in it, it hears of a client that leaves by itself.
While it is not, somebody else has to listen, and that is the hard part of seeing a disconnect at all:

- A listener takes messages that are the application's: they are kept for it, up to `ahead` bytes. More would take away
  the back-pressure that an upload gets from an application that does not read it.
- A listener that begins at once makes the server send ``100 Continue`` in the name of an application that may not want the
  body at all: where the client waits for that, none begins before the application has called `receive`.
- Most requests end sooner than anybody could leave: only what is older than `lazy` seconds gets a listener.

What the server says after the last part of a response (uvicorn: `http.disconnect`, at once) is the normal end of a request
and no leaving: background tasks go on. After the verdict the channel is closed: what an abandoned application sends goes
nowhere.
"""

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable, MutableMapping
from contextvars import Context, ContextVar, copy_context
from typing import Any, TypeAlias

from .._operation.operation import Operation
from .._places.task import TaskBody
from .._scopes.timers import NEVER, Entry, FifoTimer, Timers
from .._words.reason import Kind
from .._words.text import name_of

__all__ = ["Channel", "Message", "Receive", "RequestOver", "Scope", "Send", "Young", "current_channel", "keep"]

Scope: TypeAlias = MutableMapping[str, Any]
Message: TypeAlias = MutableMapping[str, Any]
Receive: TypeAlias = Callable[[], Awaitable[Message]]
Send: TypeAlias = Callable[[Message], Awaitable[None]]

#: messages of a websocket that are kept for the application: small ones are many before they are `ahead` bytes
_MOST = 64
#: names of routes that are kept; there are as many as routes, and more only where clients try strange methods
_MOST_NAMES = 4096


class RequestOver(OSError):
    """Raised by `send` for an application that was stopped, and could not be, and goes on: nobody is there to send to."""

    __module__ = "calloff.asgi"


class Young(FifoTimer):
    """The requests of one event loop that nobody listens for yet: all are old after the same `wait`, in seconds.

    It also has what is the same for all of them: the seconds of an application that has `heard` itself that its client
    left, and how many bytes are read `ahead`.
    """

    __slots__ = ("ahead", "heard", "timers", "wait")

    def __init__(self, timers: Timers, wait: float, heard: float, ahead: int) -> None:
        super().__init__(timers)
        self.timers = timers
        self.wait = wait
        self.heard = heard
        self.ahead = ahead

    def begin(self, entry: Entry) -> None:
        """Let it be young."""
        self.add(entry, self.timers.now() + self.wait)


class Channel:
    """The `receive` and `send` of one request or websocket; told when it is time to listen (the `Entry` protocol)."""

    # Most requests are over before any of this is needed: what is the same for all of these stands in the class.
    named: str = ""
    #: the client sends its body only when somebody asks for it, which must be the application
    expects: bool = False
    #: the request is finished whatever the client does
    keep: bool = False
    #: the application has begun to answer; it has sent, or is about to send, the last part; that is sent
    started: bool = False
    last: bool = False
    complete: bool = False
    closed: bool = False
    timer_at: float = NEVER
    timer_bucket: dict[Entry, None] | None = None
    _ahead: deque[Message] | None = None
    _held = 0
    _in_app = 0
    _wanted = False
    _trailers = False
    _ended = False
    _routed = False
    _gone: Message | None = None
    _reader: asyncio.Task[None] | None = None
    _waiters: list[asyncio.Future[None]] | None = None
    _hang_up_at: asyncio.TimerHandle | None = None

    body: TaskBody

    def __init__(self, scope: Scope, receive: Receive, send: Send, young: Young, named: str) -> None:
        self.scope = scope
        self._receive = receive
        self._send = send
        self._young = young
        self.named = named
        self._context: Context = copy_context()

    @property
    def op(self) -> Operation[Any]:
        """The operation, from its first step on."""
        sink: Any = self.body.sink
        operation: Operation[Any] = sink
        return operation

    @property
    def is_socket(self) -> bool:
        """Whether this is a websocket."""
        return bool(self.scope["type"] == "websocket")

    # --- what the application calls

    async def receive(self) -> Message:
        """The next message for the application."""
        while True:
            if self.closed:
                return self._gone or self._over()
            if self._ahead:
                return self._take()
            if self._gone is not None:
                return self._gone
            if self._reader is None:
                break
            waiter: asyncio.Future[None] = asyncio.get_running_loop().create_future()
            if self._waiters is None:
                self._waiters = []
            self._waiters.append(waiter)
            await waiter
        self.expects = False
        self._in_app += 1
        try:
            message = await self._receive()
        finally:
            self._in_app -= 1
            if self._wanted and not self._in_app:
                self._look_later()
        if message["type"] in _LEAVING:
            self._gone = message
            self._left(self._young.heard)
        return message

    def send(self, message: Message) -> Awaitable[None]:
        """A message of the application's."""
        if self.closed:
            raise RequestOver("the request is over: its operation was stopped")
        kind: str = message["type"]
        if kind == "http.response.body":
            if not message.get("more_body") and not self._trailers:
                self.last = True
        elif kind == "http.response.start":
            self.started = True
            self._trailers = bool(message.get("trailers"))
            self.tell_route()
        elif kind in _LAST:
            self.last = not message.get(_LAST[kind]) and (not self._trailers or kind == "http.response.trailers")
        elif kind == "websocket.accept":
            self.started = True
            self.tell_route()
        return self._send_last(message) if self.last else self._send(message)

    async def _send_last(self, message: Message) -> None:
        await self._send(message)
        if not self.complete:
            self.complete = True
            self.lift_limit(self.op)

    # --- what the middleware calls

    def grow_old(self) -> None:
        """The application did not end in its first step: listen for the client in a while."""
        self._young.begin(self)

    def lift_limit(self, op: Operation[Any]) -> None:
        """The response is complete: for what follows (background tasks) the client does not wait."""
        if op.deadline is not None and op.reason is None and not op.done():
            op.reschedule(None)

    def tell_route(self) -> None:
        """Name the operation by its route, as soon as that is known, unless the application has named it itself."""
        if self._routed:
            return
        scope = self.scope
        route = _route(scope, self.started)
        if route is not None:
            self._routed = True
            op = self.op
            if op._name == self.named:
                key = scope.get("method", "WS"), route
                name = _names.get(key)
                if name is None:
                    if len(_names) > _MOST_NAMES:  # clients make up methods
                        _names.clear()
                    name = _names[key] = name_of(f"{key[0]} {route}")
                op._name = self.named = name

    def close(self) -> None:
        """The request is over for the application."""
        self.closed = True
        if self.timer_at != NEVER:
            self._young.timers.remove(self)
        if self._reader is not None:
            self._reader.cancel()
            self._reader = None
        if self._hang_up_at is not None:
            self._hang_up_at.cancel()
            self._hang_up_at = None
        self._wake()

    @property
    def client_gone(self) -> bool:
        """Whether the client is known to have left."""
        return self._gone is not None

    # --- listening

    def timer_due(self, now: float, /) -> None:
        """The request is no longer young, or the application has left `receive`: listen for it."""
        self.tell_route()
        op = self.op
        if self.keep or self.last or self.closed or self._gone is not None or self._reader is not None:
            return
        if self._in_app or self.expects:
            self._wanted = True
        elif not op.done() and not self._is_full():
            reader = asyncio.get_running_loop().create_task(self._read(), context=self._context)
            self._reader = None if reader.done() else reader  # where tasks are eager

    def _look_later(self) -> None:
        if self.timer_at == NEVER and not self.closed:
            self._wanted = False
            self._young.begin(self)

    async def _read(self) -> None:
        try:
            while not self._is_full():
                message = await self._receive()
                kind = message["type"]
                if kind in _LEAVING:
                    self._gone = message
                    # where the application waits for this, or it is the farewell of a websocket, it may end in its own way
                    self._left(self._young.heard if self._waiters or self.is_socket else 0.0)
                    return
                if self._ahead is None:
                    self._ahead = deque()
                self._ahead.append(message)
                self._held += _size(message)
                self._wake()
                if kind == "http.request":
                    if self._ended:  # a server that has nothing more to say, and says so again and again
                        return
                    self._ended = not message.get("more_body")
        except Exception:  # the server's: the application meets it when it calls `receive` itself
            pass
        finally:
            if not self.closed:
                self._reader = None
                self._wake()

    def _is_full(self) -> bool:
        return self._held >= self._young.ahead or (self._ahead is not None and len(self._ahead) >= _MOST)

    def _take(self) -> Message:
        assert self._ahead is not None
        message = self._ahead.popleft()
        self._held -= _size(message)
        if self._reader is None and self._gone is None:
            self._look_later()
        return message

    def _wake(self) -> None:
        waiters, self._waiters = self._waiters, None
        for waiter in waiters or ():
            if not waiter.done():
                waiter.set_result(None)

    def _over(self) -> Message:
        if self.is_socket:
            return {"type": "websocket.disconnect", "code": 1006, "reason": ""}
        return {"type": "http.disconnect"}

    # --- leaving

    def _left(self, after: float) -> None:
        if self.last or self.closed or self.keep:
            return
        if after:
            self._hang_up_at = asyncio.get_running_loop().call_later(after, self._hang_up, context=self._context)
        else:
            self._hang_up()

    def _hang_up(self) -> None:
        op = self.op
        if not self.last and not self.keep:
            op.request(Kind.DISCONNECTED, "the client went away", None, op._grace)


def keep() -> None:
    """Have this request finished whatever the client does: called in its handler, or in what that has started.

    From now on a client that leaves stops nothing. Limits, a shutdown and ``calloff cancel`` still do. What was asked to
    stop before goes on stopping. Outside any request nothing happens.

        @app.post("/orders")
        async def order(request):
            body = await request.json()
            calloff.asgi.keep()                 # from here on it is paid for
            ...
    """
    channel = current_channel.get()
    if channel is not None:
        channel.keep = True


def _route(scope: Scope, answered: bool) -> str | None:
    """The pattern of the path, where the framework tells: Starlette and FastAPI, Litestar; what no route has is no name."""
    route = scope.get("route")
    if route is not None:
        path = getattr(route, "path", None)
        if isinstance(path, str):
            root: str = scope.get("root_path", "")
            return root.removeprefix(scope.get("app_root_path", "")) + path
    template = scope.get("path_template")
    if isinstance(template, str) and template:
        return template
    return "(no route)" if "router" in scope and "endpoint" not in scope and answered else None


def _size(message: Message) -> int:
    return len(message.get("body") or message.get("bytes") or message.get("text") or b"")


_LEAVING = frozenset({"http.disconnect", "websocket.disconnect"})
#: what can be the last message, and the field that says that more will come
_LAST = {
    "http.response.trailers": "more_trailers",
    "http.response.zerocopysend": "more_body",
    "http.response.pathsend": "",
    "websocket.close": "",
    "websocket.http.response.body": "more_body",
}
#: by method and pattern
_names: dict[tuple[str, str], str] = {}
#: the channel of the request that the running code belongs to
current_channel: ContextVar[Channel | None] = ContextVar("calloff.asgi.channel", default=None)
