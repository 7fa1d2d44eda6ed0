"""Operations that belong together: they end together, and the one who leaves the block knows that they have.

Structured concurrency after Nathaniel J. Smith's "Notes on structured concurrency" (2018) and `asyncio.TaskGroup`,
with a bound: every child climbs its own ladder, so that leaving the block never takes longer than grace + 1 s.
"""

import asyncio
from asyncio import CancelledError, _get_running_loop
from collections.abc import Callable
from contextlib import suppress
from types import TracebackType
from typing import Any, Literal, TypeVar

from .._scopes.scope import arrived, is_running
from .._scopes.timers import NEVER, Entry, Timers, timers_of
from .._words.errors import StopForced, TimedOut, carry, is_cancel
from .._words.frame import RawStack, raised_at
from .._words.place import AsyncWork
from .._words.reason import Kind, Reason
from .._words.report import Rung
from .._words.state import State
from .._words.text import short, text_of
from .._words.untouched import is_a
from .operation import Operation, current_operation
from .stopping import where_of
from .turns import Turns
from .waiting import force, settled

__all__ = ["Group"]

T = TypeVar("T")


class Group:
    """What ``async with calloff.group() as g`` gives; see `calloff.group`."""

    def __init__(
        self,
        starter: Callable[..., Operation[Any]],
        timeout: float | None,
        grace: float,
        on_error: Literal["cancel", "collect"],
        turns: Turns | None = None,
        what: str = "group",
    ) -> None:
        self._what = what
        self._starter = starter
        self._timeout = timeout
        self._grace = grace
        self._turns = turns
        self._collect = on_error == "collect"
        #: those of whose end it has not heard: a group that is left by nobody holds no more than these
        self._operations: dict[Operation[Any], None] = {}
        self._owner: Operation[Any] | None = None
        self._errors: list[BaseException] = []
        self._host: asyncio.Task[Any] | None = None
        self._baseline = 0
        self._in_body = False
        self._host_cancelled = self._was_doomed = False
        self._stopping: Reason | None = None
        self._late: list[tuple[Operation[Any], RawStack]] = []
        self._timers: Timers | None = None
        self.timer_at = NEVER
        self.timer_bucket: dict[Entry, None] | None = None

    @property
    def operations(self) -> tuple[Operation[Any], ...]:
        """Those started in it that have not ended, in the order of their start."""
        return tuple(self._running())

    @property
    def waits_in(self) -> object | None:
        """For stack walkers: the first child that still runs."""
        return next((op for op in self._operations if not op.done()), None)

    def start(self, work: AsyncWork[T], **options: Any) -> Operation[T]:
        """Start work in the group; arguments as for `calloff.start`, `grace` by default the group's.

        Raises:
            RuntimeError: the group was not entered, or is being stopped, or was left; the work is not started.
        """
        is_over = self._stopping is not None and not (self._was_doomed and self._in_body)
        if self._host is None or is_over or (not self._in_body and self.waits_in is None):
            close = getattr(work, "close", None)
            if close is not None:
                close()
            why = "was not entered" if self._host is None else "is over"
            raise RuntimeError(f"the group {why}: nothing can be started in it")
        options.setdefault("grace", self._grace)
        token = current_operation.set(self._owner)  # when a child starts it, it belongs to the group all the same
        try:
            waiting: Any = work if self._turns is None else self._turns.work(work)
            operation: Operation[T] = self._starter(waiting, **options)
        finally:
            current_operation.reset(token)
        self._join(operation)
        return operation

    def _join(self, operation: Operation[Any]) -> None:
        self._operations[operation] = None
        operation.add_done_callback(self._child_ended)
        if self._turns is not None:
            operation.add_done_callback(self._turns.ended)
        if self._stopping is not None:  # it was its first, eager step that called off the group
            operation.cancel(self._stopping)

    def cancel(self, reason: str | None = None) -> None:
        """Call off everything in the group, the body of the block included; the block is left without an error.

        Before the entry: as soon as it is entered.

        May be called from any thread.
        """
        what = Kind.REQUESTED, reason or "", _label()
        host = self._host
        if host is None:
            self._stopping = self._stopping or Reason(*what, 0.0)
            host = self._entered_by()
            if host is not None:  # meanwhile, in another thread, which has perhaps not seen that
                with suppress(RuntimeError):  # it was left, too, and its loop was closed
                    host.get_loop().call_soon_threadsafe(self._call_off)
            return
        loop = host.get_loop()
        if loop is _get_running_loop():
            self._stop(*what)
        elif not loop.is_closed():
            loop.call_soon_threadsafe(self._stop, *what)

    def _entered_by(self) -> "asyncio.Task[Any] | None":
        return self._host

    async def __aenter__(self) -> "Group":
        if self._host is not None:
            raise RuntimeError("a group can be entered only once")
        self._host = asyncio.current_task()
        if self._host is None:
            raise RuntimeError("a group needs to be entered inside a task")
        self._baseline = arrived(self._host)
        self._owner = current_operation.get()
        self._in_body = True
        if self._stopping is not None:  # it was called off before: what is started meanwhile never begins
            self._was_doomed = True
            asyncio.get_running_loop().call_soon(self._cancel_host)
        elif self._timeout is not None:
            self._timers = timers_of(asyncio.get_running_loop())
            self._timers.add(self, self._timers.now() + self._timeout)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> bool | None:  # for checkers, which take plain `bool` for a block that swallows errors
        self._in_body = False
        held = self._disarm(error)
        if held is not None:
            text = text_of(held.args[0]) if held.args else "the code that runs the group was cancelled"
            self._stop(Kind.PARENT, text, _label())
        elif error is not None and not is_cancel(error):
            self._stop(Kind.SIBLING, f"the body of the group raised {short(error)}", _label())
            if is_a(error, StopForced):
                force(self._running(), error)
        try:
            later = await settled(self._running, self._host_was_cancelled)
        finally:
            if self._timers is not None and self.timer_at != NEVER:
                self._timers.remove(self)
        for operation in tuple(self._operations):  # the last one's end has woken us before its callback was called
            self._child_ended(operation)
        return self._conclude(held or later, error)

    def _disarm(self, error: BaseException | None) -> BaseException | None:
        """Take back our own cancel of the host, if any; returned is the host's own cancel."""
        assert self._host is not None
        foreign = not self._host_cancelled or self._host.uncancel() > self._baseline
        return error if foreign and is_cancel(error) else None

    def _conclude(self, held: BaseException | None, error: BaseException | None) -> bool:
        stopping = self._stopping
        if error is not None and not is_cancel(error) and not is_a(error, Exception):
            return False  # KeyboardInterrupt, SystemExit, StopForced: more than an error of the group
        if error is not None and not is_cancel(error):
            if self._collect:
                return False
            self._errors.insert(0, error)
        failures = BaseExceptionGroup("unhandled errors in a group", self._errors) if self._errors else None
        try:
            if held is not None:
                if held is error and failures is None:
                    return False
                if failures is not None:
                    carry(held, failures)
                raise held
            if stopping is not None and stopping.kind is Kind.DEADLINE:
                caller = current_operation.get()
                ref = None if caller is None else caller.ref
                raise TimedOut(ref, stopping, None, *self._evidence(stopping, error)) from failures
            if failures is not None:
                raise failures
            return True  # our own cancel of the body, or nothing at all
        finally:
            self._errors = []
            self._late = []
            del held, error, failures

    def _evidence(self, stopping: Reason, error: BaseException | None) -> tuple[str, RawStack]:
        """Say which children the deadline has found running, and where one was: one that is left, or the first."""
        text = f"the {self._what} did not end {stopping.text}"
        stops = [(late.name, late._stop, where) for late, where in self._late]
        begun = [(name, stop, where) for name, stop, where in stops if stop is not None and stop.started]
        if not begun:
            return text, () if error is None else raised_at(error)
        name, stop, where = max(begun, key=lambda found: found[1].rung is Rung.ABANDONED)  # the first of those
        text += f", as {name!r} still ran" if len(begun) == 1 else f", as {name!r} and {len(begun) - 1} more still ran"
        if stop.rung is Rung.ABANDONED:
            text += f", and {name!r} could not be stopped"
        return text, stop.stuck or where or stop.where or ()

    def _running(self) -> list[Operation[Any]]:
        return [operation for operation in self._operations if not operation.done()]

    def _host_was_cancelled(self, error: CancelledError) -> None:
        text = text_of(error.args[0]) if error.args else "the code that runs the group was cancelled"
        self._stop(Kind.PARENT, text, _label())

    def _child_ended(self, operation: "asyncio.Future[Any]") -> None:
        assert isinstance(operation, Operation)
        if operation not in self._operations:
            return
        self._operations.pop(operation)
        if operation.cancelled() or (self._collect and operation.state is State.FAILED):
            return  # what nobody reads of the latter, Python complains of, as of a task's
        error = operation.exception()
        if self._collect or error is None:
            return
        if operation.state is not State.FAILED and self._stopping is not None:  # its own limit has passed meanwhile
            return
        self._errors.append(error)
        self._stop(Kind.SIBLING, f"{operation.name!r} failed: {short(error)}", str(operation.ref))

    def _stop(self, kind: Kind, text: str, by: str | None) -> None:
        if self._stopping is None:
            self._stopping = Reason(kind, text, by, asyncio.get_running_loop().time())
            self._call_off()

    def _call_off(self) -> None:
        assert self._host is not None
        for operation in self._running():
            operation.cancel(self._stopping)
        if is_running(self._host):
            asyncio.get_running_loop().call_soon(self._cancel_host)  # see scope.py: not while it runs
        else:
            self._cancel_host()

    def _cancel_host(self) -> None:
        if self._in_body and self._host is not None and not self._host_cancelled:
            self._host_cancelled = True
            self._host.cancel()

    @property
    def timer_host(self) -> "asyncio.Task[Any] | None":
        """The task that the deadline will call off, if it has not yet done so."""
        return self._host if self._stopping is None else None

    def timer_due(self, now: float) -> None:
        """The group's deadline has come."""
        assert self._timeout is not None
        for operation in self._running():
            stops = operation._stop is not None  # since longer, so that it is elsewhere by now
            self._late.append((operation, where_of(operation.body, wait=False) if stops else ()))
        self._stop(Kind.DEADLINE, f"within {self._timeout:g} s", None)


def _label() -> str | None:
    caller = current_operation.get()
    return None if caller is None else str(caller.ref)
