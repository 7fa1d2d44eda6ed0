"""The handle of one piece of work, and its life: it begins, is limited, asked to stop, ended by its body, and closed.

An `Operation` is an `asyncio.Future` whose ending is bounded. The limits and the ladder reach it through its timer (the
`Entry` protocol), the body through the `Sink` protocol; `stopping` has the ladder. Everything that is read seldom (texts,
frames with source lines, reports, exceptions) is made when it is asked for, so that starting and cancelling stay cheap.
"""

from asyncio import CancelledError, Future, _get_running_loop
from collections.abc import Callable, Generator
from contextvars import Context
from functools import partial
from typing import TYPE_CHECKING, Any, TypeVar, final

from .._scopes.timers import NEVER, Entry, Timers
from .._words.duration import delay, limit
from .._words.errors import OperationCancelled
from .._words.frame import Frame, RawStack
from .._words.outcome import Outcome
from .._words.place import Body
from .._words.policy import DEFAULT, Policy
from .._words.reason import Kind, Reason
from .._words.ref import Ref
from .._words.report import Rung, StopReport
from .._words.state import State
from .._words.text import name_of
from . import callers, ending, requesting
from .blocking import out_of_grace, unblock
from .callers import UNSET, result_in_the_end, wakes_caller, words_of
from .elsewhere import Relay
from .hooks import emit, hooks
from .known import current_operation, live
from .limits import Limits
from .loops import forget
from .stopping import Stop, frames_of, where_of
from .watching import Watch

__all__ = ["Operation", "current_operation", "live"]

T_co = TypeVar("T_co", covariant=True)
_future_result = Future.result
_future_exception = Future.exception
_plain_error: Callable[[Any], CancelledError] = Future._make_cancelled_error  # type: ignore[attr-defined]
#: what the constructor of a named tuple does, without its call
_ref: Callable[[tuple[str, str]], Ref] = partial(tuple.__new__, Ref)
_PENDING, _RUNNING, _COMPLETED = State.PENDING, State.RUNNING, State.COMPLETED


@final
class Operation(Future[T_co]):  # type: ignore[type-var]  # pyright: ignore[reportInvalidTypeArguments]  # as a Task's
    """One piece of work that calloff started. Made by `calloff.start`, never by hand.

    It keeps the protocol of `asyncio.Future` and works in `asyncio.wait`, `gather`, `wait_for`, `as_completed` and
    `shield`; it may be awaited any number of times. ``await op`` returns the value or raises the body's own error,
    `TimedOut` when a deadline or stall stopped it, `OperationCancelled` when anything else did. When the code that
    awaits is itself cancelled, the operation is stopped with it, and a plain `asyncio.CancelledError` goes on.

    Attributes:
        policy: the timing of its stop.
        body: what carries it out; ``None`` once it has really ended.
    """

    __slots__ = (
        "_awaited_by",
        "_awaited_level",
        "_children",
        "_ended_at",
        "_grace",
        "_landing",
        "_limits",
        "_name",
        "_number",
        "_parent",
        "_phase",
        "_place",
        "_progress",
        "_progress_at",
        "_started_at",
        "_stop",
        "_waiters",
        "body",
        "timer_at",
        "timer_bucket",
        "timers",
    )

    policy: Policy = DEFAULT
    body: Body | None
    timers: Timers
    timer_at: float
    timer_bucket: dict[Entry, None] | None
    _number: int
    _name: str
    _place: str
    _parent: "Operation[Any] | None"
    _children: "dict[Operation[Any], None] | None"
    _grace: float
    _phase: State
    _stop: Stop | None
    _waiters: list[Future[None] | Relay] | None
    _awaited_by: Any
    _awaited_level: int  # while there is one who awaits it
    _landing: (
        "Callable[[Operation[Any]], object] | None"  # called at the end; where the body returned, in its last step
    )
    _limits: Limits | None
    _started_at: float
    _ended_at: float | None
    _progress: Any
    _progress_at: float  # set by the first report

    # --- what it is

    @property
    def id(self) -> str:
        """Short, unique in this process, the same for good."""
        return str(self._number)

    @property
    def name(self) -> str:
        """The name given at the start, else the name of the function. May be set: some names are known late."""
        return self._name.rpartition("<locals>.")[2]

    @name.setter
    def name(self, name: str) -> None:
        self._name = name_of(name)

    @property
    def place(self) -> str:
        """Where the body runs: `task`, `thread`, `process`, `command` or an engine."""
        return self._place

    @property
    def ref(self) -> Ref:
        """Id and name as plain data."""
        return _ref((str(self._number), self._name.rpartition("<locals>.")[2]))

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
        """The point on the clock of the loop at which it is stopped; ``None`` without a limit, or while it is pending."""
        return None if self._limits is None else self._limits.deadline

    def take_turn(self, body: Body) -> None:
        """It was waiting for its turn: this is what carries it out from now on."""
        self.body = body
        if self._limits is not None and not body.queued:
            requesting.start_limits(self, self._limits, self.timers.now())
        body.begin(self)

    @property
    def allowed(self) -> tuple[float | None, float]:
        """The seconds that the body may take from its first step on, if they are limited, and the grace after these."""
        return None if self._limits is None else self._limits.timeout, self._grace

    @property
    def force_at(self) -> float | None:
        """The point on the clock of the loop at which force is due, as things stand; ``None`` without a limit."""
        if self._stop is not None:
            return self._stop.force_at
        deadline = self.deadline
        return None if deadline is None else deadline + self._grace

    @property
    def remaining(self) -> float | None:
        """Seconds until the deadline, not below zero; ``None`` without one."""
        deadline = self.deadline
        return None if deadline is None else max(0.0, deadline - self.timers.now())

    @property
    def reason(self) -> Reason | None:
        """Why it was asked to stop, or ``None`` when nobody asked."""
        return None if self._stop is None else self._stop.reason

    @property
    def report(self) -> StopReport | None:
        """The evidence of its stop, growing until it ends; ``None`` when nobody asked."""
        return None if self._stop is None else self._evidence()

    def _evidence(self) -> StopReport:
        stop = self._stop
        assert stop is not None
        where = where_of(self.body) if stop.where is None else ()
        return stop.report(self.timers.now() if self._ended_at is None else self._ended_at, where)

    @property
    def waits_in(self) -> object | None:
        """For stack walkers: the coroutine of the body, or the body itself."""
        body = self.body
        return body if body is None or body.coro is None else body.coro

    def where(self) -> tuple[Frame, ...]:
        """Where the body is suspended or running now, outermost first; empty when it has ended."""
        return frames_of(where_of(self.body))

    def __repr__(self) -> str:
        return f"<Operation {self.id} {self.name!r} {self._phase}>"

    # --- calling it off

    def cancel(  # type: ignore[override]  # a future's takes only `msg`
        self, reason: str | Reason | None = None, *, grace: float | None = None, msg: Any = UNSET
    ) -> bool:
        """Ask for the stop and return at once; may be called from any thread.

        Args:
            reason: why, in words; arrives in the report and in the error.
            grace: seconds between asking and force, by default those of the start; 0 forces at once.
            msg: what asyncio passes when it cancels a future; the same as `reason`.

        Returns:
            ``False`` if it was already done. A second call never makes the stop slower.
        """
        if self._ended_at is not None:
            if msg is not UNSET:
                requesting.note_passed_on(self)
            return False
        loop = self.timers.loop  # its own, read without a call
        is_here = _get_running_loop() is loop
        if not is_here and loop.is_closed():
            forget(loop, live)
            return False
        if grace is None and self._awaited_by is not None and wakes_caller(self, reason if msg is UNSET else msg):
            return True
        grace = self._grace if grace is None else min(delay(grace, "grace"), self.policy.longest_grace)
        kind, text, by = words_of(reason, msg)
        if is_here:
            requesting.request(self, kind, text, by, grace)
            if msg is not UNSET:
                requesting.note_passed_on(self)
        else:
            self.timers.call(self.request, kind, text, by, grace)
        return True

    async def stop(self, reason: str | Reason | None = None, *, grace: float | None = None) -> Outcome[T_co]:
        """Cancel and wait for the ending; returns within grace + 1 s.

        Args:
            reason: why, in words.
            grace: seconds between asking and force, by default those of the start.

        Returns:
            The outcome; never raises for the operation's own ending. When the caller is cancelled meanwhile, the stop
            is seen to its end and the caller's `CancelledError` raised then.
        """
        if current_operation.get() is self:
            callers.refuse_itself(self)
        self.cancel(reason, grace=grace)
        await callers.see_to_the_end(self)
        return ending.outcome_of(self)

    def reschedule(self, timeout: float | None) -> None:
        """Set a new limit: `timeout` seconds from now, or none; may be called from any thread.

        For what is pending: from the start of the body.

        Raises:
            RuntimeError: it is being stopped or has ended.
        """
        requesting.reschedule(self, limit(timeout, "timeout"))

    # --- waiting for it

    if TYPE_CHECKING:

        def __await__(self) -> Generator[Any, None, T_co]: ...

        def __iter__(self) -> Generator[Any, None, T_co]: ...
    else:
        __await__ = __iter__ = result_in_the_end

    async def outcome(self) -> Outcome[T_co]:
        """Wait for the ending as a value. Only looks on: the caller's own cancel, alone, raises and stops nothing."""
        if not self.done():
            waiter = self.completion()
            try:
                await waiter
            except CancelledError:
                self.forget(waiter)
                raise
        return ending.outcome_of(self)

    def watch(self, every: float = 1.0) -> "Watch":
        """Look at it again and again: an async iterator of `Tick`.

        Args:
            every: seconds between two ticks; the first comes after that time, without drift.

        The iteration ends when the operation does.
        """
        return Watch(self, every)

    def result(self) -> T_co:
        """The value, or the error that ``await`` would raise.

        Raises:
            asyncio.InvalidStateError: it has not ended.
        """
        if self._phase is not _COMPLETED and self.cancelled():
            raise self._cancelled_error()
        return _future_result(self)

    def exception(self) -> BaseException | None:
        """The error of its ending, ``None`` for a value; raises `OperationCancelled` where asyncio would."""
        if self.cancelled():
            raise self._cancelled_error()
        return _future_exception(self)

    def set_result(self, result: Any, /) -> None:
        """Not for operations: only the body ends them."""
        raise RuntimeError("an operation is ended by its body: set_result() is not supported")

    def set_exception(self, exception: type | BaseException, /) -> None:
        """Not for operations: only the body ends them."""
        raise RuntimeError("an operation is ended by its body: set_exception() is not supported")

    def _cancelled_error(self) -> OperationCancelled:
        assert self._stop is not None
        return OperationCancelled(self.ref, self._stop.reason, self._evidence())

    def _make_cancelled_error(self) -> CancelledError:
        """What `asyncio.gather` raises for it.

        Where it was asyncio that called it off, for a caller which was cancelled, that is a plain one, as for a task:
        Python 3.11 and 3.12 take no other for the caller's own.
        """
        if self._stop is None or self._stop.is_passed_on:
            return _plain_error(self)
        return self._cancelled_error()

    def completion(self) -> "Future[None]":
        """Return a future of one waiter's own that is done when the operation is."""
        return callers.completion(self)

    def forget(self, waiter: "Future[None]") -> None:
        """Forget a waiter that lost interest."""
        callers.forget(self, waiter)

    # --- how it is stopped

    def request(self, kind: Kind, text: str, by: str | Ref | None, grace: float) -> None:
        """Begin the stop, or hasten the one on its way; on the loop's thread."""
        requesting.request(self, kind, text, by, grace)

    # --- what a block of `on_stop` looks at

    def is_asked(self) -> bool:
        """Whether it was asked to stop; from any thread."""
        return self._stop is not None

    def asked_for(self) -> str:
        """The words of the request."""
        return "" if self._stop is None else self._stop.text

    def grace_left(self) -> float:
        """Seconds until force is due, below zero when it has passed; the whole grace while nobody has asked."""
        return self._grace if self._stop is None else self._stop.force_at - self.timers.now()

    def helped(self, name: str) -> None:
        """A function of that name is run to ask it."""
        if self._stop is not None:
            self._stop.helped = (*self._stop.helped, name)

    def obeys(self, error: CancelledError) -> None:
        """The body, where it runs the calling code, raises `error`, since it was asked."""
        body = self.body
        if body is not None and body.is_here():
            body.noted(error)

    # --- its limits

    def timer_due(self, now: float) -> None:
        """A limit or the next step of the stop may be due."""
        requesting.due(self, now)

    def overdue(self, now: float) -> tuple[Kind, str] | None:
        """The limit that has passed unheeded, if any, and its words."""
        return None if self._limits is None else self._limits.overdue(now)

    def give_up(self) -> None:
        """The ladder is at its end and the body is not: control goes back to whoever waits; the body stays listed."""
        ending.abandon(self)

    def lose_loop(self) -> None:
        """Its loop was closed before it ended, and it can't go on: use force, and give up."""
        ending.lose_loop(self)

    # --- what the body says (the Sink protocol)

    def entered(self, since: float = 0.0) -> None:
        """The body runs its first step in a context of its own."""
        _enter(self)
        if self._phase is _PENDING:
            self._phase = _RUNNING
            limits = self._limits
            if limits is not None and (self.timer_at == NEVER or limits.turn_by is not None):
                requesting.start_limits(self, limits, self.timers.now() - since)
        elif self._stop is not None:  # it began before the asking could arrive there
            self._stop.started = True
        if hooks.entered:
            emit(hooks.entered, self)

    def entered_elsewhere(self, since: float = 0.0) -> None:
        """The body runs its first step in another process."""
        if self._phase is _PENDING and self._limits is None and not hooks.entered:  # the usual case
            self._phase = _RUNNING
        else:
            Context().run(self.entered, since)

    def located(self, where: RawStack) -> None:
        """The request has arrived in the body, which was there."""
        stop = self._stop
        if stop is None and requesting.is_being_closed(self):
            stop = self._stop
        if stop is not None and stop.where is None:
            stop.where = where

    def progressed(self, value: Any) -> None:
        """The body reported progress."""
        self._progress_at = now = self.timers.now()
        self._progress = value
        if self._limits is not None:
            self._limits.heard_at = now

    def refused(self) -> None:
        """The body was asked and went on."""
        if self._stop is not None:
            self._stop.refusals += 1

    if TYPE_CHECKING:  # what runs are the functions themselves: no call between

        def returned(self, value: Any, survivors: tuple[str, ...] = ()) -> None:
            """The body ended with a value."""

        def raised(self, error: BaseException, survivors: tuple[str, ...] = ()) -> None:
            """The body ended with an error of its own."""

        def stopped(
            self, rung: Rung | None = None, survivors: tuple[str, ...] = (), error: BaseException | None = None
        ) -> None:
            """The body ended because it was stopped."""
    else:
        returned = ending.returned
        raised = ending.raised
        stopped = ending.stopped

    def blocked(self, now: float) -> None:
        """The body blocks the loop, so that no timer runs: take the steps that are due."""
        unblock(self, now)

    def is_over(self, now: float) -> bool:
        """Whether the body, which blocks the loop, has had all the grace of each that waits for it."""
        return out_of_grace(self, now)


_enter = current_operation.set
