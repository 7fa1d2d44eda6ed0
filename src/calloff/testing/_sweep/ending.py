"""How a run ended: as cancelled, or not as it should have."""

import asyncio
from asyncio import CancelledError
from collections.abc import Callable
from typing import Any

from .case import Case, Result
from .course import Course
from .driver import Driver
from .points import Step, is_python, shown, stack_of, stack_of_error
from .words import at_line, comparable, named

__all__ = ["Ending"]


class Ending:
    """Judges the end of the swept function.

    Args:
        case: what is swept.
        course: the run.
        result: where the ending is noted.
        usual: a run without a cancel; ``None`` in such a run itself.
        violated: notes a violation.

    Attributes:
        taken: the program has a way of its own to be told to end, and may come to its end by itself.
    """

    def __init__(
        self, case: Case, course: Course, result: Result, usual: Result | None, violated: Callable[[str, str], None]
    ) -> None:
        self._case = case
        self._course = course
        self._result = result
        self._usual = usual
        self._violated = violated
        self.taken = False

    @property
    def _main(self) -> Driver:
        assert self._course.main is not None
        return self._course.main

    def give_up(self) -> None:
        """Its time is over."""
        course, main = self._course, self._main
        stack = stack_of(main.coro)
        at = f": it waits at {at_line(shown(stack))}" if stack else ""
        if not course.shots:
            self._result.ending = f"did not end within {self._case.longest:g} s{at}"
        elif course.ignored_at is not None:
            text = f"it swallowed the cancel and went on: it awaits at {at_line(shown(course.ignored))}"
            self._violated("obeyed", text)
            self._result.at_fault = main.caught_by
            self._result.ending = "went on"
        else:
            self._violated("ended", f"it did not end within {self._case.timeout:g} s of the cancel{at}")
            self._result.ending = "did not end"
        for driver in (main, *course.children):
            driver.give_up()

    def judge(self, task: "asyncio.Future[Any]", *, taken_back: bool) -> None:
        """How did it end? `taken_back`: the timeout that called it off takes its own cancel back."""
        result, course, plan = self._result, self._course, self._course.plan
        result.fired = course.shots > (0 if plan is None or plan.second is None else 1)
        result.cancelling = task.cancelling() if isinstance(task, asyncio.Task) else 0
        if result.ending or not task.done():
            return
        error: BaseException | None = None
        if task.cancelled():
            result.ending = "cancelled"
            _forget(task)
        else:
            error = task.exception()
            result.ending = "returned" if error is None else f"raised {named(error)}"
            if error is None:
                result.value = comparable(task.result())
        if not course.shots or self.taken or self._case.hang_up is not None:  # whether it goes on is its own affair
            return
        if taken_back and isinstance(error, TimeoutError):
            result.ending, error = "cancelled", None
        if result.ending == "returned":
            if course.caught_running and self._main.caught_by is None:
                return  # it was running when it was called off, and came to its end before it could be reached
            swallower = self._swallower()
            if swallower is not None and self._usual is not None and swallower in self._usual.meant:
                return  # the test calls it off there itself, and wants it to return
            self._violated("obeyed", "it swallowed the cancel: it returned as if nothing had happened")
            result.at_fault = swallower
        elif error is not None:
            first = _first_of(error)
            of = "" if first is error else f", of {named(first)},"
            self._violated("error", f"it ended with {named(error)}{of} in place of the cancel")
            result.at_fault = self._raiser(error)
        elif self._main.asked_again and self._case.how == "operation" and course.shots == 1:
            self._violated("obeyed", "it swallowed the cancel and went on: it ended only when it was asked again")
            result.at_fault = self._main.caught_by
        elif taken_back and task.cancelled() and course.shots == 1:
            came = "its deadline came out as CancelledError, not as TimeoutError"
            self._violated("cancelling", f"{came}: the Task was cancelling() before, and nobody had cancelled it")
        elif self._case.how in ("cancel", "deadline"):
            self._see_count(course.shots - taken_back)

    def _see_count(self, expected: int) -> None:
        count = self._result.cancelling
        usually = 0 if self._usual is None else self._usual.cancelling
        if not expected <= count <= expected + usually:  # it may end before it comes to its own
            less = "an enclosing timeout or task group takes the cancel for its own"
            more = "an enclosing timeout or task group takes its own cancel for a foreign one"
            text = f"Task.cancelling() is {count} after {expected} cancel(s)"
            self._violated("cancelling", f"{text}: {less if count < expected else more}")

    def _raiser(self, error: BaseException) -> Step | None:
        """Where the error came in place of the cancel: of a group, where its first one left the task that raised it."""
        first = _first_of(error)
        if first is error:
            return self._main.caught_by
        child = next((child for child in self._course.children if child.raised == id(first)), None)
        if child is not None and child.caught_by is not None:
            return child.caught_by
        steps = [step for step in stack_of_error(first) if not is_python(step.file)]
        return steps[-1] if steps else self._main.caught_by

    def _swallower(self) -> Step | None:
        if self._main.caught_by is not None:
            return self._main.caught_by
        return next((child.caught_by for child in self._course.children if child.returned and child.caught_by), None)


def _first_of(error: BaseException) -> BaseException:
    """The first error within a group, and within that one, that is no cancel."""
    while isinstance(error, BaseExceptionGroup):
        error = next((part for part in error.exceptions if not isinstance(part, CancelledError)), error.exceptions[0])
    return error


def _forget(task: "asyncio.Future[Any]") -> None:
    """Take the exception out of a cancelled task: its traceback holds every frame, and what they hold."""
    try:
        task.exception()
    except CancelledError as error:
        error.__traceback__ = None
