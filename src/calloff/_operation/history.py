"""The operations that ended last, as plain data that holds on to nothing of the program.

While somebody may look, the core records each ending here. When there are too many, the recorder rests: then it takes only
samples, and the endings with a story (an error, a stop, a long life).
"""

from collections import deque
from collections.abc import Callable
from math import inf
from typing import Any, NamedTuple, Protocol

from .._words.frame import RawStack, raised_at
from .._words.state import State
from .._words.text import in_words, plain
from .stopping import Stop

__all__ = ["Ended", "Endable", "Recorder", "Ring", "recorder", "told_of"]

#: seconds for which the recorder rests after each 1,024 endings, but for those with a story
_REST = 0.1
_MANY = 1024 - 1  # a mask for numbers
#: seconds; what took so long has a story
_LONG = 1.0


class Endable(Protocol):
    """What is read of an operation that ends."""

    _number: int
    _name: str
    _place: str
    _parent: Any
    _phase: State
    _started_at: float
    _ended_at: float | None
    _progress: Any
    _stop: Stop | None

    @property
    def deadline(self) -> float | None:
        """When it would have been stopped."""
        ...


class Ended(NamedTuple):
    """The facts of one ending; points in time are on the clock of its loop.

    Attributes:
        number: the id.
        parent: the id of the parent.
        error: type and text of what a failed one raised.
        raised: the frames that it came through.
        node: the machine that it ran on, where that was not this one.
    """

    number: int
    name: str
    place: str
    parent: int | None
    phase: State
    started_at: float
    ended_at: float
    deadline: float | None
    progress: Any
    stop: Stop | None
    error: str | None
    raised: RawStack = ()
    node: str = ""


def told_of(error: BaseException | None) -> "tuple[str | None, RawStack]":
    """What is noted of the error of a failed one: type and text, and where it was raised."""
    if error is None:
        return None, ()
    return in_words(error), raised_at(error)


class Recorder:
    """Writes endings into a ring, when there is one."""

    __slots__ = ("_long_since", "_resting_until", "append")

    def __init__(self) -> None:
        #: takes the facts; ``None`` while nobody keeps them
        self.append: Callable[[Ended], object] | None = None
        self._resting_until = self._long_since = -inf

    def begin(self, append: Callable[[Ended], object]) -> None:
        """Write into a ring from now on; what came before, perhaps by another clock, is no reason to rest."""
        self.append = append
        self._resting_until = self._long_since = -inf

    def record(self, operation: Endable, now: float, error: BaseException | None, node: str = "") -> None:
        """Keep the facts of an operation that ends now, or leave them out while there are too many."""
        stop = operation._stop
        if now < self._resting_until and operation._started_at >= self._long_since and stop is None and error is None:
            if self._resting_until - now <= _REST:
                return
            self._resting_until = -inf  # of a loop whose clock is another one
        number = operation._number
        if not number & _MANY:
            self._long_since = now - _LONG
            self._resting_until = max(now, min(now, self._resting_until) + _REST)
        if self.append is not None:
            parent = operation._parent
            progress = operation._progress
            self.append(
                Ended(
                    number,
                    operation._name,
                    operation._place,
                    None if parent is None else parent._number,
                    operation._phase,
                    operation._started_at,
                    now,
                    operation.deadline,
                    None if progress is None else plain(progress),
                    stop,
                    *told_of(error),
                    node,
                )
            )


#: the one that the core writes to
recorder = Recorder()


class Ring:
    """The endings that were recorded last.

    Args:
        size: how many are kept.
    """

    __slots__ = ("ended", "size")

    def __init__(self, size: int) -> None:
        self.size = size
        self.ended: deque[Ended] = deque(maxlen=size)

    def open(self) -> None:
        """Have the core write every ending into it. There is one ring at a time."""
        recorder.begin(self.ended.append)

    def close(self) -> None:
        """Record nothing more."""
        recorder.append = None

    def resize(self, size: int) -> None:
        """Keep so many from now on; of those that there are, the newest."""
        self.size = size
        self.ended = deque(self.ended, size)
        if recorder.append is not None:
            self.open()
