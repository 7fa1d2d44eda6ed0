"""Operations as plain data, for those who look from outside: other threads, and through them other processes.

`Facts` is one operation at one moment, raw: clocks are those of its loop, frames are not looked up. It holds no result, no
exception and no object of the program, so that it may be kept. Reading it takes no lock: each attribute is read at one
stroke, and an operation that goes on meanwhile is merely seen between two of its steps.

`History` is the ring of those that have ended. It listens to every ending while somebody may look, so what it does there
is one tuple, and no more.
"""

import time
from collections import deque
from collections.abc import Callable, Iterable
from math import isfinite
from reprlib import Repr
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar

from .._words.state import State
from .observers import Observer, failure
from .registry import live
from .stopping import Stop

if TYPE_CHECKING:
    from .operation import Operation

__all__ = ["Facts", "History", "clock_of", "facts_of", "plain", "snatch"]

T = TypeVar("T")
_FAILED = State.FAILED
_LONGEST = 1000
_EXACT = 1 << 53  # whole numbers up to here mean the same to every reader of JSON


class Facts(NamedTuple):
    """One operation, running or ended, as plain data; points in time are on the clock of its loop.

    Attributes:
        number: its id.
        parent: the id of its parent.
        phase: its state.
        stop: how its stop goes or went, if one was asked for.
        error: type and text of what a failed one raised.
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
    grace: float
    stall: float | None
    progress: Any
    stop: Stop | None
    error: str | None


def facts_of(operation: "Operation[Any]") -> Facts:
    """The facts of an operation now."""
    parent = operation._parent
    phase = operation._phase
    return Facts(
        operation._number,
        operation._name,
        operation._place,
        None if parent is None else parent._number,
        phase,
        operation._started_at,
        operation._ended_at,
        operation._deadline,
        operation._limit,
        operation._grace,
        operation._stall,
        plain(operation._progress),
        operation._stop,
        _error(operation) if phase is _FAILED else None,
    )


class History(Observer):
    """The operations that ended last.

    Args:
        size: how many are kept.
    """

    __slots__ = ("_ended", "_keep", "size")
    guarded = False  # it raises nothing

    def __init__(self, size: int) -> None:
        self.size = size
        self._ended: deque[tuple[Any, ...]] = deque(maxlen=size)
        self._keep = self._ended.append

    def resize(self, size: int) -> None:
        """Keep so many from now on; of those that there are, the newest."""
        self.size = size
        self._ended = deque(self._ended, size)
        self._keep = self._ended.append

    def ended(self, operation: "Operation[Any]", /) -> None:
        """Note one."""
        parent = operation._parent
        phase = operation._phase
        progress = operation._progress
        self._keep(
            (
                operation._number,
                operation._name,
                operation._place,
                None if parent is None else parent._number,
                phase,
                operation._started_at,
                operation._ended_at,
                operation._deadline,
                operation._limit,
                operation._grace,
                operation._stall,
                None if progress is None else plain(progress),
                operation._stop,
                _error(operation) if phase is _FAILED else None,
            )
        )

    def facts(self) -> list[Facts]:
        """What is kept, oldest first; abandoned ones that still run are not among them: they are listed as live."""
        running = {operation._number for operation in snatch(lambda: tuple(live))}
        ended = snatch(lambda: tuple(self._ended))
        return [Facts._make(each) for each in ended if each[0] not in running]


def snatch(copy: Callable[[], Iterable[T]]) -> tuple[T, ...]:
    """A copy of what another thread goes on changing: taken again when a change came in between."""
    while True:
        try:
            return tuple(copy())
        except RuntimeError:  # a collection of garbage let the other thread run in the middle of it
            continue


def clock_of(operation: "Operation[Any]") -> float:
    """The time now on the clock of the operation's loop, from any thread.

    The clock of uvloop stands still while the loop is blocked, which is when people look; it is the system's.
    """
    loop = operation.get_loop()
    return time.monotonic() if type(loop).__module__.startswith("uvloop") else operation.timers.now()


def plain(value: Any) -> Any:
    """What was given to `progress`, as data: a number, a text, a pair of numbers; the text of anything else."""
    try:
        return _plain(value)
    except Exception:  # an object that can't even be looked at
        return type(value).__name__


def _plain(value: Any) -> Any:
    if value is None or isinstance(value, bool):
        return value
    if isinstance(value, str):
        return value[:_LONGEST]
    if _is_number(value):
        return value
    if isinstance(value, (tuple, list)) and len(value) == 2 and all(map(_is_number, value)):
        return tuple(value)
    return " ".join(_short.repr(value).split())[:_LONGEST]


def _is_number(value: Any) -> bool:
    if type(value) is int:
        return abs(value) <= _EXACT
    return type(value) is float and isfinite(value)


def _error(operation: "Operation[Any]") -> str | None:
    error = failure(operation)
    if error is None:
        return None
    try:
        text = str(error)
    except Exception:
        text = ""
    name = type(error).__name__
    return f"{name}: {text}"[:_LONGEST] if text else name


_short = Repr()
_short.maxother = _short.maxstring = 200
