"""A page of memory that a guard shares with its worker: which job is asked to stop and why, which job is done.

The keeper makes it and keeps a hold of it: of a guard that is killed it can still tell whether anything was begun.

It ties an asking to its job: the signal only says "look", and what is found there for a job that is over is not acted
upon. The worker notes here for which job the asking has arrived, so the guard knows when to ask again. And when a
worker dies, the page tells whether it had begun with the job at all. Each field has one writer.

The limits of a job stand there, too, from its begin: a guard whose clock rings reads them, and is not woken for each job.
"""

import contextlib
import errno
import marshal
import mmap
import os
import sys
from math import inf
from struct import Struct
from typing import Any

from .._os.fds import pipe, raised

__all__ = ["ASKED", "BEGUN", "DONE", "Page"]

_NUMBER = Struct("Q")  # as the machine writes it, in one go
_LENGTH = Struct("I")
_TIME = Struct("d")
_PAIR = Struct("dd")
#: where in `Page.numbers` the worker finds what it reads and writes for each job
ASKED, DONE, BEGUN = range(3)
_ASKED, _DONE, _BEGUN, _NOTED, _HEARD, _REFUSED, _LIMITED, _DEADLINE, _LAUNCHED, _STATUS, _HELD, _PLAN = range(0, 96, 8)
_SIZE = _PLAN + _PAIR.size
_REASON = _SIZE + 8
#: what is added to a status, which may be the number of a signal below zero: 0 means none
_ENDED = 1 << 16
#: what is written to ring: eight bytes, as files for events want it
_RING = (1).to_bytes(8, sys.byteorder)
#: bytes of the reason and of who gave it: both fit on the page, whatever they are written in
_TEXT, _NAME = 2000, 1000


class Page:
    """Numbers of jobs grow from 1; 0 means none."""

    __slots__ = ("_memory", "_rope", "bell", "numbers", "planned")

    def __init__(self) -> None:
        self._memory = mmap.mmap(-1, mmap.PAGESIZE)
        #: its numbers, for one who has no time for a call
        self.numbers: memoryview[int] = memoryview(self._memory).cast("Q")
        #: the worker: the limits that it has noted last
        self.planned: tuple[float, float] | None = None
        _PAIR.pack_into(self._memory, _PLAN, inf, inf)
        #: rings when a job is asked: for a thread of the worker, as its signals are heard in the main thread alone
        self.bell, self._rope = _bell()

    def clear(self) -> None:
        """The keeper: what this page is shared with has another piece of work next."""
        self._memory[:_REASON] = bytes(_REASON)
        _PAIR.pack_into(self._memory, _PLAN, inf, inf)

    def leave_bell(self) -> None:
        """The keeper: the guard that was forked has it, and whoever that forks."""
        for file in {self.bell, self._rope}:
            os.close(file)

    def ask(self, number: int, reason: tuple[Any, ...]) -> None:
        """The guard: job `number` is asked to stop."""
        kind, text, by, at = reason
        words = marshal.dumps((kind, _cut(text, _TEXT), None if by is None else _cut(by, _NAME), at))
        memory = self._memory
        _LENGTH.pack_into(memory, _SIZE, len(words))
        memory[_REASON : _REASON + len(words)] = words
        _NUMBER.pack_into(memory, _ASKED, number)
        self.ring()

    def note_asked(self) -> None:
        """The guard: the work, a command, was asked to stop."""
        _NUMBER.pack_into(self._memory, _ASKED, 1)

    def ring(self) -> None:
        """Wake whoever waits for the bell."""
        with contextlib.suppress(OSError):
            os.write(self._rope, _RING)

    def hush(self) -> None:
        """Until it rings again."""
        with contextlib.suppress(BlockingIOError):
            os.read(self.bell, len(_RING))

    @property
    def asked(self) -> int:
        """The worker: which job is asked to stop."""
        return int(_NUMBER.unpack_from(self._memory, _ASKED)[0])

    @property
    def reason(self) -> tuple[Any, ...]:
        """The worker: why."""
        size = int(_LENGTH.unpack_from(self._memory, _SIZE)[0])
        reason: tuple[Any, ...] = marshal.loads(self._memory[_REASON : _REASON + size])
        return reason

    @property
    def launched(self) -> bool:
        """The keeper: whether the guard has started the work, or was about to."""
        return bool(_NUMBER.unpack_from(self._memory, _LAUNCHED)[0])

    @launched.setter
    def launched(self, is_so: bool) -> None:
        _NUMBER.pack_into(self._memory, _LAUNCHED, is_so)

    @property
    def status(self) -> int | None:
        """The keeper: how the work has ended, if the guard had reaped it before it killed anything; else ``None``."""
        found = int(_NUMBER.unpack_from(self._memory, _STATUS)[0])
        return found - _ENDED if found else None

    @status.setter
    def status(self, status: int) -> None:
        _NUMBER.pack_into(self._memory, _STATUS, status + _ENDED)

    @property
    def begun(self) -> int:
        """The guard: the last job that the worker has begun with."""
        return int(_NUMBER.unpack_from(self._memory, _BEGUN)[0])

    def note_plan(self, plan: tuple[float, float] | None) -> None:
        """The worker, before it begins with a job: when force is due at the latest, and the deadline."""
        self.planned = plan
        _PAIR.pack_into(self._memory, _PLAN, *(plan or (inf, inf)))

    @property
    def plan(self) -> tuple[int, float, float]:
        """The guard: the last job that the worker has begun with, when force is due there, and its deadline."""
        while True:
            number = self.begun
            force_at, deadline = _PAIR.unpack_from(self._memory, _PLAN)
            if number == self.begun:
                return number, force_at, deadline

    @property
    def done(self) -> int:
        """The guard: the last job that has ended."""
        return int(_NUMBER.unpack_from(self._memory, _DONE)[0])

    @property
    def noted(self) -> int:
        """The guard: the last job for which the worker has seen the asking, whether or not its function has."""
        return int(_NUMBER.unpack_from(self._memory, _NOTED)[0])

    @noted.setter
    def noted(self, number: int) -> None:
        _NUMBER.pack_into(self._memory, _NOTED, number)

    @property
    def heard(self) -> int:
        """The guard: the last job in whose function the asking has arrived."""
        return int(_NUMBER.unpack_from(self._memory, _HEARD)[0])

    @heard.setter
    def heard(self, number: int) -> None:
        _NUMBER.pack_into(self._memory, _HEARD, number)

    @property
    def held(self) -> int:
        """The guard: the last job whose function was found where it must not be interrupted."""
        return int(_NUMBER.unpack_from(self._memory, _HELD)[0])

    @held.setter
    def held(self, number: int) -> None:
        _NUMBER.pack_into(self._memory, _HELD, number)

    @property
    def refused(self) -> int:
        """The guard: the last job whose function was asked and went on."""
        return int(_NUMBER.unpack_from(self._memory, _REFUSED)[0])

    @refused.setter
    def refused(self, number: int) -> None:
        _NUMBER.pack_into(self._memory, _REFUSED, number)

    def limit(self, number: int, deadline: float | None) -> None:
        """The guard: job `number` has this deadline now."""
        _TIME.pack_into(self._memory, _DEADLINE, inf if deadline is None else deadline)
        _NUMBER.pack_into(self._memory, _LIMITED, number)

    @property
    def limited(self) -> int:
        """The worker: the job whose deadline was told last."""
        return int(_NUMBER.unpack_from(self._memory, _LIMITED)[0])

    @property
    def deadline(self) -> float:
        """The worker: that deadline, on the monotonic clock; infinity for none."""
        return float(_TIME.unpack_from(self._memory, _DEADLINE)[0])


def _bell() -> tuple[int, int]:
    """A file that can be read once it was rung, and the one to ring it by: the same where the system has such files."""
    try:
        bell = raised(os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC))
    except (OSError, AttributeError) as error:
        if isinstance(error, OSError) and error.errno not in (errno.ENOSYS, errno.EPERM):
            raise
        return pipe(os.O_NONBLOCK)
    return bell, bell


def _cut(text: object, size: int) -> str:
    """The beginning of a text, which takes no more than so many bytes."""
    return str(text)[:size].encode("utf-8", "surrogatepass")[:size].decode("utf-8", "ignore")
