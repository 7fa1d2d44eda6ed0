"""A coroutine as the body of an operation.

An `asyncio.Task` can only be asked: it throws `CancelledError` into the coroutine, again and again the same one. To go
further, the task does not run the coroutine itself but a *driver* that passes every ``send`` and ``throw`` on to it.
Three things become possible there, and nowhere else without taking the task out of step with its coroutine: the
`CancelledError` of the last asking is exchanged for `StopForced`; the ending is known in the very step in which it
happens; and a body that was given up can be let go of when its task is cancelled from outside once more.
"""

import asyncio
import sys
from asyncio import CancelledError, _get_running_loop, get_running_loop
from collections.abc import Callable, Coroutine
from typing import Any, ClassVar

from ..._words.errors import StopForced
from ..._words.frame import RawStack
from ..._words.place import Body, Sink
from ..._words.report import Rung
from .bury import bury
from .stack import chain_of, is_handling, is_suspended, leads_to, shield_on_stack, stack_of, stems_from

__all__ = ["TaskBody", "TaskWork"]


class TaskWork:
    """A coroutine that was not started yet."""

    __slots__ = ("coro", "name")
    place = "task"

    def __init__(self, coro: Coroutine[Any, Any, Any], name: str | None = None) -> None:
        self.coro: Any = coro
        self.name = name or getattr(coro, "__qualname__", "coroutine")

    def open(self) -> "TaskBody":
        """The body to drive."""
        return TaskBody(self.coro)


class TaskBody(Body, Coroutine[Any, Any, None]):
    """Drives a coroutine for an operation; itself the coroutine of an `asyncio.Task`."""

    __slots__ = (
        "_asked_with",
        "_forcing",
        "_given_up",
        "_interrupted",
        "_sink",
        "_started",
        "coro",
        "name",
        "task",
    )
    place = "task"
    insists = True
    #: what the interrupter found on the stack, a body or the coroutine of a plain task, and what came of it
    _on_stack: ClassVar[object] = None
    _raising: ClassVar[BaseException | None] = None

    def __init__(self, coro: Coroutine[Any, Any, Any]) -> None:
        self.coro: Any = coro
        self.name: str = getattr(coro, "__qualname__", "coroutine")
        self._started = False
        self._forcing = False
        self._given_up = False
        self._interrupted = False
        self._asked_with: BaseException | None = None
        self.task: asyncio.Task[None] | None = None

    @property
    def given_up(self) -> bool:
        """Whether its operation was abandoned: nobody takes care of its end any more."""
        return self._given_up

    @property
    def reached(self) -> bool:  # type: ignore[override]  # computed when it is read
        """Whether a `CancelledError` of the stop was thrown into the coroutine."""
        return self._asked_with is not None

    # --- what the operation asks for

    def begin(self, sink: Sink) -> None:
        """Create the task; with eager tasks the first step runs at once."""
        self._sink = sink
        task: asyncio.Task[None] = get_running_loop().create_task(self)
        if not task.done():
            self.task = task

    def ask(self, text: str) -> RawStack | None:
        """Cancel the task. Where it waits is noted when the request arrives, unless others have to end before."""
        self._asked_with = None  # scopes of its own may have called off a block of it before
        if TaskBody._on_stack is not None and self._raise(CancelledError()):
            return self.where()
        task = self.task
        assert task is not None
        waiter = task._fut_waiter  # type: ignore[attr-defined]
        where = None if waiter is None or type(waiter) is asyncio.Future else stack_of(self.coro)
        task.cancel(text or None)
        return where

    def insist(self) -> bool:
        """Cancel again, unless the body is in its clean-up."""
        if self._obeying():
            return False
        if TaskBody._on_stack is None and self._asked_with is None and self._is_awake():
            return False  # the loop is late: the first asking is still on its way
        if TaskBody._on_stack is None or not self._raise(CancelledError()):
            self._cancel()
        return True

    def force(self) -> bool:
        """Cancel once more; what arrives in the body is `StopForced`."""
        obeying = self._obeying()
        if TaskBody._on_stack is not self:
            self._forcing = True
            self._cancel()
        if TaskBody._on_stack is not None:
            self._raise(StopForced())
        return not obeying

    def abandon(self) -> bool:
        """Let the body go on without anybody waiting for it."""
        self._given_up = True
        return not self._obeying()

    def where(self) -> RawStack:
        """The chain of awaits, outermost first."""
        return stack_of(self.coro)

    def is_here(self) -> bool:
        """Whether the calling code runs in the body's own task."""
        return self.task is not None and _get_running_loop() is not None and asyncio.current_task() is self.task

    def noted(self, error: BaseException) -> bool:
        """A checkpoint raises `error` in the body; refusals are counted elsewhere."""
        self._asked_with = error
        self._interrupted = False
        return False

    def _is_awake(self) -> bool:
        """Whether the task has a step before it, in which whatever was asked of it arrives."""
        waiter = getattr(self.task, "_fut_waiter", None)
        return waiter is None or waiter.done()

    def _cancel(self) -> None:
        assert self.task is not None
        self._asked_with = None  # this asking is on its way: until it has arrived it can't have been refused
        self.task.cancel()

    def _obeying(self) -> bool:
        if TaskBody._on_stack is self:
            return self._asked_with is not None and stems_from(sys.exception(), self._asked_with)
        if TaskBody._on_stack is not None and self._waits_for(TaskBody._on_stack):
            return stems_from(sys.exception(), CancelledError)
        return is_handling(self.coro, self._asked_with, behind=True)

    # --- the blocked loop

    @property
    def sink(self) -> Sink:
        """The operation."""
        return self._sink

    def interrupt(self, act: Callable[[], object]) -> BaseException | None:
        """Run `act` in the middle of the body's own step: what is to be raised there, now, if `act` asked this body.

        For the interrupter: a body that blocks the loop is on the stack and can't be asked through its task.
        """
        return _found_on_stack(self, StopForced() if self._given_up else None, act)

    def holds_up(self, task: "asyncio.Task[Any]", *, through_shields: bool = True) -> bool:
        """Whether `task` waits for this body, which runs now, at whatever distance."""
        return is_held_up(task, self.coro, through_shields=through_shields)

    def _waits_for(self, coro: object, *, through_shields: bool = True) -> bool:
        if isinstance(coro, TaskBody) or self.task is None:
            return False
        return is_held_up(self.task, coro, through_shields=through_shields)

    def _raise(self, error: BaseException) -> bool:
        """Have `error` raised in what is on the stack, if that is this body, or a plain task that it waits for."""
        if TaskBody._on_stack is self:
            if self._asked_with is None:
                self._sink.located(self.where())
            self._asked_with = error
        elif not self._waits_for(TaskBody._on_stack, through_shields=isinstance(error, StopForced)):
            return False
        TaskBody._raising = error
        self._interrupted = isinstance(error, CancelledError)
        return True

    # --- the coroutine that the task runs

    def __next__(self) -> Any:
        try:
            if self._started:
                return self.coro.send(None)
            self._started = True
            if self.task is None:  # an eager task, which runs its first step before anybody gets to know it
                self.task = asyncio.current_task()
            self._sink.entered()
            return self.coro.send(None)
        except StopIteration as stop:
            self._sink.returned(stop.value)
            self.task = None
        except BaseException as error:
            self._ended(error)
        raise StopIteration

    def send(self, value: Any, /) -> Any:
        """Pass a step on."""
        if value is None:
            return self.__next__()
        raise TypeError("a task sends nothing but None")

    def throw(self, typ: Any, val: Any = None, tb: Any = None, /) -> Any:
        """Pass an exception on, the last asking as `StopForced`."""
        error: BaseException = typ if val is None and isinstance(typ, BaseException) else (val or typ())
        typ = val = None
        if isinstance(error, CancelledError):
            if not self._started:
                self._started = True
                self.coro.close()
                self._sink.stopped()
                self.task = None
                raise StopIteration
            if self._forcing:
                self._forcing = False
                error = StopForced(*error.args)
            elif self._given_up:
                self._let_go()
                raise StopIteration
            if self._asked_with is None:
                self._sink.located(stack_of(self.coro, arrived=True))
            self._asked_with = error
            self._interrupted = False
        try:
            return self.coro.throw(error)
        except StopIteration as stop:
            self._sink.returned(stop.value)
            self.task = None
        except BaseException as error:
            self._ended(error)
        raise StopIteration

    def close(self) -> None:
        """Close the coroutine: the task was destroyed before its end."""
        self.coro.close()

    def __await__(self) -> "TaskBody":
        return self

    def __iter__(self) -> "TaskBody":
        return self

    def _ended(self, error: BaseException) -> None:
        self._asked_with = None
        task, self.task = self.task, None
        if isinstance(error, (CancelledError, StopForced)) or _is_stopped_group(error):
            self._sink.stopped(Rung.INTERRUPTED if self._interrupted and not isinstance(error, StopForced) else None)
            return
        self._sink.raised(error)
        if isinstance(error, (KeyboardInterrupt, SystemExit)):
            if task is not None:
                task.add_done_callback(asyncio.Task.exception)  # seen: no complaint that it was never retrieved
            raise error

    def _let_go(self) -> None:
        """Somebody else waits for the end of a task whose body refused everything: the body is never resumed."""
        chain = chain_of(self.coro)  # held meanwhile: what ignores the closing must not be destroyed by it
        answer: BaseException | None = None
        try:
            self.coro.close()
        except BaseException as error:
            answer = error
        stuck = [part for part in chain if is_suspended(part)]
        for part in stuck:
            bury(part)
        if answer is None or stuck:
            self._sink.stopped(Rung.ABANDONED)
        else:
            self._ended(answer)

    # --- what asyncio's reprs and stack printers read

    @property
    def __name__(self) -> str:  # pyright: ignore[reportIncompatibleVariableOverride]
        return self.name

    @property
    def cr_code(self) -> Any:
        return self.coro.cr_code

    @property
    def cr_frame(self) -> Any:
        return self.coro.cr_frame

    @property
    def cr_running(self) -> Any:
        return self.coro.cr_running

    @property
    def cr_await(self) -> Any:
        return self.coro.cr_await


def interrupt_plain(coro: object, act: Callable[[], object]) -> BaseException | None:
    """Like `TaskBody.interrupt`, for the coroutine of a task that is no operation.

    What `act` asks of a body that waits for it, and is held up by it, is asked of it instead: cancelling the task of that
    body, too, would cancel this one twice. Where its end does not end that body, the body is asked again, as always.
    """
    return _found_on_stack(coro, None, act)


def _found_on_stack(found: object, error: BaseException | None, act: Callable[[], object]) -> BaseException | None:
    outer = TaskBody._on_stack, TaskBody._raising  # a checkpoint may run inside what another one has set going
    TaskBody._on_stack, TaskBody._raising = found, error
    try:
        act()
        return TaskBody._raising
    finally:
        TaskBody._on_stack, TaskBody._raising = outer


def _is_stopped_group(error: BaseException) -> bool:
    """Whether it is how a group of tasks tells that all of them were stopped."""
    return isinstance(error, BaseExceptionGroup) and error.split((CancelledError, StopForced))[1] is None


def is_held_up(task: "asyncio.Task[Any]", coro: object, *, through_shields: bool = True) -> bool:
    """Whether `task` waits, at whatever distance, for the coroutine that runs now."""
    waiting: Any = task.get_coro()
    waiting = getattr(waiting, "coro", waiting)
    if getattr(waiting, "cr_running", False):  # below it on the stack: it started the other one eagerly
        return through_shields or not shield_on_stack(waiting.cr_frame)
    return leads_to(waiting, coro, through_shields=through_shields)


#: for the interrupter: the code objects below which the body's own frames begin
DRIVING: tuple[Callable[..., Any], ...] = (TaskBody.__next__, TaskBody.throw)
