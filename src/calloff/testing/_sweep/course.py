"""One run of the swept function: what was seen of it, and the cancel that is to be brought to one exact point.

The swept function, and each task that it starts, is driven by a `Driver`, so that each suspension is seen in the step in
which it happens, and

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
from collections import Counter
from collections.abc import Callable, Coroutine
from typing import Any

from .again import Call, callee, name_of
from .contents import Contents, Passing, Watch
from .driver import HELD_TURNS, Driver
from .keepers import had_by, holders_of, keepers_of
from .plan import Plan, Seen
from .points import Point, Stack, Step, is_python, running_stack, stack_of

__all__ = ["STARTS", "Course", "current_course"]

#: the course to which the running code belongs: that of the swept function, inherited by all that it starts
current_course: "contextvars.ContextVar[Course | None]" = contextvars.ContextVar("calloff_sweep", default=None)

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
        self.contents: Contents | None = None
        self.passing: dict[Point, Passing] = {}
        self.watch: Watch | None = None
        self._cancel = cancel
        self.waiting: Driver | None = None
        self._turn = 0
        self._counts: Counter[tuple[str, Stack]] = Counter()
        self._nth = 0
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
            self._note_keepers()
            self._note_call()
            self._watch()
        self.shots += 1
        self._cancel(self)

    def _note_keepers(self) -> None:
        """Who has the objects that the tasks belong to: they may be gone with the one that has them."""
        for child in self.children:
            if child.keepers and child.parent is not None and child.task is not None and not child.done:
                child.had = had_by(child.parent.coro, child.keepers, child.task())

    def _note_call(self) -> Any:
        """Keep the call that is to be made again."""
        called = callee(self.main.coro) if self.main is not None and self.plan is not None and self.plan.again else None
        if called is not None and self.plan is not None and name_of(called) == self.plan.again:
            self.call = Call.of(called)
        return called

    def _watch(self) -> None:
        """Look at what there is at an await at which something passes without a cancel."""
        if self.plan is not None and self.plan.point._replace(nth=1) in self.passing:
            self.watch = Watch(self._given())

    def _given(self) -> "tuple[Any, ...]":
        """What the function was given, or the call that it waits for."""
        if not self._calls:
            return () if self.contents is None or self.contents.roots is None else self.contents.roots
        called = None if self.main is None else callee(self.main.coro)
        call = None if called is None else Call.of(called)
        return () if call is None else (*call.args, *call.kwargs.values())

    # --- what the drivers report

    def born(self, driver: Driver, stack: Stack) -> None:
        """The function started a task."""
        point = self._count(self._counts, driver.owner + STARTS, stack)
        plan = self.plan
        if plan is None:
            self._note(Seen(point, True, False))
        elif self.shots == 0 and plan.first == "before" and plan.point == point:
            self.target = driver
            driver.hold = HELD_TURNS
            self.fire()

    def suspended(self, driver: Driver, future: Any) -> None:
        """A driven coroutine suspended itself and waits for `future` (``None``: for the next turn)."""
        main = self.main
        if main is None or main.done or self.over:
            return
        plan = self.plan
        if self.shots:
            self._suspended_after(driver, stack_of(driver.coro))
        elif plan is None:
            driver.at = point = self._count(self._counts, driver.owner, stack_of(driver.coro))
            driver.waits = future is not None
            driver.calls = name_of(callee(main.coro)) if self._calls else ""
            if self.contents is not None and point.nth == 1:
                self.contents.note(point, self._given())
        elif driver.owner == plan.point.owner and stack_of(driver.coro) == plan.point.stack:
            self._nth += 1
            if self._nth != plan.point.nth:
                return
            self.target = driver
            if plan.first == "early":
                self._early(driver, future, plan)
            elif plan.first == "after":
                main.finish_first(self._note_call())
                self._watch()
            elif plan.first == "late" and future is not None:
                future.add_done_callback(driver.late)
            elif plan.first == "amid":
                self.waiting, self._turn = driver, 0

    def is_hit(self, driver: Driver) -> None:
        """The cancel comes to a task, of which it may be one of several that wait at different lines."""
        target = self.target
        if target is None or target is driver or driver is self.main or len(self.beside) == _MOST_BESIDE:
            return
        if target is self.main or not (target.is_below(driver) or driver.is_below(target)):
            stack = stack_of(driver.coro)
            if self.plan is not None and stack != self.plan.point.stack and stack not in self.beside:
                self.beside.append(stack)

    def has_ended(self, child: Driver) -> None:
        """A task that the function started has ended: the function waits somewhere meanwhile."""
        main = self.main
        if child.put_up_with is not None and child.returned and self._is_the_tests(child):
            self.meant.append(child.put_up_with)
        if self.plan is None and main is not None and main.suspended and not main.done:
            self.ended.setdefault(child.made_at, stack_of(main.coro))

    def _is_the_tests(self, child: Driver) -> bool:
        """Whether a test started the task itself: that it is called off, and returns, is what the test is about."""
        code = getattr(getattr(self.main, "coro", None), "cr_code", None)
        return self._calls and bool(child.made_at) and code is not None and child.made_at[-1].file == code.co_filename

    def woke(self, driver: Driver, cancelled: bool) -> None:
        """The point at which a driven coroutine was suspended is behind it."""
        if driver.at is not None:
            self._note(Seen(driver.at, False, driver.waits and not cancelled, driver.calls, driver.steps))
            driver.at, driver.steps = None, 0
        if driver is self.waiting:
            self.waiting = None

    def stepping(self, *, begins: bool) -> None:
        """The bystander makes a step: now, or just now."""
        if self.plan is None:
            for driver in self.children if self.main is None else (self.main, *self.children):
                driver.steps += begins and driver.at is not None
        elif self.waiting is not None:
            self._turn += 1
            if self._turn == self.plan.turn and not self.shots:
                self.fire()

    def _note(self, seen: Seen) -> None:
        if self.main is not None and not self.main.done:
            self.seen.append(seen)

    def _early(self, driver: Driver, future: Any, plan: Plan) -> None:
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

    def _suspended_after(self, driver: Driver, stack: Stack) -> None:
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
