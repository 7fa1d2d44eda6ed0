"""A run that does not wait for timers while nothing else can happen: a test that sleeps ten seconds is run many times.

The time of its loop jumps to when the next timer is due. Where that would change what the test does (it looks at another
clock, say), a run without a cancel shows it, and none of the others does so.
"""

import asyncio
import math
import os
import threading
from concurrent.futures import thread as pools
from typing import Any

from ..._scopes.timers import known_timers
from .blocked import is_alone
from .clock import Clock
from .still import nothing_comes

__all__ = ["LONG", "Skipping", "number_of_threads"]

#: seconds that a function takes before it is worth it
LONG = 1.0
_SHORT, _LOOK_EVERY = 0.02, 0.1


class Skipping:
    """Makes the time of an event loop jump, in a process that ends with the run.

    Args:
        loop: the event loop.
        clock: the one that its time goes by.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop, clock: Clock) -> None:
        self._loop = loop
        self._clock = clock
        self._selector: Any = getattr(loop, "_selector", None)
        if self._selector is not None and is_alone() and clock.keep():
            self._original = self._selector.select
            self._selector.select = self._select

    def _select(self, timeout: float | None = None) -> Any:
        if timeout is None or timeout <= _SHORT:
            return self._original(timeout)
        found = self._original(0)
        if found or (self._is_idle() and self._clock.skip(timeout)):
            return found
        return self._original(min(timeout, _LOOK_EVERY))  # it may be idle soon: a thread on its way out is gone

    def _is_idle(self) -> bool:
        """Whether nothing but a timer can come: else the time must pass."""
        if self._loop in known_timers or self._selector.select != self._select or not _only_idle_threads():
            return False  # a quiet network lasts for a real time
        if threading.active_count() > 1:
            self._original(_SHORT)  # one that has just taken its job may not look like it yet
        return _only_idle_threads() and nothing_comes(self._loop)


def _only_idle_threads() -> bool:
    """Whether all other threads are those of Python's pools, and no pool has a job for them."""
    others = [other for other in threading.enumerate() if other is not threading.current_thread()]
    queues: Any = pools._threads_queues
    if number_of_threads() > 1 + len(others):
        return False  # one that Python does not know
    return all(other in queues and queues[other].qsize() == 0 for other in others)


def number_of_threads() -> float:
    """Of this process, those included that Python does not know; infinitely many where nobody can tell."""
    try:
        return len(os.listdir("/proc/self/task"))
    except OSError:
        return math.inf
