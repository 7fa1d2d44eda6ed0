"""What a map was asked for: checked once, before anything is started."""

from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from typing import Any, Literal

from .._words.duration import delay, limit
from .._words.outcome import Outcome

__all__ = ["Plan", "Retry", "Within", "jobs_of"]

#: returns what is held from before the start of an item to its confirmed end
Within = Callable[[Any], AbstractAsyncContextManager[Any]]
#: given an ending other than `Completed` and the number of the attempt, from 1: seconds until the next one, or ``None``
Retry = Callable[[Outcome[Any], int], float | None]


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

    def __post_init__(self) -> None:
        self.timeout = limit(self.timeout, "timeout")
        self.stall = limit(self.stall, "stall")
        self.grace = delay(self.grace, "grace")
        if self.batch != "auto":
            if isinstance(self.batch, bool) or not isinstance(self.batch, int):
                raise TypeError(f"batch must be a whole number or 'auto', not {self.batch!r}")
            if self.batch < 1:
                raise ValueError(f"batch must be 1 or more, not {self.batch!r}")
        for name in ("within", "retry"):
            given = getattr(self, name)
            if given is not None and not callable(given):
                raise TypeError(f"{name} must be a function, not {given!r}")
        most = self.max_failures
        if most is not None:
            if isinstance(most, bool) or not isinstance(most, (int, float)):
                raise TypeError(f"max_failures must be a number or a share below 1, not {most!r}")
            if not most >= 0 or (type(most) is float and most >= 1):  # the first is also true for NaN
                raise ValueError(f"max_failures must be a number, 0 or more, or a share below 1.0, not {most!r}")


def jobs_of(jobs: int) -> int:
    """How many at a time, checked."""
    if isinstance(jobs, bool) or not isinstance(jobs, int):
        raise TypeError(f"jobs must be a whole number, not {jobs!r}")
    if jobs < 1:
        raise ValueError(f"jobs must be 1 or more, not {jobs!r}")
    return jobs
