"""How a cancel is brought to one exact point.

The swept function, and each task that it starts, is driven by a `Driver`: the coroutine that the `asyncio.Task` runs,
which passes every step on to the real one. So each suspension is seen in the step in which it happens, and

* **before**: the task is cancelled before its first step;
* **early**: `Task.cancel` is called within the very step that suspends; the task hands it on to the future that is
  awaited, which is pending;
* **late**: a callback is put on the awaited future ahead of the task's own wake-up. When it runs, the future has its
  result and the task has not seen it; a cancel now throws the result away. (That is what an unlucky deadline does.);
* **double**: after a first cancel, the next suspension of the clean-up is met with a second one;
* **amid**: the bystander's task makes a step while the function waits, and the cancel comes in the same turn of the loop,
  just before that step (which so comes between the cancel and its arrival) or just behind it.

It is always the function's own task that is cancelled, never a child by itself: how the cancel reaches the children is
the program's own doing. A child that is to be hit late, or before its first step, is held back for a few turns of the
loop, as if its wake-up had come a moment later.
"""

import asyncio
import contextvars
import weakref
from asyncio import CancelledError
from collections import Counter
from collections.abc import Callable, Coroutine
from typing import Any

from .again import Call, callee, name_of
from .keepers import holders_of, keepers_of
from .plan import Plan, Seen
from .points import Point, Stack, Step, is_handling, is_python, running_stack, stack_of

__all__ = ["STARTS", "Course", "Driver", "current_course"]

#: the course to which the running code belongs: that of the swept function, inherited by all that it starts
current_course: "contextvars.ContextVar[Course | None]" = contextvars.ContextVar("calloff_sweep", default=None)

_HELD_TURNS = 12
#: places of tasks called off beside the one in question that are kept
_MOST_BESIDE = 20
#: behind the name of a task whose start is meant
STARTS = " (start)"


class Course:
    """One run of the swept function: what was seen, and the cancel that is to be brought to it."""

    def __init__(self, plan: Plan | None, cancel: "Callable[[Course], None]", *, calls: bool = False) -> None:
        self.plan = plan
        self.call: Call | None = None
        self.call_done = False
        self.call_value: Any = None
        self._calls = calls
        self.main: Driver | None = None
        self.children: list[Driver] = []
        self.seen: list[Seen] = []
        self.cleaning: list[Point] = []
        self.shots = 0
        self.fired_at: float | None = None
        self.caught_running = False
        self.ignored: Stack = ()
        self.ignored_at: float | None = None
        self.over = False
        self.meant: list[Step] = []
        self.held_by: dict[int, Step] = {}
        self.repeats = False
        self.main_at: Stack = ()
        self.ended: dict[Stack, Stack] = {}
        self.target: Driver | None = None
        self.beside: list[Stack] = []
        self.ledger: Any = None
        self._cancel = cancel
        self._waiting: Driver | None = None
        self._turn = 0
        self._counts: Counter[tuple[str, Stack]] = Counter()
        self._after: Counter[tuple[str, Stack]] = Counter()

    def fire(self) -> None:
        """Call the function off now."""
        main = self.main
        if main is None or main.done or self.over:
            return
        if self.shots == 0:
            self.fired_at = asyncio.get_running_loop().time()
            self.caught_running = not main.suspended
            self.held_by, self.main_at = holders_of(main.coro), stack_of(main.coro)
            self._note_call()
        self.shots += 1
        self._cancel(self)

    def _note_call(self) -> Any:
        """Keep the call that is to be made again."""
        called = callee(self.main.coro) if self.main is not None and self.plan is not None and self.plan.again else None
        if called is not None and self.plan is not None and name_of(called) == self.plan.again:
            self.call = Call.of(called)
        return called

    # --- what the drivers report

    def born(self, driver: "Driver", stack: Stack) -> None:
        """The function started a task."""
        point = self._count(self._counts, driver.owner + STARTS, stack)
        plan = self.plan
        if plan is None:
            self._note(Seen(point, True, False))
        elif self.shots == 0 and plan.first == "before" and plan.point == point:
            self.target = driver
            driver.hold = _HELD_TURNS
            self.fire()

    def suspended(self, driver: "Driver", future: Any) -> None:
        """A driven coroutine suspended itself and waits for `future` (``None``: for the next turn)."""
        main = self.main
        if main is None or main.done or self.over:
            return
        stack = stack_of(driver.coro)
        if self.shots:
            self._suspended_after(driver, stack)
            return
        point = self._count(self._counts, driver.owner, stack)
        plan = self.plan
        if plan is None:
            driver.at = point
            driver.waits = future is not None
            driver.calls = name_of(callee(main.coro)) if self._calls else ""
        elif plan.point == point:
            self.target = driver
            if plan.first == "early":
                self._early(driver, future, plan)
            elif plan.first == "after":
                main.finish_first(self._note_call())
            elif plan.first == "late" and future is not None:
                future.add_done_callback(driver.late)
            elif plan.first == "amid":
                self._waiting, self._turn = driver, 0

    def is_hit(self, driver: "Driver") -> None:
        """The cancel comes to a task, of which it may be one of several that wait at different lines."""
        target = self.target
        if target is None or target is driver or driver is self.main or len(self.beside) == _MOST_BESIDE:
            return
        if target is self.main or not (target.is_below(driver) or driver.is_below(target)):
            stack = stack_of(driver.coro)
            if self.plan is not None and stack != self.plan.point.stack and stack not in self.beside:
                self.beside.append(stack)

    def has_ended(self, child: "Driver") -> None:
        """A task that the function started has ended: the function waits somewhere meanwhile."""
        main = self.main
        if child.put_up_with is not None and child.returned and self._is_the_tests(child):
            self.meant.append(child.put_up_with)
        if self.plan is None and main is not None and main.suspended and not main.done:
            self.ended.setdefault(child.made_at, stack_of(main.coro))

    def _is_the_tests(self, child: "Driver") -> bool:
        """Whether a test started the task itself: that it is called off, and returns, is what the test is about."""
        code = getattr(getattr(self.main, "coro", None), "cr_code", None)
        return self._calls and bool(child.made_at) and code is not None and child.made_at[-1].file == code.co_filename

    def woke(self, driver: "Driver", cancelled: bool) -> None:
        """The point at which a driven coroutine was suspended is behind it."""
        if driver.at is not None:
            self._note(Seen(driver.at, False, driver.waits and not cancelled, driver.calls, driver.steps))
            driver.at, driver.steps = None, 0
        if driver is self._waiting:
            self._waiting = None

    def stepping(self, *, begins: bool) -> None:
        """The bystander makes a step: now, or just now."""
        if self.plan is None:
            for driver in self.children if self.main is None else (self.main, *self.children):
                driver.steps += begins and driver.at is not None
        elif self._waiting is not None:
            self._turn += 1
            if self._turn == self.plan.turn and not self.shots:
                self.fire()

    def _note(self, seen: Seen) -> None:
        if self.main is not None and not self.main.done:
            self.seen.append(seen)

    def _early(self, driver: "Driver", future: Any, plan: Plan) -> None:
        fresh, driver.fresh = driver.fresh, False
        if fresh and future is not None and plan.attempt == 1:
            # It waits for tasks that it has just started: let them make their first step. The case in which they have
            # not is the phase "before" of each.
            loop = asyncio.get_running_loop()
            loop.call_soon(loop.call_soon, self._after_first_steps, future)
        else:
            self.fire()

    def _after_first_steps(self, future: Any) -> None:
        if not future.done():
            self.fire()

    def _suspended_after(self, driver: "Driver", stack: Stack) -> None:
        if driver.cleans_up:
            point = self._count(self._after, driver.owner, stack)
            self.cleaning.append(point)
            if self.shots == 1 and self.plan is not None and self.plan.second == point:
                self.fire()
        elif driver.thrown and driver is self.main and self.ignored_at is None:
            self.ignored = stack
            self.ignored_at = asyncio.get_running_loop().time()

    @staticmethod
    def _count(counts: "Counter[tuple[str, Stack]]", owner: str, stack: Stack) -> Point:
        key = owner, stack
        counts[key] += 1
        return Point(owner, stack, counts[key])

    # --- tasks that the function starts

    def adopt(self, coro: Coroutine[Any, Any, Any]) -> Coroutine[Any, Any, Any]:
        """Drive the coroutine of a child task, unless it is the event loop's own."""
        made_at = running_stack()
        code = getattr(coro, "cr_code", None)
        if all(is_python(step.file) for step in made_at) and (code is None or is_python(code.co_filename)):
            return coro
        child = Driver(coro, self, type(coro).__name__ if code is None else code.co_qualname)
        self.children.append(child)
        while made_at and is_python(made_at[-1].file):  # create_task and its like
            made_at = made_at[:-1]
        child.made_at = made_at
        parent = asyncio.current_task()
        driver = None if parent is None else parent.get_coro()
        child.keepers = keepers_of(child.made_at)
        if isinstance(driver, Driver):
            driver.fresh = True
            child.parent = driver
            child.for_clean_up_of = driver if self.shots else None
        self.born(child, child.made_at)
        return child


class Driver(Coroutine[Any, Any, Any]):
    """Passes the steps of a task on to a coroutine and reports them."""

    def __init__(self, coro: Coroutine[Any, Any, Any], course: Course, owner: str = "") -> None:
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
        self._send = coro.send

    def late(self, _future: Any) -> None:
        """The awaited future has its result, and the task is about to be woken."""
        if self.course.shots == 0:
            if self is not self.course.main:
                self.hold = _HELD_TURNS
            self.course.fire()

    def __next__(self) -> Any:
        if self.hold:
            self.hold -= 1
            return None
        if self.given_up:
            raise StopIteration
        self.course.woke(self, False)
        self._enter()
        try:
            future = self._send(None) if self.first is None else self._step_first()
        except BaseException as error:
            self._end(error)
            raise
        return self._suspend(future)

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
