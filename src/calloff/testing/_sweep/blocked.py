"""A limit for a run that blocks its event loop, which no timer of that loop can end.

The process of a run tells its server how long it may still take; when that time is over, the server has it say where every
thread is, and kills it.
"""

import os
import struct

__all__ = ["LIMIT", "is_alone", "tell_of_limits", "within"]

#: a length with this bit is no length of an answer: the rest are milliseconds
LIMIT = 1 << 31

_writer = -1
#: as it was when this was imported: some suites make it raise where an event loop runs, and this is called there
_write = os.write


def tell_of_limits(writer: int) -> None:
    """From now on this process, that of a run, tells its limits by this end of a pipe."""
    global _writer
    _writer = writer


def is_alone() -> bool:
    """Whether this process is that of a run, and ends with it."""
    return _writer >= 0


def within(seconds: float) -> None:
    """The process is killed in so many seconds, unless it ends or sets another limit before."""
    if _writer >= 0:
        _write(_writer, struct.pack("!I", LIMIT | int(seconds * 1000)))
