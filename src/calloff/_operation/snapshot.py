"""Operations as plain data, for those who look from outside: other threads, and through them other processes.

`Facts` is one operation at one moment, raw: clocks are those of its loop, frames are not looked up. It holds no result, no
exception and no object of the program, so that it may be kept. Reading it takes no lock: each attribute is read at one
stroke, and an operation that goes on meanwhile is merely seen between two of its steps.

`History` is what has ended, in the same form.
"""

import time
from collections.abc import Callable, Iterable
from typing import Any, NamedTuple, TypeVar

from .._words.frame import RawStack
from .._words.state import State
from .._words.text import plain
from .history import Ended, Ring, told_of
from .observers import failure
from .operation import Operation, live
from .stopping import Stop

__all__ = ["Facts", "History", "clock_of", "facts_of", "snatch"]

T = TypeVar("T")


class Facts(NamedTuple):
    """One operation, running or ended, as plain data; points in time are on the clock of its loop.

    Attributes:
        number: its id.
        parent: the id of its parent.
        phase: its state.
        timeout: seconds; of an ended one, how long it might have taken in all.
        grace: of an ended one, what its stop began with, if one was asked for.
        stall: of one that runs.
        stop: how its stop goes or went, if one was asked for.
        error: type and text of what a failed one raised.
        raised: of one that has failed, the frames that the error came through.
        node: the machine that it runs or ran on, where that is not this one.
    """

    number: int
    name: str
    place: str
    parent: int | None
    phase: State
    started_at: float
    ended_at: float | None
    deadline: float | None
    timeout: float | None
    grace: float | None
    stall: float | None
    progress: Any
    stop: Stop | None
    error: str | None
    raised: RawStack = ()
    node: str = ""


def facts_of(operation: Operation[Any]) -> Facts:
    """The facts of an operation now."""
    parent = operation._parent
    limits = operation._limits
    error = failure(operation)
    body = operation.body
    return Facts(
        operation._number,
        operation._name,
        operation._place,
        None if parent is None else parent._number,
        operation._phase,
        operation._started_at,
        operation._ended_at,
        operation.deadline,
        None if limits is None else limits.timeout,
        operation._grace,
        None if limits is None else limits.stall,
        plain(operation._progress),
        operation._stop,
        *told_of(error),
        "" if body is None else body.node,
    )


class History(Ring):
    """The operations that ended last.

    Args:
        size: how many are kept.
    """

    __slots__ = ()

    def facts(self) -> list[Facts]:
        """What is kept, oldest first; abandoned ones that still run are not among them: they are listed as live."""
        running = {operation._number for operation in snatch(lambda: tuple(live))}
        return [_facts_of_ended(each) for each in snatch(lambda: tuple(self.ended)) if each.number not in running]


def _facts_of_ended(ended: Ended) -> Facts:
    deadline, stop = ended.deadline, ended.stop
    timeout = None if deadline is None else round(deadline - ended.started_at, 6)
    grace = None if stop is None else round(stop.force_at - stop.requested_at, 6)
    return Facts(*ended[:8], timeout, grace, None, *ended[8:])


def snatch(copy: Callable[[], Iterable[T]]) -> tuple[T, ...]:
    """A copy of what another thread goes on changing: taken again when a change came in between."""
    while True:
        try:
            return tuple(copy())
        except RuntimeError:  # a collection of garbage let the other thread run in the middle of it
            continue


def clock_of(operation: Operation[Any]) -> float:
    """The time now on the clock of the operation's loop, from any thread.

    The clock of uvloop stands still while the loop is blocked, which is when people look; it is the system's.
    """
    loop = operation.get_loop()
    return time.monotonic() if type(loop).__module__.startswith("uvloop") else operation.timers.now()
