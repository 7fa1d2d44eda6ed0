"""The memory that a worker and its owner share while a batch runs; `_child/batch.py` is the other end of it."""

import contextlib
import marshal
import mmap
import os
from struct import Struct
from typing import Any

from .._child.batch import COUNT, END_HERE, ENDS, FIRST, HEAD, SIZE
from .._os import proc

__all__ = ["Spool", "elements", "has_children"]

_WHERE = (1 << COUNT) - 1
#: what `marshal` writes before the elements of a list
_LIST = Struct("<ci")


def has_children(body: Any) -> bool:
    """Whether the worker has any process below it, so that a result may not be told before the end of the job."""
    pid = None if body is None else body.pid
    return proc.has_children(pid or 0)


def elements(data: bytes, count: int) -> list[Any]:
    """The results that a worker has written."""
    found: list[Any] = marshal.loads(_LIST.pack(b"[", count) + data)
    return found


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
        HEAD.pack_into(self._memory, 0, FIRST, 0, 0.0, FIRST, 0.0, False)
        self._at = FIRST
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

    def read(self, *, all_of_it: bool) -> tuple[list[float], list[Any]]:
        """The results that have come since the last look: when the items ended, and the results themselves.

        One that is no plain value is a tuple: whether it is a value at all, and the pickle of that or of the error.
        """
        results, _, _, certain, *_ = self._head()
        number, end = divmod(results if all_of_it else certain, _WHERE + 1)
        start, count = self._told, number - self._told
        if count <= 0:
            return [], []
        found = elements(self._memory[self._at : end], count)
        self._told, self._at = number, end
        return self._ends(start, number), found

    def _ends(self, start: int, stop: int) -> list[float]:
        with memoryview(self._memory) as memory, memory.cast("d") as ends:
            ended: list[Any] = ends[ENDS + start : ENDS + stop].tolist()
        return ended

    def news(self, *, all_of_it: bool) -> tuple[tuple[Any, ...], bytes]:
        """Of the head what a reader elsewhere wants, and what was written since the last look.

        Returns:
            The number of results, the number and the beginning of the item that runs, how many of the results may be told,
            since when the first item ran, when those items ended whose results have come; and the bytes of these.
        """
        results, _, _, certain, first, *_ = self._head()
        number, end = divmod(results, _WHERE + 1)
        ended = self._ends(self._told, number)
        new = self._memory[self._at : end]
        self._told, self._at = number, end
        return (number, *self.running(), number if all_of_it else certain >> COUNT, first, ended), new

    def close(self) -> None:
        """Give back the memory."""
        if self._file >= 0:
            self._memory.close()
            with contextlib.suppress(OSError):
                os.close(self._file)
            self._file = -1
