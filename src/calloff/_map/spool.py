"""The memory that a worker and its owner share while a batch runs; `_child/batch.py` is the other end of it."""

import contextlib
import mmap
import os
from collections.abc import Iterator
from typing import Any

from .._child.batch import COUNT, END_HERE, HEAD, RECORD, SIZE
from .._os import proc

__all__ = ["Spool", "has_children"]

_WHERE = (1 << COUNT) - 1


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
        HEAD.pack_into(self._memory, 0, HEAD.size, 0, 0.0, HEAD.size, 0.0, False)
        self._at = HEAD.size
        self._told = 0

    def _head(self) -> Any:
        return HEAD.unpack_from(self._memory)

    def first(self) -> float:
        """Since when the first item ran."""
        first: float = self._head()[4]
        return first

    def running(self) -> tuple[int, float]:
        """The number of the item that runs, from 1, and since when, on the clock of the worker; zeros between two items."""
        _, begun, began, *_ = self._head()
        return (begun, began) if begun > self._head()[0] >> COUNT else (0, 0.0)

    def began(self) -> float:
        """Since when an item runs, on the clock of the worker; 0 between two items."""
        return self.running()[1]

    def has_more(self) -> bool:
        """Whether there are results that were not read."""
        return self.untold() > 0

    def untold(self) -> int:
        """How many results there are that were not read."""
        results: int = self._head()[0] >> COUNT
        return results - self._told

    def end_here(self) -> bool:
        """Have the worker go no further than the item that runs; ``False`` when it may have begun the next one."""
        number, _ = self.running()
        self._memory[END_HERE] = 1
        os.sched_yield()  # a call of the system: what was written is seen before what follows is read
        return number != 0 and number == self.running()[0]

    def read(self, *, all_of_it: bool) -> Iterator[tuple[float, int, bytes]]:
        """The results that have come since the last look: when the item ended, what the result is, and itself."""
        results, _, _, certain, *_ = self._head()
        end = results & _WHERE if all_of_it else certain
        memory, unpack, size = self._memory, RECORD.unpack_from, RECORD.size
        while self._at < end:
            at = self._at + size
            ended, length, kind = unpack(memory, self._at)
            self._at = at + length
            self._told += 1
            yield ended, kind, memory[at : self._at]

    def news(self, *, all_of_it: bool) -> tuple[tuple[Any, ...], bytes]:
        """Of the head what a reader elsewhere wants, and what was written since the last look.

        Returns:
            The number of results, the number and the beginning of the item that runs, where those results end that may be
            told, since when the first item ran; and the bytes of the results that have come.
        """
        results, _, _, certain, first, _ = self._head()
        end = results & _WHERE
        new, self._at = self._memory[self._at : end], end
        return (results >> COUNT, *self.running(), end if all_of_it else certain, first), new

    def close(self) -> None:
        """Give back the memory."""
        if self._file >= 0:
            self._memory.close()
            with contextlib.suppress(OSError):
                os.close(self._file)
            self._file = -1
