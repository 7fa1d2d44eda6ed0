"""What every limit on a block of code has in common.

A scope that is called off cancels its task, once, and gives the request back when it is left: `Task.cancelling` is then
what it was at the entry, whatever the block did. Whether a `CancelledError` that comes out of the block is the scope's
own is told by that count: when nobody else's request is left above the level of the entry, it is. A request that was
made before the entry and has not arrived yet does not belong to that level: it is still to be heard.

A task that is running can't be cancelled cleanly: asyncio would note it and raise at the next await, and where the
block is left before, nobody could take the note back (before 3.13, or inside the clean-up of a cancelled task). So a
scope cancels its running task from the next turn of the loop, unless it has been left by then.

The innermost scope is kept in a context variable, hence child tasks inherit it. To leave one costs no second look at
that variable: a scope that was left has no task any more, and is passed over until the next one takes its place.
Nothing else is done before a scope is called off: most never are.
"""

import asyncio
import sys
from asyncio import CancelledError, Task
from contextvars import ContextVar
from enum import Enum
from math import inf
from types import TracebackType
from typing import Any, Self

from .._words.policy import DEFAULT
from .._words.reason import Kind, Reason
from .pool import Pool, pool_of
from .timers import NEVER, Entry, Timers

__all__ = ["Scope", "State", "innermost", "nearest_deadline", "overdue_scope", "requests_of"]


class _CurrentTasks:
    """The running task of a loop, looked up as in a dict."""

    def __getitem__(self, loop: asyncio.AbstractEventLoop) -> Task[Any]:
        task = asyncio.current_task(loop)
        if task is None:
            raise KeyError(loop)
        return task


_current_tasks: Any = _CurrentTasks()
if sys.version_info < (3, 14):  # where `asyncio.current_task` looks; a look of one's own costs half, on 3.11 a tenth
    _current_tasks = asyncio.tasks._current_tasks  # type: ignore[attr-defined]


class State(Enum):
    """Where a scope is in its life."""

    CREATED = "created"
    DOOMED = "called off before it was entered"
    ACTIVE = "active"
    EXPIRING = "expiring"
    EXPIRED = "expired"
    FINISHED = "finished"


_CREATED, _DOOMED, _ACTIVE = State.CREATED, State.DOOMED, State.ACTIVE
_EXPIRING, _EXPIRED, _FINISHED = State.EXPIRING, State.EXPIRED, State.FINISHED

innermost: "ContextVar[Scope | None]" = ContextVar("calloff.innermost_scope", default=None)
_get = innermost.get
_set = innermost.set


class Scope:
    """Base of `Timeout`, `CancelScope` and the limit of a `TaskGroup`.

    Whoever makes one sets `_state`, `_when`, `_limit`, `_grace` and `_pool`, and `_reason` in state `DOOMED`; the slots
    without which a scope can be entered and left have no value until they need one.
    """

    __slots__ = (
        "_asked",
        "_calls",
        "_fired_at",
        "_grace",
        "_level",
        "_limit",
        "_outer",
        "_pool",
        "_reason",
        "_state",
        "_task",
        "_when",
        "timer_at",
        "timer_bucket",
    )
    _state: State
    _when: float
    """The deadline on the clock of the loop, infinity without one."""
    _limit: float | None
    """The deadline as it was said: seconds from the start, ``None`` when it was given as a point."""
    _grace: float | None
    """Seconds between the first cancel and the next ones; ``None``: there is only one."""
    _pool: Pool | None
    """Of the loop; ``None`` until the entry where it was made without a running one."""
    _task: Task[Any] | None
    _level: int
    """The cancel requests of the task at the entry that had arrived."""
    _outer: "Scope | None"
    _reason: Reason | None
    """``None`` when it was the deadline."""
    _fired_at: float
    _calls: int
    """How many requests are to be given back."""
    _asked: int
    """How many times the block was asked to end."""
    timer_at: float
    timer_bucket: dict[Entry, None] | None

    # --- entering and leaving

    def __enter__(self) -> Self:
        state = self._state
        if state is not _CREATED:
            return self._enter_doomed()
        pool = self._pool
        if pool is None:
            pool = self._pool = pool_of(asyncio.get_running_loop())
        try:
            task: Task[Any] = _current_tasks[pool.loop]
        except KeyError:
            raise RuntimeError(f"{type(self).__name__} should be used inside a task") from None
        self._level = task.cancelling() and arrived(task)
        self._task = task
        outer = _get()
        if outer is not None and outer._task is None:  # it was left: nothing is taken out of a context
            outer = outer._outer
            if outer is not None and outer._task is None:
                outer = outer._living()
        self._outer = outer
        _set(self)
        self._state = _ACTIVE
        when = self._when
        if when >= pool.at:  # what Pool.add does, without the calls
            self.timer_bucket = scopes = pool.scopes
            scopes[self] = None
        else:
            self._wait_until(when)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> bool | None:
        if self._state is _ACTIVE:
            self._state = _FINISHED
            bucket = self.timer_bucket
            if bucket is not None:
                del bucket[self]
            elif self.timer_at != NEVER:
                self._timers.remove(self)
            self._task = None
            outer = self._outer
            if outer is not None and outer._task is None:  # left before this one: a chain of those would have no end
                self._outer = outer._living()
            return None
        return self._ended(error, self._given_back())

    async def __aenter__(self) -> Self:
        return self.__enter__()

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> bool | None:
        return self.__exit__(kind, error, trace)

    def _ended(self, error: BaseException | None, ours: bool) -> bool | None:
        """The block was called off and has ended with `error`; `ours` when no other request is left."""
        raise NotImplementedError

    def _living(self) -> "Scope | None":
        """It, or the next outer scope, that has not been left."""
        scope: Scope | None = self
        while scope is not None and scope._task is None:
            scope = scope._outer
        return scope

    def _given_back(self) -> bool:
        """Take back every request; whether the block ended by them and by no other."""
        task = self._task
        if self._state is not _EXPIRING or task is None:
            raise RuntimeError(f"{type(self).__name__} was not entered")
        self._state = _EXPIRED
        self._timers.remove(self)
        self._task = None
        self._outer = None if self._outer is None else self._outer._living()
        for _ in range(self._calls):
            task.uncancel()
        return self._asked > 0 and task.cancelling() <= self._level

    # --- calling it off

    def _fire(self, reason: Reason | None, now: float) -> None:
        self._state = _EXPIRING
        self._reason = reason
        self._fired_at = now
        self._asked = self._calls = 0

    def _deliver(self) -> None:
        """Cancel the task, for the first time or again."""
        task, timers = self._task, self._timers
        if self._state is not _EXPIRING or task is None:
            return  # left in the meantime
        now = timers.now()
        if not self._asked:
            self._fired_at = now
        self._asked += 1
        self._calls += 1
        task.cancel(None if self._reason is None or not self._reason.text else self._reason.text)
        if self._grace is not None:
            pause = self._grace if self._asked == 1 else DEFAULT.pause(self._asked - 1)
            timers.add(self, now + pause)

    def _call_off(self, reason: Reason) -> None:
        """Called off by hand; only the first call counts."""
        task, timers = self._task, self._timers
        if self._state is not _ACTIVE or task is None:
            return
        timers.remove(self)
        self._fire(reason, timers.now())
        if is_running(task):
            timers.loop.call_soon(self._deliver)
        else:
            self._deliver()

    def _deliver_again(self) -> None:
        """The task was cancelled by this scope, and something that had to be raised first took the place of it."""
        task = self._task
        if self._state is _EXPIRING and self._calls and task is not None:
            task.uncancel()
            task.cancel()

    def _enter_doomed(self) -> Self:
        """Called off, or overdue, before it was entered: that is heard at the next await."""
        if self._state is not _DOOMED:
            raise RuntimeError(f"{type(self).__name__} has already been entered")
        self._state = _CREATED
        try:
            self.__enter__()
        except BaseException:
            self._state = _DOOMED
            raise
        timers = self._timers
        timers.remove(self)
        if self._reason is None:
            timers.loop.call_soon(self._overdue)
        else:
            self._fire(self._reason, timers.now())
            timers.loop.call_soon(self._deliver)
        return self

    # --- the deadline

    def _set_deadline(self, when: float) -> None:
        """Another deadline for a scope that is active."""
        self._timers.remove(self)
        self._when = when
        self._limit = None
        self._wait_until(when)

    def _wait_until(self, when: float) -> None:
        pool = self._pool
        assert pool is not None
        if when > pool.now():
            pool.add(self, when)
        else:
            self.timer_bucket = None
            self.timer_at = NEVER
            pool.loop.call_soon(self._overdue)  # before the block goes on, also where it only yields

    def _overdue(self) -> None:
        now = self._timers.now()
        if self._state is _ACTIVE and self._when <= now:
            self._timers.remove(self)
            self.timer_due(now)
        elif self._state is _EXPIRING and self.timer_at == NEVER and self.timer_bucket is None:
            self.timer_due(now)  # it was interrupted by now, and no timer stands for the end of its grace

    def timer_due(self, now: float) -> None:
        """The deadline has come, or grace or the pause after it is over."""
        if self._state is _ACTIVE:
            self._fire(None, now)
            self._deliver()
        elif self._state is _EXPIRING and self._asked and self._grace is not None:
            over = self._fired_at + self._grace
            if now < over:  # it was interrupted, and the timer still stood at the deadline
                self._timers.add(self, over)
            else:
                self._deliver()

    @property
    def timer_host(self) -> Task[Any] | None:
        """Whom the deadline will call off, if it has not yet done so."""
        return self._task if self._state is _ACTIVE else None

    def interrupting(self) -> CancelledError:
        """Call it off without its task's help: the exception to raise in the block, which blocks the loop, now.

        For a signal handler: touches nothing but the scope.
        """
        self._fire(None, self._timers.now())
        self._asked = 1
        return CancelledError()

    # --- what it says of itself

    @property
    def _timers(self) -> Timers:
        assert self._pool is not None
        return self._pool.timers

    def _why(self) -> Reason:
        if self._reason is not None:
            return self._reason
        text = "by its deadline" if self._limit is None else f"within {self._limit:g} s"
        return Reason(Kind.DEADLINE, text, None, self._fired_at)

    def __repr__(self) -> str:
        when = ""
        if self._state is _ACTIVE:
            when = f" when={None if self._when == inf else round(self._when, 3)}"
        return f"<{type(self).__name__} [{self._state.value}]{when}>"


def arrived(task: Task[Any]) -> int:
    """The cancel requests of a running task without the one that it will hear of at its next await."""
    return task.cancelling() - getattr(task, "_must_cancel", False)


def is_running(task: Task[Any]) -> bool:
    """Whether a task is in the middle of a step: it, or an eager task that it starts, is what runs now."""
    coro: Any = task.get_coro()
    running = getattr(coro, "cr_running", None)
    return bool(getattr(coro, "gi_running", True) if running is None else running)


def nearest_deadline() -> float:
    """The nearest deadline of the scopes that enclose the calling code, its task's ancestors' included.

    Scopes that have been left since count no more. Infinity without any.
    """
    nearest = inf
    scope = innermost.get()
    while scope is not None:
        when = scope._when
        if when < nearest and scope._task is not None:
            nearest = when
        scope = scope._outer
    return nearest


def overdue_scope(now: float) -> Scope | None:
    """The innermost scope of the running task whose deadline has passed unheeded; safe in a signal handler."""
    scope = innermost.get()
    if scope is None or scope._pool is None:
        return None
    task = asyncio.current_task()
    while scope is not None:
        if scope._task is task and scope._state is _ACTIVE and scope._when <= now:
            return scope
        scope = scope._outer
    return None


def requests_of(task: Task[Any]) -> "dict[Scope, int]":
    """The scopes of the running task that have cancelled it, each with its number of requests, innermost first."""
    found: dict[Scope, int] = {}
    scope = innermost.get()
    while scope is not None:
        if scope._task is task and scope._state is _EXPIRING and scope._calls:
            found[scope] = scope._calls
        scope = scope._outer
    return found
