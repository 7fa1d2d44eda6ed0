"""How a program is: whether its event loop keeps up, what is stuck, and how long the oldest work has been at it.

A loop that is late is seen by a pulse: a timer that notes by how much it comes too late. It begins with the first question,
beats four times a second, and remembers a minute. Asked from another thread, a beat that is overdue counts, too: so a loop
that is blocked now is told as it is.
"""

import asyncio
import time
from asyncio import AbstractEventLoop, TimerHandle
from collections import deque
from dataclasses import dataclass
from typing import Any

from .._operation.operation import Operation, live
from .._operation.snapshot import clock_of, snatch
from .._words.duration import delay
from .._words.frame import at_line
from .._words.state import State

__all__ = ["Health", "Work", "health"]

_EVERY, _REMEMBERED = 0.25, 60.0


@dataclass(frozen=True, slots=True)
class Work:
    """One operation in a `Health`.

    Attributes:
        id: of the operation.
        name: of the operation.
        elapsed: seconds since its start.
        where: the line at which it is, or ``""``.
    """

    __module__ = "calloff.service"

    id: str
    name: str
    elapsed: float
    where: str


@dataclass(frozen=True, slots=True)
class Health:
    """How the program is.

    Attributes:
        ok: whether nothing is beyond the limits that were asked for.
        late: the most seconds by which the event loop was late in the last minute (since the first question).
        operations: how many operations run, the abandoned ones included.
        stopping: how many of them were asked to stop and have not ended.
        oldest: the one that has been running for longest, ``None`` without any.
        abandoned: what could not be stopped and still runs, oldest first.
    """

    __module__ = "calloff.service"

    ok: bool
    late: float
    operations: int
    stopping: int
    oldest: Work | None
    abandoned: tuple[Work, ...]


def health(*, late: float = 1.0, abandoned: int = 10) -> Health:
    """Tell how this program is; from any thread, also while the event loop is blocked.

    Args:
        late: `Health.ok` is ``False`` when the loop was later than that many seconds in the last minute,
        abandoned: or when more operations than that could not be stopped and still run.

    Raises:
        ValueError: `late` is negative or NaN. The caller's fault.

    The first call on a loop begins to measure that. A probe that restarts a program should ask for more than a bad minute:
    see the how-to page on services.
    """
    late = delay(late, "late")
    loop = asyncio._get_running_loop()
    if loop is not None and loop not in _pulses:
        for closed in [known for known in snatch(lambda: _pulses) if known.is_closed()]:
            _pulses.pop(closed, None)
        _pulses[loop] = _Pulse(loop)
    behind = max((pulse.late() for pulse in snatch(_pulses.values)), default=0.0)
    running = snatch(lambda: live)
    stuck = tuple(_work(op) for op in running if op.state is State.ABANDONED)
    oldest = min((op for op in running if not op.done()), key=lambda op: op._started_at, default=None)
    return Health(
        ok=behind <= late and len(stuck) <= abandoned,
        late=behind,
        operations=len(running),
        stopping=sum(op.state is State.STOPPING for op in running),
        oldest=None if oldest is None else _work(oldest),
        abandoned=stuck,
    )


def _work(op: Operation[Any]) -> Work:
    body = op.body
    where = () if body is None else op.where()
    return Work(op.id, op.name, max(0.0, clock_of(op) - op._started_at), at_line(where))


class _Pulse:
    """Notes by how much one loop is late."""

    def __init__(self, loop: AbstractEventLoop) -> None:
        self._loop = loop
        self._late: deque[tuple[float, float]] = deque()
        self._due = 0.0
        self._handle: TimerHandle
        self._next()

    def late(self) -> float:
        """The most of the last minute."""
        now = time.monotonic()
        if self._loop.is_closed():
            return 0.0
        worst = max((late for at, late in snatch(lambda: self._late) if at > now - _REMEMBERED), default=0.0)
        return max(worst, now - self._due)

    def _next(self) -> None:
        self._due = time.monotonic() + _EVERY
        self._handle = self._loop.call_later(_EVERY, self._beat)

    def _beat(self) -> None:
        now = time.monotonic()
        late = now - self._due
        while self._late and (self._late[0][0] <= now - _REMEMBERED):
            self._late.popleft()
        while self._late and self._late[-1][1] <= late:  # what is later and worse makes the others forgotten
            self._late.pop()
        self._late.append((now, late))
        self._next()


_pulses: dict[AbstractEventLoop, _Pulse] = {}
