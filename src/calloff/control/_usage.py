"""What the process of an operation uses, and everything that it has started; and how that is told."""

import os

from .._os.proc import believed, descendants, read
from .._words.durations_text import spoken
from ._records import Usage

__all__ = ["told", "usage_of"]

# fields of /proc/PID/stat behind the name of the program
_USER, _SYSTEM, _RESIDENT = 11, 12, 21


def usage_of(pid: int | None) -> Usage | None:
    """Processor time and memory of a process and its descendants; nothing where the system does not tell."""
    if pid is None or not believed():
        return None
    ticks = pages = processes = 0
    for each in (pid, *(child for child, _ in descendants(pid))):
        fields = read(f"/proc/{each}/stat").rpartition(b")")[2].split()
        if len(fields) > _RESIDENT:  # else it has just ended
            ticks += int(fields[_USER]) + int(fields[_SYSTEM])
            pages += int(fields[_RESIDENT])
            processes += 1
    if not processes:
        return None
    return Usage(ticks / os.sysconf("SC_CLK_TCK"), pages * os.sysconf("SC_PAGE_SIZE"), processes)


def told(usage: Usage) -> str:
    """It in words: ``12.0 s of processor time, 85 MiB, in 3 processes``."""
    processes = "" if usage.processes == 1 else f", in {usage.processes} processes"
    return f"{spoken(usage.cpu)} of processor time, {usage.memory / 2**20:.0f} MiB{processes}"
