"""The memory that a worker and its owner share while a batch runs; `_child/batch.py` is the other end of it."""

import contextlib
import mmap
import os
from collections.abc import Iterator
from typing import Any

from .._child.batch import END_HERE, HEAD, RECORD, SIZE
from .._os import proc

__all__ = ["Spool", "has_children"]


def has_children(body: Any) -> bool:
    """Whether the worker has any process below it, so that a result may not be told before the end of the job."""
    pid = None if body is None else body.pid
    return proc.has_children(pid or 0)


class Spool:
    """Memory that a worker writes and we read: which item runs, and the results of those before it."""

    def __init__(self) -> None:
        self._file = os.memfd_create("calloff-spool", os.MFD_CLOEXEC)
        os.ftruncate(self._file, SIZE)
        self._memory = mmap.mmap(self._file, SIZE)
        self.path = f"/proc/{os.getpid()}/fd/{self._file}"
        self.clear()

    def clear(self) -> None:
        """For the next batch."""
        HEAD.pack_into(self._memory, 0, HEAD.size, 0.0, HEAD.size, 0.0, False)
        self._at = HEAD.size

    def first(self) -> float:
        """Since when the first item ran."""
        first: float = HEAD.unpack_from(self._memory)[3]
        return first

    def began(self) -> float:
        """Since when an item runs, on the clock of the worker; 0 between two items."""
        began: float = HEAD.unpack_from(self._memory)[1]
        return began

    def has_more(self) -> bool:
        """Whether there are results that were not read."""
        end: int = HEAD.unpack_from(self._memory)[0]
        return end > self._at

    def untold(self) -> int:
        """How many results there are that were not read."""
        end: int = HEAD.unpack_from(self._memory)[0]
        at, count = self._at, 0
        while at < end:
            at += RECORD.size + RECORD.unpack_from(self._memory, at)[1]
            count += 1
        return count

    def end_here(self) -> bool:
        """Have the worker go no further than the item that runs; ``False`` when it may have begun the next one."""
        before = HEAD.unpack_from(self._memory)[:2]
        self._memory[END_HERE] = 1
        os.sched_yield()  # a call of the system: what was written is seen before what follows is read
        return before[1] != 0.0 and before == HEAD.unpack_from(self._memory)[:2]

    def read(self, *, all_of_it: bool) -> Iterator[tuple[float, bool, bytes]]:
        """The results that have come since the last look: when the item ended, whether it is a value, its pickle."""
        end, _, certain, *_ = HEAD.unpack_from(self._memory)
        end = end if all_of_it else certain
        memory, unpack, size = self._memory, RECORD.unpack_from, RECORD.size
        while self._at < end:
            at = self._at + size
            ended, length, fine = unpack(memory, self._at)
            self._at = at + length
            yield ended, fine, memory[at : self._at]

    def close(self) -> None:
        """Give back the memory."""
        if self._file >= 0:
            self._memory.close()
            with contextlib.suppress(OSError):
                os.close(self._file)
            self._file = -1
