"""A network on which nothing comes in for a moment.

A server on the same machine answers at once. So a reply that a cancelled request leaves behind is there before anybody
looks, and a pool that looks drops the connection; with a server 20 ms away it does not see the reply, and hands it to
the next request. In a quiet run, what comes in from sockets is held back from the cancel on until the function runs
again. Only event loops made of Python's selectors can be made quiet.
"""

import asyncio
import os
import selectors
import socket
import stat
import time
from collections.abc import Mapping
from typing import Any

from .forked import wakers

__all__ = ["Quiet", "watched"]

_LONGEST = 0.05  # for a function that does not end: its clean-up may wait for the network
_AFTERWARDS = 0.02
_sleep = time.sleep  # some suites make it raise where an event loop runs


def watched(selector: Any) -> dict[int, Any]:
    """The keys of what a selector watches; of one that is made up for tests, nothing."""
    keys = None if selector is None else selector.get_map()
    return dict(keys) if isinstance(keys, Mapping) else {}


class Quiet:
    """Holds back what comes in to a loop.

    Args:
        loop: the event loop.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._selector: Any = getattr(loop, "_selector", None)
        self._until = 0.0
        self._before: tuple[Any] | None = None
        self._connections: set[int] | None = None

    def has_network(self) -> bool:
        """Whether the loop watches a socket that is connected."""
        return any(self._is_connected(fd) for fd in watched(self._selector))

    def begin(self) -> None:
        """From now on nothing comes in."""
        if self._selector is None:
            return
        self._until = time.monotonic() + _LONGEST
        self._connections = self._connected()
        original = self._selector.select
        self._before = (vars(self._selector).get("select"),)

        def select(timeout: float | None = None) -> Any:
            rest = self._until - time.monotonic()
            if rest <= 0:
                self.end()
                return original(timeout)
            found = original(rest if timeout is None else min(timeout, rest))
            kept = [pair for pair in map(self._without_reading, found) if pair is not None]
            if found and not kept and timeout != 0:
                _sleep(0.001)  # what is held back would wake the selector again at once
            return kept

        self._selector.select = select

    def run_out(self) -> None:
        """The function runs again: only a moment more, and none where no connection is left that a reply may come in by."""
        if not self._until:
            return
        now = self._connected()
        if now is not None and self._connections is not None and now.isdisjoint(self._connections):
            self.end()
        else:
            self._until = time.monotonic() + _AFTERWARDS

    def end(self) -> None:
        """Let everything in."""
        self._until = 0.0
        if self._before is None:
            return
        (before,), self._before = self._before, None
        if before is None:
            vars(self._selector).pop("select", None)
        else:
            self._selector.select = before

    def _without_reading(self, found: Any) -> Any:
        key, events = found
        if not events & selectors.EVENT_READ or not self._is_connected(key.fd):
            return found
        events &= ~selectors.EVENT_READ
        return (key, events) if events else None

    def _is_connected(self, fd: int) -> bool:
        own = getattr(self._loop, "_ssock", None)  # call_soon_threadsafe's
        if own is not None and fd == own.fileno():
            return False
        return _connection(fd) != 0

    def _connected(self) -> set[int] | None:
        """The connections of this process, without the pipes by which threads wake loops; ``None``: nobody can tell."""
        try:
            open_now = set(map(int, os.listdir("/proc/self/fd")))
        except OSError:
            return None
        return set(map(_connection, open_now - wakers(self._loop))) - {0}


def _connection(fd: int) -> int:
    """The number of the connection, which no other has, however often `fd` is closed and opened; 0: it is none."""
    try:
        about = os.fstat(fd)
        if not stat.S_ISSOCK(about.st_mode):
            return 0
        with socket.socket(fileno=os.dup(fd)) as copy:
            copy.getpeername()
            return about.st_ino
    except OSError:
        return 0
