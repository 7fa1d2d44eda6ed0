"""A loop on which time passes only while nobody has anything to do: exact points, no sleeping, any length of time.

`run` is `asyncio.run` on such a loop. A program that waits for something that can't come fails at once, with a sentence.
"""

import asyncio
from math import inf, nextafter

START = 1000.0


class VirtualLoop(asyncio.SelectorEventLoop):
    def __init__(self):
        super().__init__()
        self._point = START
        self._select = self._selector.select
        self._selector.select = self._jump

    def time(self):
        return self._point

    def block(self, seconds):
        """As if the running step took that long."""
        self._point += seconds

    def _jump(self, timeout=None):
        events = self._select(0)
        if not events and timeout != 0:
            if timeout is None:
                raise AssertionError("everybody waits, and there is nothing to wait for")
            self._point = max(self._point, self._scheduled[0]._when)
            if self._point + self._clock_resolution == self._point:  # so far away that asyncio sees no difference
                self._point = nextafter(self._point, inf)
        return events


def run(work, *args):
    """Run an async function to its end, in no time."""

    async def main():
        return await work(*args)

    with asyncio.Runner(loop_factory=VirtualLoop) as runner:
        return runner.run(main())


def block(seconds):
    """As if the running step took that long."""
    asyncio.get_running_loop().block(seconds)


def now():
    """Seconds since the loop was made."""
    return round(asyncio.get_running_loop().time() - START, 6)
