"""A second run that does not wait for its own timers while nothing else can happen.

After each cancel the function runs again, to show that it still works. While it only sleeps, the time of the loop jumps to
when its next timer is due: the function sees the same time of the loop, in the same order, and the sweep does not wait.
So it is only where nothing but that timer can come:

* each timer of the loop was set by the second run, or is the sweep's own limit for it: nobody else's time jumps;
* no other thread, no child process that was started since the run began, and no socket or pipe that the loop watches;
* none of calloff's own timers, which go by the real time.

To the sweep's limit no time jumps: what hangs is waited for. What goes by another clock than the loop's might still do
otherwise, so nothing is held against a function for such a run: it is carried out again without a jump, as are all the
runs that follow, and so is a run without a cancel that does otherwise than the one before, which had none.
"""

import asyncio
import contextlib
import os
from collections.abc import Generator
from contextvars import ContextVar
from typing import Any

from ..._os import proc
from ..._scopes.timers import known_timers
from .clock import Clock
from .skipping import number_of_threads

__all__ = ["Jumps", "child_processes"]

#: whose the code is that sets a timer: the second run's, or the sweep's own beside it
_whose: "ContextVar[object]" = ContextVar("calloff_second_run", default=None)
_LIMIT = "the limit of a second run"


class Jumps:
    """Makes the time of an event loop jump while a function runs again.

    Args:
        loop: the event loop.
        clock: the one that its time goes by.
        others: the child processes that have nothing to do with the function.

    Attributes:
        any: whether there was a jump.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop, clock: Clock, others: frozenset[int]) -> None:
        self._loop: Any = loop
        self._clock = clock
        self._others = others
        self._selector: Any = getattr(loop, "_selector", None)
        self.any = False

    @contextlib.contextmanager
    def allowed(self, wanted: bool) -> Generator[None]:
        """Jump within this, where that is `wanted` and the loop is one whose time can; the function is started in it."""
        own = getattr(self._selector, "__dict__", None)
        if not wanted or own is None or "select" in own or not hasattr(self._loop, "_scheduled"):
            yield  # a quiet network lasts for a real time
            return
        self._original = self._selector.select
        self._selector.select = self._select
        token = _whose.set(self)
        try:
            yield
        finally:
            _whose.reset(token)
            if own.get("select") == self._select:
                del own["select"]

    def begun(self) -> None:
        """The function has been started: what is timed here from now on is the sweep's."""
        if _whose.get() is self:
            _whose.set(_LIMIT)

    def _select(self, timeout: float | None = None) -> Any:
        if timeout is None or timeout <= 0:
            return self._original(timeout)
        timers = self._loop._scheduled
        if not timers or timers[0]._context.get(_whose) is not self:
            return self._original(timeout)
        found = self._original(0)
        if found or (self._is_alone() and self._clock.skip(timeout)):
            self.any |= not found
            return found
        return self._original(timeout)

    def _is_alone(self) -> bool:
        """Whether nothing but timers of the second run can come."""
        own = self._loop._ssock  # call_soon_threadsafe's
        return (
            number_of_threads() == 1
            and self._loop not in known_timers
            and all(own is not None and fd == own.fileno() for fd in self._selector.get_map() or ())
            and all(
                timer._context.get(_whose) in (self, _LIMIT) for timer in self._loop._scheduled if not timer._cancelled
            )
            and child_processes() <= self._others
        )


def child_processes() -> frozenset[int]:
    """The child processes that have not ended."""
    return frozenset(pid for pid, _ in proc.running_children(os.getpid()))
