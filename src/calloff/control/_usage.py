"""What the process of an operation uses, and everything that it has started."""

import os

from .._os.proc import believed, descendants, read
from ._records import Usage

__all__ = ["usage_of"]

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
