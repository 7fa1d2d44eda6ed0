"""What a map was asked for: checked once, before anything is started."""

from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from .._words.duration import count, delay, limit
from .._words.outcome import Outcome

if TYPE_CHECKING:
    from .bar import Progress

__all__ = ["Plan", "Retry", "Shows", "Within"]

#: returns what is held from before the start of an item to its confirmed end
Within = Callable[[Any], AbstractAsyncContextManager[Any]]
#: given an ending other than `Completed` and the number of the attempt, from 1: seconds until the next one, or ``None``
Retry = Callable[[Outcome[Any], int], float | None]

#: called with how far it is, a few times a second
Shows = Callable[["Progress"], object]


@dataclass(slots=True)
class Plan:
    """The arguments of `calloff.map`, checked.

    Attributes:
        make: from an item to what `start` takes.
        numbered: whether `make` wants the number of the item, from 1, as well.
        name: that of the function or program.
        target: what runs, in words that are the same in the next run; a part of the keys in the output.
        function: the function, where it runs in a process and may be given several items at a time, else ``None``.
        max_failures: how many endings other than `Completed` are borne, or the share of them; ``None`` for any number.
    """

    make: Callable[..., Any]
    numbered: bool
    name: str
    target: str
    function: Callable[[Any], Any] | None
    timeout: float | None
    stall: float | None
    grace: float
    ordered: bool
    batch: int | Literal["auto"]
    within: Within | None
    retry: Retry | None
    max_failures: float | None
    patience: float | None
    memory: int | None
    progress: bool | Shows

    def __post_init__(self) -> None:
        self.timeout = limit(self.timeout, "timeout")
        self.stall = limit(self.stall, "stall")
        self.grace = delay(self.grace, "grace")
        if self.memory is not None:
            count(self.memory, "memory", "a number of bytes")
            if self.function is None:
                raise ValueError("memory is a limit for items in processes: it goes with place=calloff.process")
        self.patience = limit(self.patience, "patience")
        if self.batch != "auto":
            count(self.batch, "batch", "a whole number or 'auto'")
        for name in ("within", "retry", "progress"):
            given = getattr(self, name)
            if not (given is None or callable(given) or (name == "progress" and isinstance(given, bool))):
                raise TypeError(f"{name} must be a function, not {given!r}")
        most = self.max_failures
        if most is not None:
            if isinstance(most, bool) or not isinstance(most, (int, float)):
                raise TypeError(f"max_failures must be a number or a share below 1, not {most!r}")
            if not most >= 0 or (type(most) is float and most >= 1):  # the first is also true for NaN
                raise ValueError(f"max_failures must be a number, 0 or more, or a share below 1.0, not {most!r}")
