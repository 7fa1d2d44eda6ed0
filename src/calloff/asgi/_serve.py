"""`serve` and `serving`: an application on uvicorn, as a program or inside of one."""

import asyncio
import atexit
import os
import signal
import sys
import threading
import time
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from importlib import import_module
from typing import Any

from .._api.run import run_outcome
from .._api.start import start
from .._operation.operation import current_operation
from .._words.duration import delay, limit
from ._install import install, is_installed
from ._middleware import Middleware
from ._server import Front, Phases, UvicornServer, configure, listen

__all__ = ["Server", "serve", "serving"]

#: what uvicorn's supervisor does, of which there is none here
_OF_A_SUPERVISOR = ("reload", "reload_dirs", "reload_delay", "reload_includes", "reload_excludes", "workers")
#: what tasks that the application leaves behind have, in seconds
_REST = 1.0


def serve(
    app: Any,
    *,
    host: str = "127.0.0.1",
    port: int = 8000,
    timeout: float | None = None,
    ready: str | None = "/readyz",
    leave: float = 0.0,
    drain: float = 10.0,
    grace: float = 5.0,
    closing: float = 5.0,
    expose: bool | None = False,
    **options: Any,
) -> None:
    """Serve an ASGI application with uvicorn until a signal comes, and end within a bound.

    Args:
        app: the application, or ``"module:name"``. If `Middleware` is not in it, it is put in (`install` where that works).
        host: where to listen.
        port: the port; 0 for any free one.
        timeout: seconds that a request has, where the middleware is put in here; ``None`` for no limit.
        ready: the path that answers 200 while the server is ready, and 503 from the first signal on; ``None`` for none.
        leave: seconds from the first signal during which new requests are still served, for those who hear of it late.
        drain: seconds after these that requests in flight have to end by themselves.
        grace: seconds between asking what is left to stop and force.
        closing: seconds that the application's lifespan shutdown has.
        expose: let ``calloff ps`` and the other verbs see the requests, and call them off; ``None``: where that can be.
        options: of `uvicorn.Config`, for example ``log_level="warning"``, ``ssl_certfile=...``, ``factory=True``.

    The first SIGTERM or SIGINT begins the end. The second ends the present phase at once, and the third, more than a
    second later, the process. The whole takes at most leave + drain + grace + closing + 4 seconds, whatever requests do:
    streams that never end, websockets, handlers that refuse a cancel, that wait in a thread, or that block the event loop.
    Requests that are stopped are answered 503 with ``Retry-After``, websockets are closed with 1012. A service manager that
    has started the program (``NOTIFY_SOCKET``) is told when it is ready and when it stops.

    Raises:
        SystemExit: ended by SIGTERM; the status is 143.
        KeyboardInterrupt: ended by SIGINT.
        OSError: it can't listen there.
        CalloffError: the application did not start.
        ValueError: a duration is negative or NaN, or an option is uvicorn's supervisor's. The caller's fault.
        ModuleNotFoundError: uvicorn is not installed: ``pip install 'calloff[serve]'``.

    It is called so:

        calloff.asgi.serve(app, port=8080, timeout=30)
    """
    phases = _phases(leave, drain, grace, closing)
    made = _Made(app, host, port, limit(timeout, "timeout"), ready, phases, options)
    conductor = _Conductor(made)
    outcome, signum = run_outcome(
        conductor.main,
        name=made.name,
        grace=_REST,
        expose=expose,
        loop_factory=made.loop_factory,
        conductor=conductor,
        notify="later",
    )
    if signum is not None:
        _bound_the_exit(128 + signum)
        if signum == signal.SIGINT:
            raise KeyboardInterrupt
        raise SystemExit(128 + signum)
    outcome.unwrap()


class Server:
    """A server that runs: what `serving` gives."""

    __module__ = "calloff.asgi"

    def __init__(self, server: UvicornServer) -> None:
        self._server = server

    @property
    def port(self) -> int:
        """The port at which it listens; 0 for a socket that has none."""
        return self._server.port

    @property
    def url(self) -> str:
        """Where it is reached."""
        return self._server.url

    @property
    def phase(self) -> str:
        """``up``, and at the end ``leaving``, ``draining``, ``stopping``, ``closing``, ``over``."""
        return self._server.front.phase

    def stop(self) -> None:
        """Begin the end and return at once; each further call ends the present phase."""
        self._server.ask()


@asynccontextmanager
async def serving(
    app: Any,
    *,
    host: str = "127.0.0.1",
    port: int = 8000,
    timeout: float | None = None,
    ready: str | None = "/readyz",
    leave: float = 0.0,
    drain: float = 10.0,
    grace: float = 5.0,
    closing: float = 5.0,
    **options: Any,
) -> AsyncGenerator[Server]:
    """Serve an ASGI application while a block runs: ``async with calloff.asgi.serving(app, port=0) as server: ...``.

    Leaving the block, also by a cancel, takes the server through the phases of `serve`, which has the arguments. Signals
    are the program's: under `calloff.run` give that a `grace` of at least leave + drain + grace + closing + 4 seconds.

    Returns:
        The `Server`, when it listens; its `url` tells where.
    """
    phases = _phases(leave, drain, grace, closing)
    made = _Made(app, host, port, limit(timeout, "timeout"), ready, phases, options)
    server = await made.server()
    op = start(server.live(), name=made.name, grace=phases.bound)
    up = asyncio.ensure_future(server.up.wait())
    try:
        await asyncio.wait((up, op.completion()), return_when=asyncio.FIRST_COMPLETED)
        if op.done():
            op.result()
        yield Server(server)
    finally:
        up.cancel()
        if not op.done():
            if op.reason is None:
                server.ask()
            await asyncio.wait((op.completion(),), timeout=phases.bound)
    if op.done():
        op.result()


class _Made:
    """The application with what is around it, and how it is to be served."""

    def __init__(
        self,
        app: Any,
        host: str,
        port: int,
        timeout: float | None,
        ready: str | None,
        phases: Phases,
        options: dict[str, Any],
    ) -> None:
        for name in options:
            if name in _OF_A_SUPERVISOR:
                raise ValueError(f"serve() runs one process, so it has no {name!r}: start several")
        if ready is not None and not ready.startswith("/"):
            raise ValueError(f'ready must be a path such as "/readyz", or None, not {ready!r}')
        self.host, self.port, self.phases = host, port, phases
        self.name = f"server {host}:{port}"
        if isinstance(app, str):
            module, _, attribute = app.partition(":")
            app = import_module(module)
            for part in (attribute or "app").split("."):
                app = getattr(app, part)
        if options.pop("factory", False):
            app = app()
        if not is_installed(app):
            try:
                install(app, timeout=timeout, grace=phases.grace)
            except (TypeError, RuntimeError):
                app = Middleware(app, timeout=timeout, grace=phases.grace)
        self.front = Front(app, ready)
        self._own_socket = "fd" in options or "uds" in options
        self.config = configure(self.front, host=host, port=port, **options)
        factory: Any = getattr(self.config, "get_loop_factory", None)
        self.loop_factory = factory() if factory is not None else None

    async def server(self) -> UvicornServer:
        """A server that listens, or will."""
        sockets = None if self._own_socket else await listen(self.host, self.port, self.config.backlog)
        return UvicornServer(self.config, self.front, self.phases, sockets)


class _Conductor:
    """Hears the signals for `calloff.run`, and says what blocks the loop for too long."""

    def __init__(self, made: _Made) -> None:
        self._made = made
        self._server: UvicornServer | None = None
        self._signals = 0

    async def main(self) -> None:
        """The program."""
        operation = current_operation.get()
        if operation is not None:  # one that is called off by hand goes through its phases, too
            operation._grace = self._made.phases.bound
        self._server = server = await self._made.server()
        for _ in range(self._signals):
            server.ask()
        await server.live()

    def signalled(self, signum: int) -> None:
        """A signal came; on the loop's thread, perhaps on top of what blocks it."""
        self._signals += 1
        if self._server is not None:
            self._server.ask()

    @property
    def ends_since(self) -> float:
        """From which point on what blocks the loop is asked to end."""
        return float("inf") if self._server is None else self._server.ends_since

    @property
    def ends_at(self) -> float:
        """At which point it is forced."""
        return float("inf") if self._server is None else self._server.ends_at


def _phases(leave: float, drain: float, grace: float, closing: float) -> Phases:
    return Phases(delay(leave, "leave"), delay(drain, "drain"), delay(grace, "grace"), delay(closing, "closing"))


def _bound_the_exit(status: int) -> None:
    """Let no thread hold up the exit of the interpreter: those of anyio, in which handlers wait, are not daemons."""
    threads = [each for each in threading.enumerate() if each is not threading.main_thread() and not each.daemon]
    if not threads:
        return

    def cut_short() -> None:
        threading.main_thread().join()
        time.sleep(0.2)
        threading.Thread(target=atexit._run_exitfuncs, daemon=True).start()
        time.sleep(0.8)
        for stream in (sys.stdout, sys.stderr):
            if stream is not None:
                stream.flush()
        os._exit(status)

    threading.Thread(target=cut_short, name="calloff: end", daemon=True).start()
