"""What is swept, and what one run of it showed: plain values."""

from collections import Counter
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field, replace
from typing import Any

from .contents import Passing
from .plan import Plan, Seen
from .points import Point, Stack, Step

__all__ = ["ORACLES", "Case", "Function", "GivenFailed", "Result"]

ORACLES = (
    "obeyed",  # it ended as cancelled: it neither returned a value nor went on
    "ended",  # within the limit
    "error",  # and not with another exception
    "tasks",
    "threads",
    "processes",
    "files",
    "timers",
    "readers",
    "locks",
    "items",
    "cancelling",
    "generators",
    "unawaited",
    "errors",
    "restart",
    "bystander",
    "check",
    "teardown",
)

Function = Callable[..., Awaitable[Any]]


@dataclass(frozen=True)
class Case:
    """What is swept, and how."""

    fn: Function
    setup: Function | None = None
    check: Function | None = None
    teardown: Function | None = None
    bystander: Function | None = None
    timeout: float = 5.0
    children: bool = True
    oracles: frozenset[str] = frozenset(ORACLES)
    how: str = "cancel"
    hang_up: Callable[..., None] | None = None
    """What is done to the world in place of a cancel, for the way ``disconnect``."""
    calls: bool = False
    """Whether the function makes its own world, as a test does, so that what it called is to be run again."""
    patience: float = 0.0
    """Seconds that it may take without a cancel, where that is more than `timeout`."""

    @property
    def longest(self) -> float:
        """Seconds that it may take without a cancel."""
        return max(self.timeout, self.patience)

    @property
    def terms(self) -> list[str]:
        """How it is called off and judged, whatever its functions are."""
        return [self.how, str(self.timeout), str(self.children), *sorted(self.oracles)]

    def with_helpers(self, check: Function | None = None, bystander: Function | None = None) -> "Case":
        """The same with another `check` and `bystander`."""
        return replace(self, check=check, bystander=bystander)


@dataclass
class Result:
    """What one run showed; plain data, it crosses from one process to another."""

    plan: Plan | None = None
    fired: bool = False
    broken: str = ""
    """Why the run is worth nothing: the set-up failed, say."""
    died: bool = False
    ending: str = ""
    violations: list[tuple[str, str]] = field(default_factory=list)
    at_fault: Step | None = None
    made: list[Stack] = field(default_factory=list)
    main_at: Stack = ()
    """Where the function itself was when it was called off."""
    beside: list[Stack] = field(default_factory=list)
    """Where other tasks were that were called off with the one in question."""
    not_alone: bool = False
    """The one in question leaves nothing when it alone is called off."""
    doubtful: bool = False
    """It could not be called off alone, or others were called off even then: one of them may have left it."""
    seen: list[Seen] = field(default_factory=list)
    cleaning: list[Point] = field(default_factory=list)
    eager: bool = False
    # what a run without a cancel is like: the measure of the others
    left_first: Counter[str] = field(default_factory=Counter)
    """What was left before the teardown, ..."""
    left: Counter[str] = field(default_factory=Counter)
    """... and after it."""
    noise: Counter[str] = field(default_factory=Counter)
    balances: dict[str, int] = field(default_factory=dict)
    passing: dict[Point, Passing] = field(default_factory=dict)
    """What is in the containers that were given, at an await, and no more at the end."""
    given: list[str] = field(default_factory=list)
    given_first: list[str] = field(default_factory=list)
    """What it was given and is still open before the teardown, ..."""
    given_kept: list[str] = field(default_factory=list)
    """... and after it."""
    ended: dict[Stack, Stack] = field(default_factory=dict)
    """Where the function waited when a task ended, by where that was started."""
    meant: list[Step] = field(default_factory=list)
    """Where a task that a test started and called off itself put up with that, and returned."""
    cancelling: int = 0
    took: float = 0.0
    bystander_took: float = 0.0
    skips: bool = False
    """It may take its time in jumps: see `skipping`."""
    jumps: bool = False
    """Its second run may take its time in jumps, ..."""
    jumped: bool = False
    """... and did: see `jumping`."""
    children: frozenset[int] = frozenset()
    """The processes that were there before the first run."""
    restart: str = ""
    """``ok``, or why the function can't be run twice in the same world."""
    restart_took: float = 0.0
    restart_value: str = ""
    value: str = ""
    agains: dict[str, tuple[float, tuple[str, ...]]] = field(default_factory=dict)
    """The calls that can be made again: how long each took, and what it may return: what it did the first time (that one
    may have done nothing), or the second."""
    call_value: str = ""
    """What the call returned that was made again."""
    skipped: str = ""
    """Why it is not for the sweep to run."""
    blind: tuple[str, ...] = ()
    """Oracles that see nothing on this event loop."""
    network: bool = False
    """A connection was open at the cancel."""
    unsure: str = ""
    """Why the violations are not enough to say that it is unsafe, nor that it is safe."""


class GivenFailed(Exception):
    """The set-up, the teardown or the bystander failed or took too long."""
