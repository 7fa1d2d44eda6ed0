"""`TaskGroup`: asyncio's as of 3.15, on every Python, that can be called off, limited, and insist.

The group gets out of its block with a scope of its own: the scope cancels the task that runs the block, and when the
block is left, its count tells that cancel from one that is meant for the task. Once the block has ended only the
children are cancelled any more.

Errors go before a cancel: they are raised as a group, and a cancel that arrived together with them has to be heard once
more, at the next await. Where all of it came from scopes around the group, these see to that, and forget it when they
are left before; a cancel from anywhere else is noted in the task, as asyncio does.
"""

import asyncio
from asyncio import CancelledError, Future, Task
from collections.abc import Callable, Coroutine
from contextvars import Context
from math import inf
from sys import version_info
from types import TracebackType
from typing import Any, Self, TypeVar

from .._words.duration import limit
from .._words.errors import TimedOut, is_cancel
from .._words.frame import RawStack
from .._words.policy import DEFAULT
from .._words.reason import Kind, Reason
from .._words.untouched import is_a
from .pool import pool_of
from .scope import Scope, State, requests_of
from .timers import NEVER, Entry
from .where import raised_at, waiting_at

__all__ = ["TaskGroup"]

T = TypeVar("T")
#: what tells the inspectors of Python 3.14 and newer which task waits for which
_waits_for: Callable[[Any, Any], None] | None = getattr(asyncio, "future_add_to_awaited_by", None)
_waits_no_more_for: Callable[[Any, Any], None] | None = getattr(asyncio, "future_discard_from_awaited_by", None)


class TaskGroup:
    """Tasks that end together: `asyncio.TaskGroup`, and more.

    Args:
        timeout: seconds from the entry until the tasks and the block are cancelled and `TimedOut` is raised.
        grace: seconds that what was cancelled has for its clean-up; after that it is cancelled again, and again with
            growing pauses. ``None``: it is cancelled once.

    Raises:
        ExceptionGroup: of the errors, when the block or a task failed; the others were cancelled then.
        TimedOut: the time was over; errors of the clean-up are its cause. The tasks' fault, or the limit was too short.
        ValueError: a duration that is negative or NaN. The caller's fault.

    The block is left when all tasks have ended. A cancel of the task that runs the block cancels the tasks, goes on
    after they have ended, and is never lost.
    """

    def __init__(self, *, timeout: float | None = None, grace: float | None = None) -> None:
        self._timeout = limit(timeout, "timeout")
        self._grace = limit(grace, "grace")
        self._tasks: set[Task[Any]] = set()
        self._errors: list[BaseException] = []
        self._fatal: BaseException | None = None
        self._parent: Task[Any] | None = None
        self._scope = _BlockScope(self)
        self._requests: dict[Scope, int] = {}
        self._entered = False
        self._in_block = False
        self._aborting = False
        self._all_ended: Future[None] | None = None
        self._stuck: RawStack = ()
        self._asked = 0
        self.timer_at = NEVER
        self.timer_bucket: dict[Entry, None] | None = None

    def __repr__(self) -> str:
        info = [""]
        if self._tasks:
            info.append(f"tasks={len(self._tasks)}")
        if self._errors:
            info.append(f"errors={len(self._errors)}")
        if self._aborting:
            info.append("cancelling")
        elif self._entered:
            info.append("entered")
        return f"<TaskGroup{' '.join(info)}>"

    # --- entering and leaving

    async def __aenter__(self) -> Self:
        if self._entered:
            raise RuntimeError(f"TaskGroup {self!r} has already been entered")
        loop = asyncio.get_running_loop()
        parent = asyncio.current_task()
        if parent is None:
            raise RuntimeError(f"TaskGroup {self!r} cannot determine the parent task")
        self._scope._begin(loop, self._timeout, self._grace)
        self._requests = requests_of(parent)
        self._scope.__enter__()
        self._parent = parent
        self._entered = self._in_block = True
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> bool | None:
        parent, scope = self._parent, self._scope
        if parent is None or not self._in_block:
            raise RuntimeError(f"TaskGroup {self!r} has not been entered")
        self._in_block = False
        if error is not None and _is_fatal(error) and self._fatal is None:
            self._fatal = error
        if error is not None or scope._state is State.EXPIRING:
            self._abort()
        held = error if is_cancel(error) else None
        try:
            while self._tasks:
                self._all_ended = parent.get_loop().create_future()
                try:
                    await self._all_ended
                except CancelledError as cancelled:
                    held = cancelled
                    self._abort()
            if self._leave():
                held = None  # nobody but the group has asked for it
            return self._conclude(parent, error, held)
        except BaseException:
            if scope._task is not None:  # something worse than a cancel has ended the wait
                self._abort()
                self._leave()
            raise
        finally:
            self._errors = []
            self._fatal = None
            self._requests = {}
            if not self._tasks:
                self._parent = None
            del error, held, parent  # errors hold their frames, and those would hold the errors

    def _leave(self) -> bool:
        """Give back what was asked of the parent; whether it was asked, and by nobody else."""
        scope = self._scope
        scope._timers.remove(self)
        if scope._state is State.EXPIRING:
            return scope._given_back()
        scope.__exit__(None, None, None)
        return False

    def _conclude(self, parent: Task[Any], error: BaseException | None, held: BaseException | None) -> bool | None:
        """Everything has ended: what comes out of the block?"""
        if self._fatal is not None:
            del error, held, parent  # what is raised holds this frame
            raise self._fatal
        if error is not None and not is_cancel(error):
            self._errors.append(error)
        if held is not None and not self._errors:
            if held is error:
                return False
            raise held
        failures: BaseException | None = None
        if self._errors:
            self._let_cancel_be_heard(parent)
            if is_a(error, GeneratorExit) and len(self._errors) == 1:
                return False
            failures = BaseExceptionGroup("unhandled errors in a TaskGroup", self._errors)
        try:
            if self._scope._state is State.EXPIRED and self._scope._reason is None:
                where = raised_at(error) if error is not None and is_cancel(error) else self._stuck
                raise TimedOut(None, self._scope._why(), raw=where) from failures or error
            if failures is not None:
                raise failures from None
        finally:
            del failures, error, held, parent
        return True

    def _let_cancel_be_heard(self, parent: Task[Any]) -> None:
        """Errors are raised in place of a cancel that was for the parent."""
        others = parent.cancelling() - self._scope._level
        if others <= 0:
            return
        since = {scope: calls - self._requests.get(scope, 0) for scope, calls in requests_of(parent).items()}
        scopes = [scope for scope, calls in since.items() if calls > 0]
        if scopes and sum(since[scope] for scope in scopes) >= others:
            parent.get_loop().call_soon(scopes[0]._deliver_again)
        else:
            parent.uncancel()
            parent.cancel()

    # --- tasks

    def create_task(
        self,
        coro: Coroutine[Any, Any, T],
        *,
        name: str | None = None,
        context: Context | None = None,
        eager_start: bool | None = None,
    ) -> Task[T]:
        """Start a coroutine as a task of the group.

        Args:
            coro: what to run.
            name: of the task.
            context: to run it in; by default a copy of the current one.
            eager_start: from Python 3.14 on: whether its first step runs at once, within this call; by default as the
                task factory of the loop has it.

        Raises:
            TypeError: `eager_start` in a Python without it. The caller's fault.
            RuntimeError: the group was not entered, has ended, or is being called off; the coroutine is closed.
        """
        parent = self._parent
        if not self._entered:
            problem = "has not been entered"
        elif not self._in_block and not self._tasks:
            problem = "is finished"
        elif self._aborting:
            problem = "is shutting down"
        else:
            problem = ""
        if parent is None or problem:
            coro.close()
            raise RuntimeError(f"TaskGroup {self!r} {problem}")
        options: dict[str, Any] = {"name": name}
        if context is not None:
            options["context"] = context
        if eager_start is not None:
            if version_info < (3, 14):
                coro.close()
                raise TypeError("eager_start needs Python 3.14 or newer")
            options["eager_start"] = eager_start
        task = parent.get_loop().create_task(coro, **options)
        # also an eager one that has ended: its error must not cancel the block in the middle of this step
        self._tasks.add(task)
        task.add_done_callback(self._on_done)
        if _waits_for is not None and not task.done():
            _waits_for(task, parent)
        if self._aborting and not task.done():  # its first, eager step has called off the group
            task.cancel()
        try:
            return task
        finally:
            del task  # an error in it holds this frame

    def cancel(self, reason: str | None = None) -> None:
        """Call off the tasks and the block; the group is then left without an error of its own.

        Args:
            reason: why, in words; arrives in the `CancelledError` of the tasks and of the block.

        Before the entry: everything is called off as soon as it is entered. Only the first call counts; after the end
        nothing happens. Errors that tasks raise are raised all the same.
        """
        scope = self._scope
        pool = scope._pool
        why = Reason(Kind.REQUESTED, reason or "", None, 0.0 if pool is None else pool.now())
        if not self._entered:
            if scope._reason is None:
                scope._state = State.DOOMED
                scope._reason = why
        elif (self._in_block or self._tasks) and scope._state is State.ACTIVE and not self._aborting:
            scope._call_off(why)
            self._abort()

    def _on_done(self, task: Task[Any]) -> None:
        self._tasks.discard(task)
        if _waits_no_more_for is not None:
            _waits_no_more_for(task, self._parent)
        if self._all_ended is not None and not self._tasks and not self._all_ended.done():
            self._all_ended.set_result(None)
        if task.cancelled():
            return
        error = task.exception()
        if error is None:
            return
        parent = self._parent
        assert parent is not None
        self._errors.append(error)
        if _is_fatal(error) and self._fatal is None:
            self._fatal = error
        if parent.done():
            message = f"Task {task!r} has errored out but its parent task {parent} is already completed"
            parent.get_loop().call_exception_handler({"message": message, "exception": error, "task": task})
        else:
            self._abort()

    # --- calling it off

    def _abort(self) -> None:
        """Cancel what still runs: the tasks, and the block if it was not left yet."""
        if self._aborting:
            return
        self._aborting = True
        scope = self._scope
        now = scope._timers.now()
        if self._in_block:
            scope._call_off(Reason(Kind.SIBLING, "", None, now))
        text = None
        if scope._state is State.EXPIRING and scope._reason is not None:
            text = scope._reason.text or None
        for task in tuple(self._tasks):
            if not task.done():
                task.cancel(text)
        if self._grace is not None:
            scope._timers.add(self, now + self._grace)

    def timer_due(self, now: float) -> None:
        """What was cancelled has had its grace, or the pause after it."""
        for task in tuple(self._tasks):
            if not task.done():
                task.cancel()
        self._asked += 1
        self._scope._timers.add(self, now + DEFAULT.pause(self._asked))


class _BlockScope(Scope):
    """The hold of a group on its block: while that runs it is cancelled, afterwards only the tasks are."""

    __slots__ = ("_group",)

    def __init__(self, group: TaskGroup) -> None:
        self._group = group
        self._state = State.CREATED
        self._limit = self._grace = self._pool = self._reason = None

    def _begin(self, loop: asyncio.AbstractEventLoop, timeout: float | None, grace: float | None) -> None:
        self._pool = pool_of(loop)
        self._limit = timeout
        self._when = inf if timeout is None else self._pool.now() + timeout
        self._grace = grace

    def _deliver(self) -> None:
        if self._state is State.EXPIRING:
            if self._group._in_block:
                super()._deliver()
            self._group._abort()

    def timer_due(self, now: float) -> None:
        group = self._group
        if self._state is State.ACTIVE and not group._in_block:
            if not group._aborting:  # else all has been done that a deadline does
                self._fire(None, now)
                task = next((task for task in group._tasks if not task.done()), None)
                group._stuck = () if task is None else waiting_at(task.get_coro())
                group._abort()
        else:
            super().timer_due(now)


def _is_fatal(error: BaseException) -> bool:
    return is_a(error, (KeyboardInterrupt, SystemExit))
