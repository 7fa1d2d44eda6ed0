"""The coroutine that the `asyncio.Task` of a swept function runs, or that of a task which it has started.

It passes every step on to the real coroutine, and reports each to the `Course` of the run.
"""

import asyncio
import weakref
from asyncio import CancelledError
from collections.abc import Coroutine
from typing import TYPE_CHECKING, Any

from .points import Point, Stack, Step, is_handling

if TYPE_CHECKING:
    from .course import Course

__all__ = ["HELD_TURNS", "Driver"]

#: turns of the loop for which a task is held back that is to be hit late, or before its first step
HELD_TURNS = 12


class Driver(Coroutine[Any, Any, Any]):
    """Passes the steps of a task on to a coroutine and reports them."""

    def __init__(self, coro: Coroutine[Any, Any, Any], course: "Course", owner: str = "") -> None:
        self.coro = coro
        self.course = course
        self.owner = owner
        self.task: weakref.ref[asyncio.Task[Any]] | None = None  # a strong one would hide what is never retrieved
        self.made_at: Stack = ()
        self.at: Point | None = None
        self.waits = False
        self.steps = 0
        self.calls = ""
        self.first: Any = None
        self.fresh = False
        self.hold = 0
        self.started = False
        self.suspended = False
        self.done = False
        self.returned = False
        self.raised = 0  # the id of the error that it ended with: the error itself would hold every frame
        self.given_up = False
        self.thrown: list[BaseException] = []
        self.caught_by: Step | None = None
        self.asked_again = False
        self.put_up_with: Step | None = None
        self.for_clean_up_of: Driver | None = None
        self.parent: Driver | None = None
        self.keepers: dict[Step, Any] = {}
        self.had: frozenset[Step] = frozenset()
        self._send = coro.send

    def late(self, _future: Any) -> None:
        """The awaited future has its result, and the task is about to be woken."""
        if self.course.shots == 0:
            if self is not self.course.main:
                self.hold = HELD_TURNS
            self.course.fire()

    def __next__(self) -> Any:
        if self.hold:
            self.hold -= 1
            return None
        if self.given_up:
            raise StopIteration
        course = self.course
        if self.at is not None or course.waiting is self:  # looked at here, and below: there may be many steps
            course.woke(self, False)
        self.suspended = False
        if not self.started:
            self._enter()
        try:
            future = self._send(None) if self.first is None else self._step_first()
        except BaseException as error:
            self._end(error)
            raise
        if self.thrown:
            return self._suspend(future)
        self.suspended = True
        course.suspended(self, future)
        self.fresh = False
        return future

    def finish_first(self, called: Any) -> None:
        """Have the call that is waited for come to its end, and then leave the function there."""
        self.first = called

    def _step_first(self) -> Any:
        try:
            return self.first.send(None)
        except StopIteration as stop:
            self.first, self.course.call_done, self.course.call_value = None, True, stop.value
        except BaseException:
            self.first = None
        return self.coro.throw(RuntimeError("left here"))

    def send(self, value: Any, /) -> Any:
        """Pass a step on."""
        return self.__next__()

    def throw(self, typ: Any, val: Any = None, tb: Any = None, /) -> Any:
        """Pass an exception on."""
        error: BaseException = typ if isinstance(typ, BaseException) else (val or typ())
        self.hold = 0
        if self.given_up:
            self._let_go()
            raise error
        cancelled = isinstance(error, CancelledError)
        self.course.woke(self, cancelled)
        if cancelled and self.course.shots:
            if not self.thrown:
                self.course.is_hit(self)
            self.asked_again |= self.caught_by is not None
            self.thrown.append(error)
        self._enter()
        self.first = None
        noted = cancelled and self.course.plan is None
        try:
            future = self.coro.throw(error)
        except BaseException as ending:
            if noted and isinstance(ending, StopIteration):
                self.put_up_with = _catcher(error)
            self._end(ending)
            raise
        if noted:
            self.put_up_with = _catcher(error)
        return self._suspend(future)

    def close(self) -> None:
        """The task was destroyed before its end."""
        self.coro.close()

    def give_up(self) -> None:
        """Never resume the coroutine again."""
        self.given_up = True
        task = None if self.task is None else self.task()
        if task is not None and not self.done:
            task.cancel()

    def __await__(self) -> "Driver":
        return self

    def __iter__(self) -> "Driver":
        return self

    def __getattr__(self, name: str) -> Any:
        return getattr(self.coro, name)  # what asyncio's reprs and inspect read

    @property
    def cleans_up(self) -> bool:
        """Whether it has the cancel in hand, or works for a task that has and that started it since."""
        if self.thrown:
            return not self.done and is_handling(self.coro, self.thrown)
        return self.for_clean_up_of is not None and self.for_clean_up_of.cleans_up

    def _enter(self) -> None:
        self.suspended = False
        if not self.started:
            self.started = True
            task = asyncio.current_task()
            self.task = None if task is None else weakref.ref(task)

    def _suspend(self, future: Any) -> Any:
        self.suspended = True
        if self.thrown and self.caught_by is None and not is_handling(self.coro, self.thrown):
            self.caught_by = _catcher(self.thrown[-1])
        self.course.suspended(self, future)
        self.fresh = False
        return future

    def is_below(self, other: "Driver") -> bool:
        """Whether the other one started it, or who started it, and so on."""
        parent = self.parent
        return parent is not None and (parent is other or parent.is_below(other))

    @property
    def left_by(self) -> "Driver":
        """The task that somebody left: itself, or the one that started it and that goes on, too, uncancelled."""
        parent = self.parent
        if parent is None or parent is self.course.main or parent.done or parent.thrown:
            return self
        return parent.left_by

    def _end(self, error: BaseException) -> None:
        self.done = True
        self.returned = isinstance(error, StopIteration)
        self.raised = 0 if self.returned else id(error)
        if self is not self.course.main:
            self.course.has_ended(self)
        if self.thrown and not isinstance(error, CancelledError) and self.caught_by is None:
            self.caught_by = _catcher(self.thrown[-1])
        self.thrown.clear()  # their tracebacks hold every frame

    def _let_go(self) -> None:
        self.done = True
        self.thrown.clear()
        try:
            self.coro.close()
        except RuntimeError:  # it ignored GeneratorExit, too
            pass


def _catcher(error: BaseException) -> Step | None:
    """The frame in which the exception was caught: the outermost that it has passed."""
    trace = error.__traceback__
    while trace is not None:
        code = trace.tb_frame.f_code
        if not code.co_filename.endswith(_DRIVER):
            return Step(code.co_filename, trace.tb_lineno, code.co_name)
        trace = trace.tb_next
    return None


_DRIVER = __file__
