"""The handle of one piece of work, and its life: it begins, is limited, asked to stop, ended by its body, and closed.

An `Operation` is an `asyncio.Future` whose ending is bounded. The limits and the ladder reach it through its timer (the
`Entry` protocol), the body through the `Sink` protocol; `stopping` has the ladder. Everything that is read seldom (texts,
frames with source lines, reports, exceptions) is made when it is asked for, so that starting and cancelling stay cheap.
"""

import logging
import sys
from asyncio import AbstractEventLoop, CancelledError, Future, _get_running_loop, current_task
from collections.abc import Generator
from contextvars import ContextVar
from functools import partial
from itertools import count
from math import inf
from typing import Any, TypeVar, final

from .._scopes.timers import NEVER, Entry, Timers
from .._words.duration import delay, limit
from .._words.errors import OperationCancelled, TimedOut
from .._words.frame import Frame, RawStack, at_line
from .._words.outcome import Abandoned, Cancelled, Completed, Failed, Outcome
from .._words.place import Body
from .._words.policy import DEFAULT, Policy
from .._words.reason import LIMITS, Kind, Reason
from .._words.ref import Ref
from .._words.report import Rung, StopReport
from .._words.state import State
from .asking import hand_on, handed
from .blocking import unblock
from .history import recorder
from .hooks import emit, hooks
from .loops import CLOSING, forget, hosts, is_closing, timers_for
from .plain import name_of, short, text_of
from .sleeping import sleepers, wake
from .stopping import Stop, frames_of, where_of
from .watching import Watch

__all__ = ["Operation", "current_operation", "live"]

T = TypeVar("T")
_UNSET: Any = object()
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


@final
class Operation(Future[T]):
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
        "_children",
        "_deadline",
        "_ended_at",
        "_grace",
        "_limit",
        "_name",
        "_number",
        "_parent",
        "_phase",
        "_place",
        "_progress",
        "_progress_at",
        "_stall",
        "_started_at",
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
        loop: AbstractEventLoop,
        timeout: float | None,
        stall: float | None,
        grace: float,
        parent: "Operation[Any] | None",
    ) -> None:
        _init(self, loop=loop)
        self.body: Body | None = body
        self._place = body.place
        self.timers: Timers = hosts.get(loop) or timers_for(loop, live)
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
        self._awaited_by: list[Any] | None = None
        self._progress: Any = None
        self._ended_at: float | None = None
        self._deadline: float | None = None
        self._started_at = self._progress_at = self.timers.now()
        if body.queued:  # nobody expects progress of it before its begin
            self._progress_at = inf
        live[self] = None
        if parent is not None:
            if parent._children is None:
                parent._children = {}
            parent._children[self] = None
        if (timeout is not None or stall is not None) and not body.queued:
            self._start_limits(self._started_at)
        if hooks.started:
            emit(hooks.started, self)
        try:
            body.begin(self)
        except BaseException as error:  # which whoever starts it hears: no complaint that nobody retrieved it
            if self._ended_at is None:
                self._close(_FAILED, error)
                _set_exception(self, error)
                if hooks.ended:
                    emit(hooks.ended, self)
            if not self.cancelled():
                _future_exception(self)
            raise

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
        """The point on the clock of the loop at which it is stopped; ``None`` without a limit, or while it is pending."""
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
        if self._loop.is_closed():
            forget(self._loop, live)
            return False
        if grace is None and self._awaited_by is not None and self._wakes_caller(reason if msg is _UNSET else msg):
            return True
        grace = self._grace if grace is None else min(delay(grace, "grace"), self.policy.longest_grace)
        if isinstance(reason, Reason):
            kind, text, by = reason.kind, reason.text, reason.by
        else:
            kind, by = Kind.REQUESTED, None
            if reason is None and msg is not _UNSET:
                reason = msg
            text = text_of(reason) if reason else ""
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
        if current_operation.get() is self:
            self._refuse_itself()
        self.cancel(reason, grace=grace)
        held: CancelledError | None = None
        while not self.done():
            try:
                await self.completion()
            except CancelledError as error:
                held = error
        if held is not None:
            raise held
        return self._outcome()

    def reschedule(self, timeout: float | None) -> None:
        """Set a new limit: `timeout` seconds from now, or none. For what is pending: from the start of the body.

        Raises:
            RuntimeError: it is being stopped or has ended.
        """
        timeout = limit(timeout, "timeout")
        if self._stop is not None or self.done():
            raise RuntimeError(f"{self.name!r} is {self._phase}: its deadline can't be changed any more")
        self._limit = timeout
        body = self.body
        if self._phase is _PENDING and body is not None and body.queued:
            return
        self._deadline = None if timeout is None else self.timers.now() + timeout
        self._set_timer()
        if body is not None:
            body.limited()

    # --- waiting for it

    def __await__(self) -> Generator[Any, None, T]:
        if self._ended_at is None:
            held: CancelledError | None = None
            task: Any = current_task() if self._awaited_by is None else None
            if task is not None:
                # The first one who waits needs no future besides this one. Whether a cancel is meant for the task that
                # waits or for the operation is told by that task's count of requests.
                if current_operation.get() is self:
                    self._refuse_itself()
                level = task.cancelling()
                if task._must_cancel:  # a cancel that has not arrived yet: it is the caller's
                    level -= 1
                self._awaited_by = [task, level]
                self._asyncio_future_blocking = True
                try:
                    yield self
                except BaseException as error:
                    if isinstance(error, CancelledError) and (task.cancelling() > level or self._ended_at is None):
                        held = CancelledError() if isinstance(error, OperationCancelled) else error
                    elif self._ended_at is None:
                        raise
                finally:
                    self._awaited_by = None
                if held is not None and self._ended_at is None:
                    self._follow(held)
            while not self.done():
                try:
                    yield from self.completion()
                except CancelledError as error:  # it is the caller that is cancelled
                    if held is None:
                        held = error
                        self._follow(error)
            if held is not None:
                if not self.cancelled():
                    _future_exception(self)  # seen: the caller's own cancel goes before it
                raise held
        return _future_result(self) if self._phase is _COMPLETED else self.result()

    def __iter__(self) -> Generator[Any, None, T]:
        return self.__await__()

    async def outcome(self) -> Outcome[T]:
        """Wait for the ending as a value. Only looks on: the caller's own cancel, alone, raises and stops nothing."""
        if not self.done():
            waiter = self.completion()
            try:
                await waiter
            except CancelledError:
                self.forget(waiter)
                raise
        return self._outcome()

    def watch(self, every: float = 1.0) -> "Watch":
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
        return OperationCancelled(self.ref, self._stop.reason, self._evidence())

    def completion(self) -> "Future[None]":
        """Return a future of one waiter's own that is done when the operation is."""
        if current_operation.get() is self:
            self._refuse_itself()
        waiter: Future[None] = self._loop.create_future()
        if self._ended_at is not None:
            waiter.set_result(None)
        elif self._waiters is None:
            self._waiters = [waiter]
        else:
            self._waiters.append(waiter)
        return waiter

    def _refuse_itself(self) -> None:
        """Raise, if the code that runs in the operation is its very body, which can't wait for its own end."""
        if self.body is not None and self.body.is_here():
            raise RuntimeError(f"{self.name!r} can't wait for its own end")

    def forget(self, waiter: "Future[None]") -> None:
        """Forget a waiter that lost interest."""
        if self._waiters is not None and waiter in self._waiters:
            self._waiters.remove(waiter)

    def _wakes_caller(self, message: Any) -> bool:
        """Whether it is the task which awaits this operation that is being cancelled: then that task is woken with it."""
        waiting = self._awaited_by
        if waiting is None or _get_running_loop() is not self._loop:
            return False
        task, known = waiting
        waiting[1] = requests = task.cancelling()
        if requests <= known:
            return False
        callbacks: Any = self._callbacks or ()
        for callback, context in tuple(callbacks):
            if getattr(callback, "__self__", None) is task:
                self.remove_done_callback(callback)
                cancelled: Future[None] = self._loop.create_future()
                cancelled.cancel(message)
                self._loop.call_soon(callback, cancelled, context=context)
        return True

    def _follow(self, error: CancelledError) -> None:
        """The code that awaits this operation was cancelled: call the operation off with it."""
        caller = current_operation.get()
        text = text_of(error.args[0]) if error.args else "the code that awaits it was cancelled"
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
        return (Abandoned if state is _ABANDONED else Cancelled)(self.ref, self._evidence())

    # --- how it is stopped

    def request(self, kind: Kind, text: str, by: str | None, grace: float) -> None:
        """Begin the stop, or hasten the one on its way; on the loop's thread."""
        body = self.body
        if body is None or self._ended_at is not None:
            return
        now = self.timers.now()
        if self._stop is not None:
            self._stop.hasten(self, now, grace)
            return
        stop = self._stop = Stop(kind, text, by, now, grace, self._phase is not _PENDING)
        self._phase = _STOPPING
        if self.timer_at != NEVER:
            self.timers.remove(self)
        stop.begin(self, body, now)
        if sleepers:
            wake(self)
        if handed:
            hand_on(self)
        if hooks.asked:
            emit(hooks.asked, self)

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
        if self._stop is not None:
            self._stop.advance(self, now)
            return
        overdue = self.overdue(now)
        if overdue is None:
            self._set_timer()
        else:
            self.request(*overdue, None, self._grace)

    def overdue(self, now: float) -> tuple[Kind, str] | None:
        """The limit that has passed unheeded, if any, and its words."""
        if self._deadline is not None and self._deadline <= now:
            return Kind.DEADLINE, f"within {self._limit:g} s"
        if self._stall is not None and self._progress_at + self._stall <= now:
            return Kind.STALLED, f"for {self._stall:g} s"
        return None

    def _start_limits(self, now: float) -> None:
        """Start the clock of the limits: the body begins, or is as good as begun."""
        self._progress_at = now
        if self._limit is not None:
            self._deadline = now + self._limit
        self._set_timer()

    def _set_timer(self) -> None:
        if self.timer_at != NEVER:
            self.timers.remove(self)
        due = self._deadline
        if self._stall is not None:
            silent = self._progress_at + self._stall
            due = silent if due is None or silent < due else due
        if due is not None:
            self.timers.add(self, due)

    def give_up(self) -> None:
        """The ladder is at its end and the body is not: control goes back to whoever waits; the body stays listed."""
        self._leave_running()
        stop = self._stop
        assert stop is not None
        line = at_line(frames_of(stop.stuck))
        left = "; ".join(stop.survivors)
        _logger.warning(
            "%s could not be stopped and was abandoned%s%s",
            self.ref,
            f": stuck at {line}" if line else "",
            f"; still running: {left}" if left else "",
        )
        self._settle_stopped()
        body = self.body
        if body is not None and body.task is not None and is_closing():
            body.task.cancel()  # whoever closes the loop waits for the task: let go of it

    def lose_loop(self) -> None:
        """Its loop was closed before it ended, and it can't go on: use force, and give up."""
        body, now = self.body, self.timers.now()
        stop = self._stop
        if stop is None:
            stop = self._stop = Stop(Kind.SHUTDOWN, CLOSING, None, now, 0.0, self._phase is not _PENDING)
        stop.lose(self, body)
        self._waiters = self._children = None
        callbacks: Any = self._callbacks or ()
        for callback, _ in tuple(callbacks):
            self.remove_done_callback(callback)
        _logger.warning("%s was abandoned: its event loop was closed before it ended", self.ref)
        self._close(_ABANDONED)
        self._settle_stopped()

    # --- what the body says (the Sink protocol)

    def entered(self) -> None:
        """The body runs its first step in a context of its own."""
        current_operation.set(self)
        if self._phase is _PENDING:
            self._phase = _RUNNING
            if (self._limit is not None or self._stall is not None) and self.timer_at == NEVER:
                self._start_limits(self.timers.now())
        elif self._stop is not None:  # it began before the asking could arrive there
            self._stop.started = True
        if hooks.entered:
            emit(hooks.entered, self)

    def located(self, where: RawStack) -> None:
        """The request has arrived in the body, which was there."""
        stop, body = self._stop, self.body
        if stop is None:
            if body is None or not is_closing():
                return
            now = self.timers.now()
            grace = min(self._grace, DEFAULT.grace)
            stop = self._stop = Stop(Kind.SHUTDOWN, CLOSING, None, now, grace, self._phase is not _PENDING)
            self._phase = _STOPPING
            if self.timer_at != NEVER:
                self.timers.remove(self)
            stop.arm(self, body, now)
            if handed:
                hand_on(self)
            if hooks.asked:
                emit(hooks.asked, self)
        if stop.where is None:
            stop.where = where

    def progressed(self, value: Any) -> None:
        """The body reported progress."""
        self._progress = value
        self._progress_at = self.timers.now()

    def refused(self) -> None:
        """The body was asked and went on."""
        if self._stop is not None:
            self._stop.refusals += 1

    def returned(self, value: Any, survivors: tuple[str, ...] = ()) -> None:
        """The body ended with a value; `survivors` go on all the same."""
        if self._ended_at is not None:
            self._ended_late("returned", value)
            return
        body, stop = self.body, self._stop
        if stop is not None and body is not None:
            stop.refusals += body.reached
        self._note_survivors(survivors)
        self._close(_COMPLETED)
        _set_result(self, value)
        if hooks.ended:
            emit(hooks.ended, self)

    def raised(self, error: BaseException, survivors: tuple[str, ...] = ()) -> None:
        """The body ended with an error of its own; `survivors` go on all the same."""
        if self._ended_at is not None:
            self._ended_late("raised", error)
            return
        self._note_survivors(survivors)
        self._close(_FAILED, error)
        _set_exception(self, error)
        if hooks.ended:
            emit(hooks.ended, self)

    def stopped(self, rung: Rung | None = None, survivors: tuple[str, ...] = ()) -> None:
        """The body ended because it was stopped; with `survivors`, a second call tells that these have ended, too."""
        if self._ended_at is not None:
            self._ended_late("was let go of with its task" if rung is Rung.ABANDONED else "obeyed")
            return
        stop = self._stop
        if stop is None:  # cancelled behind our back, or it raised CancelledError on its own
            now = self.timers.now()
            kind, text = self.overdue(now) or (
                (Kind.SHUTDOWN, CLOSING)
                if is_closing()
                else (Kind.EXTERNAL, "its task was cancelled, or it raised CancelledError itself")
            )
            stop = self._stop = Stop(kind, text, None, now, self._grace, self._phase is not _PENDING)
        if rung is not None:
            stop.rung = rung
        if survivors:
            stop.survivors = survivors
            stop.rung = Rung.ABANDONED
            self.give_up()
        else:
            self._close(_CANCELLED)
            self._settle_stopped()

    def blocked(self, now: float) -> None:
        """The body blocks the loop, so that no timer runs: take the steps that are due."""
        unblock(self, now)

    # --- its end

    def _settle_stopped(self) -> None:
        stop = self._stop
        assert stop is not None
        assert self._ended_at is not None
        if stop.kind in LIMITS:
            evidence = partial(stop.report, self._ended_at, ()) if self.body is None else self._evidence()
            _set_exception(self, TimedOut(self.ref, stop.reason, evidence))
        else:
            _set_cancelled(self, stop.text or None)
        if hooks.ended:
            emit(hooks.ended, self)

    def _note_survivors(self, survivors: tuple[str, ...]) -> None:
        if survivors:
            if self._stop is not None:
                self._stop.survivors = survivors
            _logger.warning("%s left behind what could not be ended: %s", self.ref, "; ".join(survivors))

    def _leave_running(self) -> None:
        body = self.body
        self._close(_ABANDONED)
        self.body = body
        live[self] = None

    def _close(self, state: State, error: BaseException | None = None) -> None:
        self._phase = state
        timers = self.timers
        self._ended_at = now = timers.now()
        self.body = None
        if recorder.append is not None:
            recorder.record(self, now, error)
        live.pop(self, None)
        if handed:
            handed.pop(self, None)
        if self.timer_at != NEVER:
            timers.remove(self)
        parent = self._parent
        if parent is not None and parent._children is not None:
            parent._children.pop(self, None)
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

    def _ended_late(self, how: str, *what: object) -> None:
        """The body has told its end once more: that matters when the operation was abandoned before."""
        if self.body is None:
            return
        live.pop(self, None)
        self.body = None
        assert self._ended_at is not None
        text = " ".join((how, *map(short, what)))
        _logger.warning("%s, abandoned %.3g s ago, ended: it %s", self.ref, self.timers.now() - self._ended_at, text)
        if hooks.ended_late:
            emit(hooks.ended_late, self, text)


#: every operation that has not really ended, oldest first (a dict used as an ordered set): held strongly, so that none is
#: ever garbage collected; abandoned operations stay until their body ends
live: dict[Operation[Any], None] = {}

_inside: Any = getattr(sys.modules.get("_calloff._child.inside"), "operation", None)
#: the operation that the running code belongs to; in a worker of the process place, what stands there for it
current_operation: ContextVar[Operation[Any] | None] = ContextVar("calloff.current_operation", default=_inside)
