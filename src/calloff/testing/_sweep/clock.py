"""A loop whose time stands still while the sweep looks around, and while the loop does not run.

What the set-up has timed (a message that comes after 50 ms, say) would else come the earlier for the function that runs
again, the longer a busy machine takes to look, or to come from the fixtures to the test. In a process of a run the time
stands, too, while the machine gives the process no turn, as far as Linux tells that.
"""

import asyncio
import contextlib
import functools
import os
import time
from collections.abc import Callable, Generator
from typing import Any

from ..._scopes.timers import known_timers
from .blocked import is_alone

__all__ = ["Clock", "clock_of", "own_time_afterwards", "standing"]


class Clock:
    """Stops the time of an event loop, as far as it is one of Python's own with the real time.

    It does nothing on a loop on which calloff's timers are at work already: they go by the real time.

    Args:
        loop: the event loop.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._works = getattr(type(loop), "time", None) is asyncio.BaseEventLoop.time and "time" not in vars(loop)
        self._works = self._works and loop not in known_timers
        self._lag = 0.0
        self._stopped_at: float | None = None
        self._kept = False
        self._waited = _waited if self._works and is_alone() else _not_at_all
        self._waits = self._waited()
        self._stolen = 0.0
        self._latest = 0.0
        if self._works:
            loop.time = self._plain if self._waited is _not_at_all else self._time  # type: ignore[method-assign]  # of this loop alone

    @property
    def is_real(self) -> bool:
        """Whether it goes as fast as the real time, wherever it stands."""
        return self._works

    def stop(self) -> None:
        """No time passes from now on."""
        if self._works and self._stopped_at is None:
            self._stopped_at = self._loop.time() + self._lag

    def go_on(self) -> None:
        """It goes on where it was stopped."""
        if self._stopped_at is not None:
            now, waits = time.monotonic(), self._waited()
            self._lag += now - self._stopped_at
            self._waits = waits
            self._stopped_at = None

    def outside(self) -> float:
        """The time with the turns that the machine did not give: in other processes it goes on."""
        return self._loop.time() + self._stolen

    def keep(self) -> bool:
        """Never go back to the real time; whether this is the clock of the loop."""
        self._kept = self._works
        return self._works

    def skip(self, seconds: float) -> bool:
        """Let so much time be over at once; whether it was, as it is not where the time stands still."""
        if self._works and self._stopped_at is None:
            self._lag -= seconds
            return True
        return False

    def end(self) -> None:
        """No more stops; the real time again, unless it is behind, or there are timers by now that go by this one."""
        self.go_on()
        if self._lag >= 0 and not self._stays():
            vars(self._loop).pop("time", None)

    def give_back(self) -> None:
        """The real time again, if it is behind, too: what is timed is due in as many seconds as by this one."""
        if self._lag < 0 and not self._stays():
            timers: Any = getattr(self._loop, "_scheduled", ())
            for timer in timers:  # all by the same: their order is as it was
                timer._when += self._lag
            self._lag = 0.0
            vars(self._loop).pop("time", None)

    def _stays(self) -> bool:
        return not self._works or self._kept or self._loop in known_timers

    def _plain(self) -> float:
        """Where nobody knows of turns that were not given: each turn of the loop asks."""
        return (time.monotonic() if self._stopped_at is None else self._stopped_at) - self._lag

    def _time(self) -> float:
        if self._stopped_at is not None:
            return self._stopped_at - self._lag
        waits = self._waited()
        stolen = min(waits - self._waits, _MOST - self._stolen)
        self._stolen += stolen
        self._lag += stolen
        self._waits = waits
        self._latest = max(self._latest, time.monotonic() - self._lag)  # a turn may have been taken away just now
        return self._latest


def clock_of(loop: asyncio.AbstractEventLoop) -> Clock:
    """The clock that a loop has been given already, or a new one."""
    return _known(loop) or Clock(loop)


@contextlib.contextmanager
def own_time_afterwards(loop: asyncio.AbstractEventLoop) -> Generator[None]:
    """Give a loop of somebody else's its own time back, which a sweep has let jump."""
    try:
        yield
    finally:
        clock = _known(loop)
        if clock is not None:
            clock.give_back()


def _known(loop: asyncio.AbstractEventLoop) -> Clock | None:
    found = getattr(getattr(loop, "__dict__", {}).get("time"), "__self__", None)
    return found if isinstance(found, Clock) else None


def standing(run_forever: Callable[[asyncio.BaseEventLoop], None]) -> Callable[[asyncio.BaseEventLoop], None]:
    """What stands for `BaseEventLoop.run_forever` in the process of a run: between two runs of a loop its time stands."""

    @functools.wraps(run_forever)
    def run(loop: asyncio.BaseEventLoop) -> None:
        if loop.is_running():
            return run_forever(loop)  # it refuses
        clock = clock_of(loop)
        clock.keep()
        clock.go_on()
        try:
            run_forever(loop)
        finally:
            clock.stop()

    return run


def _waited() -> float:
    """Seconds for which this thread could have run and had no processor."""
    global _schedstat
    try:
        if _schedstat < 0:
            _schedstat = _open("/proc/thread-self/schedstat", os.O_RDONLY | os.O_CLOEXEC)
        return int(_pread(_schedstat, 64, 0).split()[1]) / 1e9
    except (OSError, ValueError, IndexError):
        return 0.0


def _not_at_all() -> float:
    return 0.0


#: seconds that a busy machine may take in all: what hangs must still show in time
_MOST = 1.0
_schedstat = -1
#: as they were when this was imported: some suites make them raise where an event loop runs
_open, _pread = os.open, os.pread
