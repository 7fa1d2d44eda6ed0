"""How many operations ended in each of the last seconds, as the screen and the page draw it.

A program tells how many of its operations have ended so far, a number that only rises. So whoever looks now and then learns
the rate without anybody counting events for them, and a look that fails is made up for by the next.
"""

from collections.abc import Mapping
from math import floor

__all__ = ["Rates", "per_second", "sparks"]

_MEAN = 5  # seconds
_SPARKS = "▁▂▃▄▅▆▇█"


class Rates:
    """The last `seconds` full seconds.

    Args:
        seconds: how many of them are kept.
    """

    def __init__(self, seconds: int = 60) -> None:
        self._seconds = seconds
        self._over: dict[int, int] = {}
        self._ended: dict[int, float] = {}
        self._seen = 0

    def see(self, now: float, over: Mapping[int, int]) -> None:
        """Take note of a look.

        Args:
            now: seconds on any clock that goes on.
            over: for each process that answered how many have ended in it. One that was not known counts from now on.
        """
        more = sum(max(0, number - self._over.get(pid, number)) for pid, number in over.items())
        self._over.update(over)
        second = floor(now)
        since = range(max(min(self._seen + 1, second), second - self._seconds), second + 1) if self._seen else [second]
        for each in since:  # a look that comes after several seconds speaks for all of them
            self._ended[each] = self._ended.get(each, 0.0) + more / len(since)
        self._seen = second
        self._ended = {each: ended for each, ended in self._ended.items() if each >= second - self._seconds}

    def series(self) -> tuple[float, ...]:
        """How many ended in each of the full seconds, the latest last; shorter when it is not so long ago that it began."""
        return tuple(round(ended, 1) for each, ended in sorted(self._ended.items()) if each < self._seen)

    def mean(self) -> float:
        """How many ended in a second, of late."""
        last = self.series()[-_MEAN:]
        return sum(last) / len(last) if last else 0.0


def per_second(rate: float) -> str:
    """``0.4/s``, ``12/s``, ``3.4k/s``."""
    if rate >= 1000:
        return f"{rate / 1000:.1f}k/s"
    return f"{rate:.0f}/s" if rate >= 9.95 else f"{rate:.1f}/s"


def sparks(series: tuple[float, ...], width: int) -> str:
    """The end of a series as a line of that many blocks, the highest one full; nothing where nothing ended."""
    shown = series[-width:]
    most = max(shown, default=0.0)
    if not most:
        return ""
    return "".join(_SPARKS[min(7, int(8 * value / most))] for value in shown)
