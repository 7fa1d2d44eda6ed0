"""A loop whose time stands still while the sweep looks around.

What the set-up has timed (a message that comes after 50 ms, say) would else come the earlier for the function that runs
again, the longer a busy machine takes to look.
"""

import asyncio
import time

from ..._scopes.timers import known_timers

__all__ = ["Clock"]


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
        if self._works:
            loop.time = self._time  # type: ignore[method-assign]  # of this loop alone

    def stop(self) -> None:
        """No time passes from now on."""
        if self._works and self._stopped_at is None:
            self._stopped_at = time.monotonic()

    def go_on(self) -> None:
        """It goes on where it was stopped."""
        if self._stopped_at is not None:
            self._lag += time.monotonic() - self._stopped_at
            self._stopped_at = None

    def keep(self) -> bool:
        """Never go back to the real time; whether this is the clock of the loop."""
        self._kept = self._works
        return self._works

    def skip(self, seconds: float) -> bool:
        """Let so much time be over at once; whether it was, as it is not where the time stands still."""
        if self._kept and self._stopped_at is None:
            self._lag -= seconds
            return True
        return False

    def end(self) -> None:
        """No more stops; the real time again, unless there are timers by now that go by this one."""
        self.go_on()
        if self._works and not self._kept and self._loop not in known_timers:
            vars(self._loop).pop("time", None)

    def _time(self) -> float:
        return (time.monotonic() if self._stopped_at is None else self._stopped_at) - self._lag
