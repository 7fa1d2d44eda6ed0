"""The handle of one piece of work.

An `Operation` is an `asyncio.Future` whose ending is bounded. It knows its body only through the `Body` protocol:
the body says that it ended, the operation says what the ladder wants next. Everything that is read seldom (texts,
frames with source lines, reports, exceptions) is made when it is asked for, so that starting and cancelling stay cheap.
"""

import asyncio
import logging
from asyncio import CancelledError, Future, _get_running_loop
from collections.abc import Generator
from functools import partial
from itertools import count
from typing import Any, TypeVar

from .._scopes.timers import NEVER, Entry, Timers, timers_of
from .._words.duration import delay, limit
from .._words.errors import OperationCancelled, TimedOut
from .._words.frame import Frame, RawStack, at_line, develop
from .._words.outcome import Abandoned, Cancelled, Completed, Failed, Outcome
from .._words.place import Body
from .._words.policy import DEFAULT, Policy
from .._words.reason import Kind, Reason
from .._words.ref import Ref
from .._words.report import Rung, StopReport
from .._words.state import State
from .current import current_operation, sleepers, wake
from .registry import live
from .stopping import Stop, unblock
from .watching import Watch

__all__ = ["Operation"]

T = TypeVar("T")
_UNSET: Any = object()
_FIRST_PAUSE = DEFAULT.pause(1)
_LIMITS = (Kind.DEADLINE, Kind.STALLED)
_numbers = count(1)
_logger = logging.getLogger("calloff")
_init = Future.__init__
_future_result = Future.result
_future_exception = Future.exception
_set_result = Future.set_result
_set_exception = Future.set_exception
_set_cancelled = Future.cancel
_PENDING, _RUNNING, _STOPPING = State.PENDING, State.RUNNING, State.STOPPING
_COMPLETED, _FAILED, _CANCELLED, _ABANDONED = State.COMPLETED, State.FAILED, State.CANCELLED, State.ABANDONED


class Operation(Future[T]):
    """One piece of work that calloff started. Made by `calloff.start`, never by hand.

    It keeps the protocol of `asyncio.Future` and works in `asyncio.wait`, `gather`, `wait_for`, `as_completed` and
    `shield`; it may be awaited any number of times. ``await op`` returns the value or raises the body's own error,
    `TimedOut` when a deadline or stall stopped it, `OperationCancelled` when anything else did. When the code that
    awaits is itself cancelled, the operation is stopped with it, and a plain `asyncio.CancelledError` goes on.

    Attributes:
        policy: the timing of its stop.
    """

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

    def __init__(
        self,
        body: Body,
        name: str,
        loop: asyncio.AbstractEventLoop,
        timeout: float | None,
        stall: float | None,
        grace: float,
        parent: "Operation[Any] | None",
    ) -> None:
        _init(self, loop=loop)
        self.body: Body | None = body
        self._place = body.place
        self.timers: Timers = timers_of(loop)
        self.timer_at: float = NEVER
        self.timer_bucket: dict[Entry, None] | None = None
        self._number = next(_numbers)
        self._name = name
        self._parent = parent
        self._children: dict[Operation[Any], None] | None = None
        self._grace = grace
        self._limit = timeout
        self._stall = stall
        self._phase: State = _PENDING
        self._stop: Stop | None = None
        self._waiters: list[Future[None]] | None = None
        self._progress: Any = None
        self._ended_at: float | None = None
        self._started_at = now = self.timers.now()
        self._progress_at = now
        self._deadline = None if timeout is None else now + timeout
        live[self] = None
        if parent is not None:
            if parent._children is None:
                parent._children = {}
            parent._children[self] = None
        if timeout is not None or stall is not None:
            self._set_timer()
        try:
            body.begin(self)
        except BaseException:
            self._close(_FAILED)
            _set_cancelled(self)
            raise

    # --- what it is

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

    # --- calling it off

    def cancel(  # type: ignore[override]
        self, reason: str | Reason | None = None, *, grace: float | None = None, msg: Any = _UNSET
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
            return False
        grace = self._grace if grace is None else min(delay(grace, "grace"), self.policy.longest_grace)
        if isinstance(reason, Reason):
            kind, text, by = reason.kind, reason.text, reason.by
        else:
            kind, by = Kind.REQUESTED, None
            text = str(reason or (msg if msg is not _UNSET else None) or "")
            caller = current_operation.get()
            if caller is not None:
                by = str(caller.ref)
        if _get_running_loop() is self._loop:
            self.request(kind, text, by, grace)
        else:
            self.timers.call(self.request, kind, text, by, grace)
        return True

    async def stop(self, reason: str | Reason | None = None, *, grace: float | None = None) -> Outcome[T]:
        """Cancel and wait for the ending; returns within grace + 1 s.

        Args:
            reason: why, in words.
            grace: seconds between asking and force, by default those of the start.

        Returns:
            The outcome; never raises for the operation's own ending. When the caller is cancelled meanwhile, the stop
            is seen to its end and the caller's `CancelledError` raised then.
        """
        self._refuse_itself()
        self.cancel(reason, grace=grace)
        held: CancelledError | None = None
        while not self.done():
            try:
                await self.over()
            except CancelledError as error:
                held = error
        if held is not None:
            raise held
        return self._outcome()

    def request(self, kind: Kind, text: str, by: str | None, grace: float) -> None:
        """Begin the stop, or hasten the one on its way; on the loop's thread."""
        body = self.body
        if body is None or self._ended_at is not None:
            return
        timers = self.timers
        now = timers.now()
        if self._stop is not None:
            self._stop.hasten(self, now, grace)
            return
        stop = self._stop = Stop(kind, text, by, now, grace, self._phase is not _PENDING)
        self._phase = _STOPPING
        if self.timer_at != NEVER:
            timers.remove(self)
        if sleepers:
            wake(self)
        if self._children:  # it may be waiting for one of them: they are gone when the request arrives
            stop.where = body.where()
            body.ask(text)
        else:
            stop.where = body.ask(text)
        if grace > _FIRST_PAUSE and body.insists:
            timers.lane.add(self, now + _FIRST_PAUSE)
        else:  # with no grace at all, force comes at the next turn of the loop: first the asking arrives
            timers.add(self, now + grace)

    def reschedule(self, timeout: float | None) -> None:
        """Set a new limit: `timeout` seconds from now, or none.

        Raises:
            RuntimeError: it is being stopped or has ended.
        """
        timeout = limit(timeout, "timeout")
        if self._stop is not None or self.done():
            raise RuntimeError(f"{self.name!r} is {self._phase}: its deadline can't be changed any more")
        self._limit = timeout
        self._deadline = None if timeout is None else self.timers.now() + timeout
        self._set_timer()
        limited = getattr(self.body, "limited", None)  # of places that keep the deadline in another process, too
        if limited is not None:
            limited()

    # --- waiting for it

    def __await__(self) -> Generator[Any, None, T]:
        if self._ended_at is None:
            held: CancelledError | None = None
            while not self.done():
                try:
                    yield from self.over()
                except CancelledError as error:  # it is the caller that is cancelled
                    if held is None:
                        held = error
                        self._follow(error)
            if held is not None:
                raise held
        return _future_result(self) if self._phase is _COMPLETED else self.result()

    def __iter__(self) -> Generator[Any, None, T]:
        return self.__await__()

    async def outcome(self) -> Outcome[T]:
        """Wait for the ending as a value. Only looks on: the caller's own cancel, alone, raises and stops nothing."""
        if not self.done():
            waiter = self.over()
            try:
                await waiter
            except CancelledError:
                self.forget(waiter)
                raise
        return self._outcome()

    def watch(self, every: float = 1.0) -> "Watch[T]":
        """Look at it again and again: an async iterator of `Tick`.

        Args:
            every: seconds between two ticks; the first comes after that time, without drift.

        The iteration ends when the operation does.
        """
        return Watch(self, every)

    def result(self) -> T:
        """The value, or the error that ``await`` would raise.

        Raises:
            asyncio.InvalidStateError: it has not ended.
        """
        if self._phase is not _COMPLETED and self.cancelled():
            raise self._make_cancelled_error()
        return _future_result(self)

    def exception(self) -> BaseException | None:
        """The error of its ending, ``None`` for a value; raises `OperationCancelled` where asyncio would."""
        if self.cancelled():
            raise self._make_cancelled_error()
        return _future_exception(self)

    def set_result(self, result: T, /) -> None:
        """Not for operations: only the body ends them."""
        raise RuntimeError("an operation is ended by its body: set_result() is not supported")

    def set_exception(self, exception: type | BaseException, /) -> None:
        """Not for operations: only the body ends them."""
        raise RuntimeError("an operation is ended by its body: set_exception() is not supported")

    def _make_cancelled_error(self) -> CancelledError:
        """What asyncio (gather, shield) raises for it."""
        assert self._stop is not None
        return OperationCancelled(self.ref, self._stop.reason, self._evidence)

    def over(self) -> "Future[None]":
        """A future of one waiter's own that is done when the operation is."""
        if current_operation.get() is self:
            self._refuse_itself()
        waiter: Future[None] = self._loop.create_future()
        if self._waiters is None:
            self._waiters = [waiter]
        else:
            self._waiters.append(waiter)
        return waiter

    def _refuse_itself(self) -> None:
        """Its body can't wait for its end; other tasks that were made inside it can."""
        if current_operation.get() is self:
            is_here = getattr(self.body, "is_here", None)
            if is_here is not None and is_here():
                raise RuntimeError(f"{self.name!r} can't wait for its own end")

    def forget(self, waiter: "Future[None]") -> None:
        """The waiter lost interest."""
        if self._waiters is not None and waiter in self._waiters:
            self._waiters.remove(waiter)

    def _follow(self, error: CancelledError) -> None:
        """Whoever awaits this operation was cancelled: it is called off with them."""
        caller = current_operation.get()
        text = str(error.args[0]) if error.args else "the code that awaits it was cancelled"
        by = None
        if caller is not None:
            by = str(caller.ref)
            if caller._stop is not None:
                text = caller._stop.text or str(caller._stop.kind)
        self.request(Kind.PARENT, text, by, self._grace)

    def _outcome(self) -> Outcome[T]:
        state = self._phase
        if state is _COMPLETED:
            return Completed(_future_result(self), self.report)
        if state is _FAILED:
            error = _future_exception(self)
            assert error is not None
            return Failed(error, self.report)
        if not self.cancelled():
            _future_exception(self)  # seen: no complaint that it was never retrieved
        return (Abandoned if state is _ABANDONED else Cancelled)(self.ref, self._evidence)

    # --- what the body says (the Sink protocol)

    def entered(self) -> None:
        """The body runs its first step in a context of its own."""
        current_operation.set(self)
        if self._phase is _PENDING:
            self._phase = _RUNNING
        elif self._stop is not None:  # it began before the asking could arrive there
            self._stop.started = True

    def located(self, where: RawStack) -> None:
        """The request has arrived in the body, which was there."""
        if self._stop is not None and self._stop.where is None:
            self._stop.where = where

    def progressed(self, value: Any) -> None:
        """The body reported progress."""
        self._progress = value
        self._progress_at = self.timers.now()

    def returned(self, value: Any) -> None:
        """The body ended with a value."""
        if self._phase is _ABANDONED:
            self._ended_late(f"returned {value!r:.100}")
            return
        if self._stop is not None and self.body is not None:
            self._stop.refusals += self.body.reached
        self._close(_COMPLETED)
        _set_result(self, value)

    def raised(self, error: BaseException) -> None:
        """The body ended with an error of its own."""
        if self._phase is _ABANDONED:
            self._ended_late(f"raised {error!r:.200}")
            return
        self._close(_FAILED)
        _set_exception(self, error)

    def stopped(self, rung: Rung | None = None, survivors: tuple[str, ...] = ()) -> None:
        """The body ended because it was stopped."""
        if self._phase is _ABANDONED:
            self._ended_late("was let go of with its task" if rung is Rung.ABANDONED else "obeyed")
            return
        if self._stop is None:  # cancelled behind our back, or it raised CancelledError on its own
            now = self.timers.now()
            kind, text = self.overdue(now) or (
                Kind.EXTERNAL,
                "its task was cancelled, or it raised CancelledError itself",
            )
            self._stop = Stop(kind, text, None, now, self._grace, self._phase is not _PENDING)
        if rung is not None:
            self._stop.rung = rung
        if survivors:
            self._stop.survivors = survivors
        self._close(_CANCELLED)
        self._settle_stopped()

    def give_up(self) -> None:
        """The ladder is at its end and the body is not: control goes back to whoever waits; the body stays listed."""
        body = self.body
        self._close(_ABANDONED)
        self.body = body
        live[self] = None
        assert self._stop is not None
        _logger.warning("%s could not be stopped and was abandoned: stuck at %s", self.ref, at_line(self.where()))
        self._settle_stopped()

    def _settle_stopped(self) -> None:
        stop = self._stop
        assert stop is not None
        assert self._ended_at is not None
        if stop.kind in _LIMITS:
            evidence = partial(stop.report, self._ended_at, ()) if self.body is None else self._evidence
            _set_exception(self, TimedOut(self.ref, stop.reason, evidence))
        else:
            _set_cancelled(self, stop.text or None)

    def _close(self, state: State) -> None:
        self._phase = state
        self._ended_at = self.timers.now()
        self.body = None
        live.pop(self, None)
        if self.timer_at != NEVER:
            self.timers.remove(self)
        if self._parent is not None and self._parent._children is not None:
            self._parent._children.pop(self, None)
        if self._children:
            self._stop_children()
        waiters = self._waiters
        if waiters is not None:
            self._waiters = None
            for waiter in waiters:
                if not waiter.done():
                    waiter.set_result(None)

    def _stop_children(self) -> None:
        assert self._children is not None
        text = "its parent ended" if self._stop is None else (self._stop.text or str(self._stop.kind))
        for child in tuple(self._children):
            if child._loop is self._loop:
                child.request(Kind.PARENT, text, str(self.ref), child._grace)
            elif not child._loop.is_closed():  # started in a thread that runs a loop of its own
                child.timers.call(child.request, Kind.PARENT, text, str(self.ref), child._grace)

    def _ended_late(self, how: str) -> None:
        live.pop(self, None)
        self.body = None
        assert self._ended_at is not None
        _logger.warning("%s, abandoned %.3g s ago, ended: it %s", self.ref, self.timers.now() - self._ended_at, how)

    # --- its timer (the Entry protocol)

    def _set_timer(self) -> None:
        if self.timer_at != NEVER:
            self.timers.remove(self)
        due = self._deadline
        if self._stall is not None:
            silent = self._progress_at + self._stall
            due = silent if due is None or silent < due else due
        if due is not None:
            self.timers.add(self, due)

    def timer_due(self, now: float) -> None:
        """A limit or the next step of the stop may be due."""
        if self._stop is not None:
            self._stop.advance(self, now)
            return
        overdue = self.overdue(now)
        if overdue is None:
            self._set_timer()
        else:
            self.request(*overdue, None, self._grace)

    def blocked(self, now: float) -> None:
        """The body blocks the loop, so that no timer runs: take the steps that are due."""
        unblock(self, now)

    def overdue(self, now: float) -> tuple[Kind, str] | None:
        """The limit that has passed unheeded, if any, and its words."""
        if self._deadline is not None and self._deadline <= now:
            return Kind.DEADLINE, f"within {self._limit:g} s"
        if self._stall is not None and self._progress_at + self._stall <= now:
            return Kind.STALLED, f"for {self._stall:g} s"
        return None

    def __repr__(self) -> str:
        return f"<Operation {self.id} {self.name!r} {self._phase}>"
