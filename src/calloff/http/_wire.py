"""The socket that a blocking request waits at, so that a stop can shut it."""

import socket
from collections.abc import Callable, Generator, Iterable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any

from .._operation.checkpoint import checkpoint
from .._operation.on_stop import until_left

__all__ = ["Wire", "wire"]


class Wire:
    """One request and its response: the blocks in which they wait, and the socket at which they do.

    Args:
        name: of the client, for the report.
        timeouts: the errors by which the client tells that its own timeout has passed.
    """

    def __init__(self, name: str, timeouts: tuple[type[Exception], ...]) -> None:
        self._name = f"{name}: shutdown of its socket"
        self._timeouts = timeouts
        self._asked = False
        #: finds the socket, which may be another one after a TLS handshake
        self.find: Callable[[], Any] = _nowhere
        #: gives the connection back to its pool, as soon as there is a response that nobody would close otherwise
        self.give_back: Callable[[], object] = _nowhere

    @contextmanager
    def waits(self) -> Generator[None]:
        """A block that waits at the socket. It is asked by shutting that; a limit that has passed is the verdict.

        A block that ends by an error gives the connection back: a stop comes where the client itself sees no error.
        """
        try:
            with self._asked_by_a_stop():
                yield
        except BaseException:
            self.give_back()
            raise

    @contextmanager
    def _asked_by_a_stop(self) -> Generator[None]:
        token = wire.set(self)
        try:
            with until_left(self._shut, self._name):
                yield
        except self._timeouts:
            checkpoint()  # it is the operation's limit, to which the timeout was cut
            raise
        finally:
            wire.reset(token)
        if self._asked:  # what ends with its connection is no error to every client: it would be half a response
            checkpoint()

    def stream(self, chunks: Iterable[Any]) -> Iterator[Any]:
        """Go over the response; each chunk is waited for in such a block."""
        steps = iter(chunks)
        while True:
            with self.waits():
                chunk = next(steps, self)
            if chunk is self:
                return
            yield chunk

    def _shut(self) -> None:
        self._asked = True
        file = self.find()
        if file is not None:
            try:
                socket.socket.shutdown(file, socket.SHUT_RDWR)
            except OSError:  # it is closed, or not connected any more
                pass


def _nowhere() -> None:
    return None


#: the request that the calling code works for
wire: ContextVar[Wire | None] = ContextVar("calloff.http.wire", default=None)
