"""The server of the page: uvicorn on a socket that is bound before anything else starts.

So a taken port or an unknown host is told in one sentence, port 0 is known as a number when the link is printed, and
the link is printed only once it works. The first SIGINT or SIGTERM ends the streams, which is all that a graceful end
has to wait for.
"""

import asyncio
import socket
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager

import uvicorn
from uvicorn.protocols.http.h11_impl import H11Protocol

from ._app import make_app
from ._source import Source

__all__ = ["bind", "link", "make_server"]

_MOST = 256  # connections
_LEAVE = 2  # seconds that open requests have at the end


def bind(host: str, port: int) -> socket.socket:
    """A listening socket.

    Raises:
        OSError: the host is unknown, or the port is taken or not allowed.
    """
    family, kind, protocol, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
    bound = socket.socket(family, kind, protocol)
    try:
        bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        bound.bind(address)
        bound.listen(128)
        bound.setblocking(False)
    except BaseException:
        bound.close()
        raise
    return bound


def link(bound: socket.socket, token: str) -> str:
    """The link to open. The token stands behind ``#``: a browser sends that part to nobody, and logs have none of it."""
    host, port = bound.getsockname()[:2]
    if host in ("0.0.0.0", "::"):
        host = socket.gethostname()
    return f"http://{f'[{host}]' if ':' in host else host}:{port}/#token={token}"


class _Protocol(H11Protocol):
    """A connection. Where there are too many, the one that has asked nothing for longest makes room for the new one.

    Any user of the machine may connect, and hold what was opened without asking; whoever has the token is let in.
    """

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]  # as in uvicorn
        super().connection_made(transport)
        self._made_at = self.loop.time()
        if len(self.connections) > _MOST:
            others = [each for each in self.connections if isinstance(each, _Protocol) and each is not self]
            idle = [each for each in others if each.cycle is None or each.cycle.response_complete]
            min(idle, key=lambda each: each._made_at, default=self).transport.abort()


class _Server(uvicorn.Server):
    def __init__(self, config: uvicorn.Config, started: Callable[[], None], stopping: asyncio.Event) -> None:
        super().__init__(config)
        self._told = started
        self._stopping = stopping

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        self._told()

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        self._stopping.set()
        await super().shutdown(sockets)


def make_server(
    connect: Callable[[], AbstractAsyncContextManager[Source]],
    *,
    token: str,
    hosts: tuple[str, ...] = (),
    started: Callable[[], None],
) -> uvicorn.Server:
    """The server: ``await server.serve([bound])`` serves until a signal comes, which is raised again when all is closed.

    Args:
        connect: opens the client of the control sockets.
        token: what a browser has to know.
        hosts: names under which it is served, beside those of the loopback interface.
        started: called once, when requests are answered.
    """
    stopping = asyncio.Event()
    config = uvicorn.Config(
        make_app(connect, token=token, hosts=hosts, stopping=stopping),
        http=_Protocol,
        ws="none",
        lifespan="on",
        log_level="warning",
        access_log=False,
        proxy_headers=False,
        server_header=False,
        timeout_graceful_shutdown=_LEAVE,
    )
    return _Server(config, started, stopping)
