"""What an operation is and how it stands: everything that is only read."""

from asyncio import Future
from typing import TYPE_CHECKING, Any, TypeVar

from .._scopes.timers import Entry, Timers
from .._words.frame import Frame, develop
from .._words.place import Body
from .._words.policy import DEFAULT, Policy
from .._words.reason import Kind, Reason
from .._words.ref import Ref
from .._words.report import StopReport
from .._words.state import State
from .stopping import Stop

if TYPE_CHECKING:
    from .operation import Operation

__all__ = ["Record"]

T = TypeVar("T")


class Record(Future[T]):
    """The facts of an operation: identity, place in the tree, limits, state, evidence."""

    __slots__ = (
        "_children",
        "_deadline",
        "_ended_at",
        "_grace",
        "_limit",
        "_name",
        "_number",
        "_parent",
        "_progress",
        "_progress_at",
        "_stall",
        "_started_at",
        "_phase",
        "_place",
        "_stop",
        "_waiters",
        "body",
        "timer_at",
        "timer_bucket",
        "timers",
    )

    policy: Policy = DEFAULT
    """The timing of its stop."""
    body: Body | None
    """``None`` once it has ended."""
    timers: Timers
    timer_at: float
    timer_bucket: dict[Entry, None] | None
    _number: int
    _name: str
    _place: str
    _parent: "Operation[Any] | None"
    _children: "dict[Operation[Any], None] | None"
    _grace: float
    _limit: float | None
    _stall: float | None
    _phase: State
    _stop: Stop | None
    _waiters: "list[Future[None]] | None"
    _progress: Any
    _progress_at: float
    _started_at: float
    _ended_at: float | None
    _deadline: float | None

    @property
    def id(self) -> str:
        """Short, unique in this process, the same for good."""
        return str(self._number)

    @property
    def name(self) -> str:
        """The name given at the start, else the name of the function."""
        return self._name.rpartition("<locals>.")[2]

    @property
    def place(self) -> str:
        """Where the body runs: `task`, `thread`, `process`, `command` or an engine."""
        return self._place

    @property
    def ref(self) -> Ref:
        """Id and name as plain data."""
        return Ref(self.id, self.name)

    @property
    def parent(self) -> "Operation[Any] | None":
        """The operation that started it, or ``None`` (also when it was started detached)."""
        return self._parent

    @property
    def children(self) -> "tuple[Operation[Any], ...]":
        """The operations that it started and that have not ended, oldest first."""
        return tuple(self._children or ())

    @property
    def state(self) -> State:
        """Where it is in its life."""
        return self._phase

    @property
    def progress(self) -> Any:
        """What the body reported last with `calloff.progress`."""
        return self._progress

    @property
    def elapsed(self) -> float:
        """Seconds since the start; stands still after the end."""
        return (self.timers.now() if self._ended_at is None else self._ended_at) - self._started_at

    @property
    def deadline(self) -> float | None:
        """The point on the clock of the loop at which it is stopped, or ``None``."""
        return self._deadline

    @property
    def force_at(self) -> float | None:
        """The point on the clock of the loop at which force is due, as things stand; ``None`` without a limit."""
        if self._stop is not None:
            return self._stop.force_at
        return None if self._deadline is None else self._deadline + self._grace

    @property
    def remaining(self) -> float | None:
        """Seconds until the deadline, not below zero; ``None`` without one."""
        return None if self._deadline is None else max(0.0, self._deadline - self.timers.now())

    @property
    def reason(self) -> Reason | None:
        """Why it was asked to stop, or ``None`` when nobody asked."""
        return None if self._stop is None else self._stop.reason

    @property
    def report(self) -> StopReport | None:
        """The evidence of its stop, growing until it ends; ``None`` when nobody asked."""
        stop = self._stop
        if stop is None:
            return None
        where = self.body.where() if stop.where is None and self.body is not None else ()
        return stop.report(self.timers.now() if self._ended_at is None else self._ended_at, where)

    @property
    def _evidence(self) -> StopReport:
        report = self.report
        assert report is not None
        return report

    @property
    def waits_in(self) -> object | None:
        """For stack walkers: the coroutine of the body, or the body itself."""
        body = self.body
        return getattr(body, "coro", body)

    def where(self) -> tuple[Frame, ...]:
        """Where the body is suspended or running now, outermost first; empty when it has ended."""
        return () if self.body is None else develop(self.body.where())

    def overdue(self, now: float) -> tuple[Kind, str] | None:
        """The limit that has passed unheeded, if any, and its words."""
        if self._deadline is not None and self._deadline <= now:
            return Kind.DEADLINE, f"within {self._limit:g} s"
        if self._stall is not None and self._progress_at + self._stall <= now:
            return Kind.STALLED, f"for {self._stall:g} s"
        return None

    def __repr__(self) -> str:
        return f"<Operation {self.id} {self.name!r} {self._phase}>"
