"""A source that may block, read in a thread of its own, so that it holds up nobody: of the command line, of blocking code.

The thread is a few hundred items ahead at most. One that waits in the system when the map is left can't be woken: it is
a daemon, and ends with what it waits for, or with the program.
"""

import asyncio
import threading
from collections import deque
from collections.abc import Iterator
from typing import Any

__all__ = ["QUICK", "Aside"]

_quick: tuple[Any, ...] = ([], (), range(0), range(1 << 70), "", b"", {}, {}.values(), {}.items(), set(), deque())
#: iterators that never block
QUICK: frozenset[type] = frozenset(type(iter(each)) for each in _quick)
_AHEAD = 256


class Aside:
    """An asynchronous iterator over what a thread draws from `items`."""

    def __init__(self, items: Iterator[Any]) -> None:
        self._items = items
        self._ready: deque[Any] = deque()
        self._lock = threading.Lock()
        self._room = threading.Semaphore(_AHEAD)
        self._waiter: asyncio.Future[None] | None = None
        self._thread: threading.Thread | None = None
        self._error: BaseException | None = None
        self._over = self._closed = False

    def __aiter__(self) -> "Aside":
        return self

    async def __anext__(self) -> Any:
        if self._thread is None:
            self._loop = asyncio.get_running_loop()
            self._thread = threading.Thread(target=self._draw, name="items of a calloff map", daemon=True)
            self._thread.start()
        while not self._ready:
            if self._over and not self._ready:
                raise self._error or StopAsyncIteration
            waiter = self._loop.create_future()
            with self._lock:
                if not self._ready and not self._over:
                    self._waiter = waiter
                else:
                    waiter.set_result(None)
            await waiter
        self._room.release()
        return self._ready.popleft()

    async def aclose(self) -> None:
        """Draw no more."""
        self._closed = True
        self._room.release()

    def _draw(self) -> None:
        try:
            for item in self._items:
                self._tell(item)
                self._room.acquire()
                if self._closed:
                    return
        except BaseException as error:
            self._error = error
        self._over = True
        self._tell()

    def _tell(self, *items: Any) -> None:
        with self._lock:
            self._ready.extend(items)
            waiter, self._waiter = self._waiter, None
        if waiter is not None and not self._loop.is_closed():
            try:
                self._loop.call_soon_threadsafe(_wake, waiter)
            except RuntimeError:  # closed at this moment: nobody waits
                return


def _wake(waiter: "asyncio.Future[None]") -> None:
    if not waiter.done():
        waiter.set_result(None)
