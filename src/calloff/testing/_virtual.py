"""An event loop on which time passes only while nobody has anything to do: exact points, no sleeping, any length."""

import asyncio
import selectors
from math import inf, nextafter
from typing import Any

__all__ = ["VirtualLoop"]

START = 1000.0


class VirtualLoop(asyncio.SelectorEventLoop):
    """Has a clock of its own, which jumps to the next timer as soon as nothing else is left to do.

    So a test of a limit of an hour takes no time, and every point on the clock is exact:

        def test_it_gives_up_after_an_hour():
            with asyncio.Runner(loop_factory=VirtualLoop) as runner:
                with pytest.raises(calloff.TimedOut):
                    runner.run(fetch_for_an_hour())

    It is for code that waits for timers and for other code on the loop. While something outside works (a thread, a process,
    a socket), the clock does not wait for it. With `calloff.run`, pass ``interrupt=False``: what interrupts a blocked loop
    goes by the real clock.

    Raises:
        AssertionError: everybody waits, and no timer is left that could end it: out of the run of the loop, in place of a
            test that hangs. The test's or the code's fault.
    """

    def __init__(self) -> None:
        selector = selectors.DefaultSelector()
        super().__init__(selector)
        self._point = START
        self._look = selector.select
        selector.select = self._jump  # type: ignore[method-assign]  # the loop waits in it, and nowhere else

    def time(self) -> float:
        """The point on the clock, in seconds."""
        return self._point

    @property
    def elapsed(self) -> float:
        """Seconds on the clock since the loop was made."""
        return round(self._point - START, 6)

    def block(self, seconds: float) -> None:
        """Let the clock go on by that much at once, as if the step that runs now took that long."""
        self._point += seconds

    def _jump(self, timeout: float | None = None) -> list[Any]:
        events: list[Any] = self._look(0)
        if not events and timeout != 0:
            if timeout is None:
                raise AssertionError("everybody waits, and there is nothing to wait for")
            loop: Any = self
            self._point = max(self._point, loop._scheduled[0]._when)
            if self._point + loop._clock_resolution == self._point:  # so far away that asyncio sees no difference
                self._point = nextafter(self._point, inf)
        return events
