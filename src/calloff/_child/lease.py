"""Until when an owner on another machine is believed to live: one page that its agent writes and every guard reads.

The agent of a cluster (`calloff.cluster`) is the owner here, and lives as long as its machine; whoever it works for is far
away and may be gone without a word. So the agent notes on this page how long that one is believed, and each guard kills
its work by itself when the time is over: also while the agent is stopped, and nobody sends anything.

Whoever has the page mapped holds a lock on its file, as long as any process of that agent lives: so a later agent on the
same machine can see that nothing is left of an earlier one.
"""

import mmap
import time
from struct import Struct

__all__ = ["Lease", "now"]

_TIME = Struct("<d")
#: a clock that goes on while the machine sleeps
_CLOCK = getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC)


def now() -> float:
    """Seconds on the clock that leases are counted on; it is that of one machine."""
    return time.clock_gettime(_CLOCK)


class Lease:
    """The page, in an open file of at least its size."""

    __slots__ = ("_memory",)

    def __init__(self, file: int) -> None:
        self._memory = mmap.mmap(file, mmap.PAGESIZE)

    @property
    def until(self) -> float:
        """When everything is to be killed, on the clock of `now`."""
        return float(_TIME.unpack_from(self._memory, 0)[0])

    @until.setter
    def until(self, at: float) -> None:
        _TIME.pack_into(self._memory, 0, at)

    def left(self) -> float:
        """For how many seconds the owner is still believed; 0 or less when the time is over."""
        return self.until - now()

    def close(self) -> None:
        """Look at it no more."""
        self._memory.close()
