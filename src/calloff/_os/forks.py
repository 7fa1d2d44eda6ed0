"""Whether this process is a fork of the one that it was: told without a call of the system."""

import mmap
import os
import sys

__all__ = ["Mark", "mark"]

#: of `madvise`: a child finds zeros there, whatever forks it
_WIPE_ON_FORK = 18


class Mark:
    """Says of a process whether it is the one that set the mark; where memory can't tell, by its number."""

    __slots__ = ("_pid",)

    def __init__(self) -> None:
        self._pid = os.getpid()

    def __getitem__(self, at: int) -> bool:
        return os.getpid() == self._pid


_page: "list[mmap.mmap]" = []


def prepare() -> None:
    """Have a page of memory that forks find wiped. Called in an ancestor of those that set marks: see `mark`."""
    if sys.platform != "linux":
        return
    page = mmap.mmap(-1, mmap.PAGESIZE, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    try:
        page.madvise(_WIPE_ON_FORK)
    except (OSError, ValueError, AttributeError):  # a kernel before 4.14
        page.close()
        return
    page[0] = 1
    _page.append(page)


def mark() -> "Mark | mmap.mmap":
    """Something whose first element is true in this process, and false in every fork of it.

    The page that an ancestor has prepared was wiped on the way here: so it is known that this works.
    """
    if not _page or _page[0][0]:
        return Mark()
    page = _page[0]
    page[0] = 1
    return page
