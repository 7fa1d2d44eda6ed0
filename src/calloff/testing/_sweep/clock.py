"""A loop whose time stands still while the sweep looks around.

What the set-up has timed (a message that comes after 50 ms, say) would else come the earlier for the function that runs
again, the longer a busy machine takes to look.
"""

import asyncio
import time

__all__ = ["Clock"]


class Clock:
    """Stops the time of an event loop, as far as it is one of Python's own with the real time.

    Args:
        loop: the event loop.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._works = getattr(type(loop), "time", None) is asyncio.BaseEventLoop.time and "time" not in vars(loop)
        self._lag = 0.0
        self._stopped_at: float | None = None

    def stop(self) -> None:
        """No time passes from now on."""
        if self._works and self._stopped_at is None:
            self._stopped_at = time.monotonic()
            self._loop.time = self._time  # type: ignore[method-assign]  # of this loop alone

    def go_on(self) -> None:
        """It goes on where it was stopped."""
        if self._stopped_at is not None:
            self._lag += time.monotonic() - self._stopped_at
            self._stopped_at = None

    def end(self) -> None:
        """The real time again."""
        self._stopped_at = None
        if self._works:
            vars(self._loop).pop("time", None)

    def _time(self) -> float:
        return (time.monotonic() if self._stopped_at is None else self._stopped_at) - self._lag
