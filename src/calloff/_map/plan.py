"""What a map was asked for: the one list of its options, and the check of them, before anything is started."""

import inspect
import os
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from dataclasses import KW_ONLY, dataclass
from typing import TYPE_CHECKING, Any, Literal, TypedDict

from .._words.duration import count, delay, limit
from .._words.outcome import Outcome

if TYPE_CHECKING:
    from .bar import Progress

__all__ = ["SIGNATURE", "Options", "Plan", "Retry", "Shows", "Within"]

#: returns what is held from before the start of an item to its confirmed end
Within = Callable[[Any], AbstractAsyncContextManager[Any]]
#: given an ending other than `Completed` and the number of the attempt, from 1: seconds until the next one, or ``None``
Retry = Callable[[Outcome[Any], int], float | None]

#: called with how far it is, a few times a second
Shows = Callable[["Progress"], object]


class Options(TypedDict, total=False):
    """The keyword arguments of `map` that are the same for every place; `Plan` has what each is by default."""

    jobs: int
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
    output: str | os.PathLike[str] | None
    resume: bool | Literal["failed"]
    key: Callable[[Any], str] | None


@dataclass(slots=True)
class Plan:
    """The arguments of `calloff.map`, checked.

    Attributes:
        place: the word for where it runs.
        make: from an item to what `start` takes.
        name: that of the function or program.
        target: what runs, in words that are the same in the next run; a part of the keys in the output.
        function: the function; for a command the template, or what stands for it.
        where: the place itself, when that is "elsewhere".
        max_failures: how many endings other than `Completed` are borne, or the share of them; ``None`` for any number.
    """

    place: Literal["task", "thread", "process", "command", "elsewhere"]
    make: Callable[..., Any]
    name: str
    target: str
    function: Callable[[Any], Any]
    _: KW_ONLY
    jobs: int = 10
    timeout: float | None = None
    stall: float | None = None
    grace: float = 5.0
    ordered: bool = False
    batch: int | Literal["auto"] = "auto"
    within: Within | None = None
    retry: Retry | None = None
    max_failures: float | None = None
    patience: float | None = None
    memory: int | None = None
    progress: bool | Shows = False
    output: str | os.PathLike[str] | None = None
    resume: bool | Literal["failed"] = False
    key: Callable[[Any], str] | None = None
    where: Any = None

    def __post_init__(self) -> None:
        self.jobs = count(self.jobs, "jobs")
        if self.output is None and (self.resume or self.key is not None):
            raise ValueError("resume and key need an output")
        self.timeout = limit(self.timeout, "timeout")
        self.stall = limit(self.stall, "stall")
        self.grace = delay(self.grace, "grace")
        if self.memory is not None:
            count(self.memory, "memory", "a number of bytes")
            if self.place != "process":
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


def _signature() -> inspect.Signature:
    """That of `map`, which takes all of them by name."""
    kind = inspect.Parameter
    plan = inspect.signature(Plan).parameters
    first = [kind("fn", kind.POSITIONAL_OR_KEYWORD), kind("items", kind.POSITIONAL_OR_KEYWORD)]
    place = kind("place", kind.KEYWORD_ONLY, default=None)
    jobs, *rest = (plan[name] for name in Options.__annotations__)
    return inspect.Signature([*first, jobs, place, *rest])


SIGNATURE: inspect.Signature = _signature()
