"""One run: set up, run the function beside its bystander, call it off, and look at what became of the world."""

import asyncio
import contextlib
import contextvars
import gc
import time
import weakref
from asyncio import CancelledError
from collections import Counter
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any, cast

from .beside import Beside, current_beside
from .blocked import within
from .case import Case, Result
from .clock import clock_of
from .contents import Contents, Passing, Watch
from .course import Course, current_course
from .driver import Driver
from .ending import Ending
from .factory import awaited, factory_like
from .interrupt import Interrupts
from .jumping import Jumps, child_processes
from .noise import Complaint, heard
from .plan import Plan
from .points import Stack, shown, stack_of_error
from .quiet import Quiet
from .restart import run_again, waits_at, while_it_goes_on
from .settling import Leftovers
from .skipping import Skipping
from .touched import Ledger
from .words import at_line, comparable, foreign, named

__all__ = ["Trial"]


class Trial:
    """Runs the function once, under `plan` (``None``: without a cancel), and compares with `usual`, a run without."""

    def __init__(self, case: Case, plan: Plan | None, usual: Result | None) -> None:
        self.case = case
        self.plan = plan
        self.first = usual if plan is None else None
        self.usual = usual = None if plan is None else usual
        self.result = Result(plan)
        self.loop = asyncio.get_running_loop()
        self.result.blind = tuple(oracle for oracle, part in _PARTS.items() if not hasattr(self.loop, part))
        self.course = Course(plan, self._cancel, calls=case.calls)
        self.quiet = Quiet(self.loop)
        self.clock = clock_of(self.loop)
        self.far = 0.0 if self.clock.is_real or abs(self.loop.time() - time.monotonic()) < _OFF else _FAR
        if plan is None and self.first is None:
            self.result.children = child_processes()
        measure = usual or self.first or self.result
        self.may_jump = measure.jumps
        if measure.skips:
            Skipping(self.loop, self.clock)
        self.jumps = Jumps(self.loop, self.clock, measure.children)
        self.ledger = Ledger()
        self.course.ledger = self.ledger
        self.others: weakref.WeakSet[asyncio.Task[Any]] = weakref.WeakSet()
        self.leftovers = Leftovers(case.oracles, usual, self.others)
        self.ending = Ending(case, self.course, self.result, usual, self.violated)
        self._complaints: list[Complaint] = []
        self._scope: Any = None
        self._operation: Any = None
        self._interrupts: Interrupts | None = None
        self._task: asyncio.Task[Any] | None = None

    def violated(self, oracle: str, text: str, made: Stack = ()) -> None:
        """Note a violation, unless its oracle is switched off."""
        if oracle in self.case.oracles and (oracle, text) not in self.result.violations:
            self.result.violations.append((oracle, text))
            self.result.made.append(made)

    # --- the world around it

    @contextlib.contextmanager
    def watching(self) -> Any:
        """Drive the tasks that the function starts, and hear what Python complains of."""
        previous = self.loop.get_task_factory()

        def made(make: Callable[[Any], Any], coro: Any) -> Any:
            course = current_course.get()
            driven = coro
            ours = isinstance(coro, Driver) or isinstance(getattr(coro, "coro", None), Driver)
            if course is not None and course is self.course and not course.over and not ours:
                driven = course.adopt(coro)
            elif current_beside.get() is self.course and not self.course.over and not ours:
                driven = Beside(coro, self.course)
            task = make(driven)
            if isinstance(driven, Driver):
                driven.task = weakref.ref(task)
            elif not ours:
                self.others.add(task)
            return task

        self.loop.set_task_factory(factory_like(previous, made))
        try:
            traced = self.plan is not None and self.plan.traced
            with heard(self.loop, self.course, hand_on=self._is_waited_for, traced=traced) as complaints:
                self._complaints = complaints
                yield
        finally:
            self.quiet.end()
            self.clock.end()
            self.loop.set_task_factory(previous)

    def _is_waited_for(self) -> bool:
        """Whether a test may look at what the loop complains of: until it is called off."""
        return self.case.calls and not self.course.shots

    # --- the swept function

    async def body(self, make: Callable[[], Awaitable[Any]]) -> None:
        """Run the function that `make` calls, and look at the world when it has ended."""
        result, case = self.result, self.case
        self.clock.stop()
        self.leftovers.look(self.loop)
        if {"items", "restart"} <= case.oracles and (self.plan is not None or self.first is None):
            self.course.contents = Contents(None if case.calls else self.args)
            self.course.passing = {} if self.usual is None else self.usual.passing
        began = self.loop.time()
        task = self._start(make)
        self.clock.go_on()
        bystander: asyncio.Task[Any] | None = None
        if case.bystander is not None:
            context = contextvars.copy_context()
            context.run(current_beside.set, self.course)
            beside = Beside(self._coroutine(context.run(case.bystander, *self.args)), self.course)
            bystander = self.loop.create_task(beside, context=context)  # of no course: it is never called off
        await self._end(task)
        result.took = self.loop.time() - began
        if self.plan is None and self.course.contents is not None:
            result.passing = self.course.contents.passing()
        if self.course.shots:
            within(2 * case.longest + case.timeout + _STALL)
        self.ending.judge(task, taken_back=self._scope is not None and self._scope.expired())
        del task
        self._task = None
        if bystander is not None:
            await self._see_bystander(bystander, began)
            del bystander
        self.clock.stop()
        if self.plan is None or not (self.plan.is_for_restart or self.plan.phase == "after"):
            await self._settle()

    args: tuple[Any, ...] = ()

    def _start(self, make: Callable[[], Awaitable[Any]]) -> "asyncio.Future[Any]":
        course = self.course
        context = contextvars.copy_context()
        context.run(current_course.set, course)
        coro = context.run(self._made, make)
        driver = course.main = Driver(coro, course)
        task: asyncio.Future[Any]
        if self.case.how in ("operation", "interrupt"):
            task = self._operation = context.run(self._start_operation, driver)
            if self.case.how == "interrupt":
                self._interrupts = Interrupts(self._operation)
        else:
            task = self._task = self.loop.create_task(driver, context=context)
            driver.task = weakref.ref(task)
        self.result.eager = driver.started
        if self.plan is not None and self.plan.first == "before" and not self.plan.point.owner and not driver.started:
            course.fire()
        return task

    def _made(self, make: Callable[[], Awaitable[Any]]) -> Coroutine[Any, Any, Any]:
        made = self._coroutine(make())
        if self.case.how == "deadline":
            return self._within_deadline(made)
        return made

    @staticmethod
    def _coroutine(made: Awaitable[Any]) -> Coroutine[Any, Any, Any]:
        return made if isinstance(made, Coroutine) else awaited(made)

    async def _within_deadline(self, coro: Coroutine[Any, Any, Any]) -> Any:
        async with asyncio.timeout(None) as self._scope:
            return await coro

    def _start_operation(self, driver: Driver) -> Any:
        from ..._api.start import start

        return start(driver, grace=self.case.timeout, detached=True)

    def _cancel(self, course: Course) -> None:
        if not self.far:
            within(self.case.timeout + _STALL)
        if self.plan is not None and self.plan.quiet:
            self.quiet.begin()
        elif course.shots == 1:
            self.result.network = self.quiet.has_network()
        if self.plan is not None and self.plan.alone and course.target is not None:
            alone = None if course.target.task is None else course.target.task()
            if alone is not None:
                alone.cancel()
        elif self.case.hang_up is not None and course.shots == 1:
            self.case.hang_up(*self.args)
        elif self._scope is not None and course.shots == 1:
            self._scope._on_timeout()
        elif self._interrupts is not None:
            self.ending.taken |= self._interrupts.send()
        elif self._operation is not None:  # a clean-up is left alone until the grace is over: then comes force
            self._operation.cancel("called off by the sweep", grace=None if course.shots == 1 else 0)
        else:
            main = course.main
            assert main is not None
            task = self._task or (None if main.task is None else main.task())  # eager: not handed out yet
            if task is not None:
                task.cancel()

    async def _end(self, task: "asyncio.Future[Any]") -> None:
        """Wait until the function has ended or its time is over."""
        course, case = self.course, self.case
        began = self.loop.time()
        if self.far:  # to look now and then would be seen on the clock of its tests
            await asyncio.wait({task}, timeout=self.far)
        while not task.done() and not self.far:
            end = began + case.longest if course.fired_at is None else course.fired_at + case.timeout
            if course.ignored_at is not None:
                end = min(end, course.ignored_at + _IGNORED)
            rest = end - self.loop.time()
            if rest <= 0:
                break
            await asyncio.wait({task}, timeout=min(rest, _LOOK_EVERY))
        if not task.done():
            self.ending.give_up()
            await asyncio.wait({task}, timeout=1)

    # --- what else is looked at

    async def _see_bystander(self, task: "asyncio.Future[Any]", began: float) -> None:
        usual = self.usual
        limit = self.case.timeout
        if usual is not None:
            limit = min(limit, max(1.0, 10 * usual.bystander_took))
        longest = self.loop.time() + self.case.timeout
        await asyncio.wait({task}, timeout=limit)
        if not self.far:  # what goes on, step by step, does not hang: a busy machine may need so long
            await while_it_goes_on(task, _beside, longest)
        if not task.done():
            stack = waits_at(task, _beside() - {task})
            at = f": it waits at {at_line(shown(stack))}" if stack else ""
            self.violated("bystander", f"the bystander did not come to its end within {limit:.3g} s{at}", stack)
            task.cancel()
            await asyncio.wait({task}, timeout=0.2)
        elif task.cancelled():
            self.violated("bystander", "the bystander was cancelled, too")
        elif (error := task.exception()) is not None:
            self.violated("bystander", f"the bystander failed: {named(error)}", stack_of_error(error))
        self.result.bystander_took = self.loop.time() - began

    async def _settle(self) -> None:
        """Let what is on its way out go, and note what stays."""
        await self.leftovers.settle(self.course, self.clock)
        self.result.given = self.leftovers.snapshot.given
        self.result.given_first = self.result.given_kept = self.leftovers.kept
        self.result.balances = self.ledger.balances()
        if self.plan is not None:
            usual = None if self.usual is None else self.usual.balances
            for text, stack in self.ledger.complaints(usual):
                self.violated("locks", text, stack)

    @property
    def has_left(self) -> bool:
        """Whether something seems to be left behind: then time must not pass before the last look."""
        if self.plan is None:
            return False
        ended = not self.result.ending.startswith(("did not end", "went on"))
        return bool(self.leftovers.unusual() or self.leftovers.unclosed()) or not ended

    async def see_check(self) -> None:
        """Ask the user's own check, if any."""
        if self.case.check is not None:
            self.clock.go_on()
        try:
            async with asyncio.timeout(self.case.timeout):
                verdict = True if self.case.check is None else await self.case.check(*self.args)
        except (Exception, CancelledError) as error:
            if foreign(error):
                raise
            self.violated("check", f"the check failed: {named(error)}")
        else:
            if verdict is False:
                self.violated("check", "the check returned False")

    @property
    def may_restart(self) -> bool:
        """Whether it is to be run again, in the same world."""
        if "restart" not in self.case.oracles:
            return False
        if self.plan is not None and self.plan.is_for_restart:
            return self.result.fired
        if self.plan is not None and self.plan.phase == "after":
            return self.course.call_done
        if self.has_left or self.result.violations:
            return False
        if self.plan is not None and self.plan.again:
            return True
        before = self.usual or self.first
        return before is None or before.restart == "ok"

    async def see_restart(self, make: Callable[[], Awaitable[Any]]) -> None:
        """Does it work again, in the same world? It, or the call within it that was called off."""
        usual, result, plan, course = self.usual, self.result, self.plan, self.course
        call, course.call = course.call, None
        watch, course.watch = course.watch, None
        self.clock.go_on()
        if not self.may_restart:
            return
        values: tuple[str, ...] = (usual.value,) if usual is not None and usual.value else ()
        took = result.took if usual is None else max(usual.took, usual.restart_took)
        if plan is not None and plan.again:
            if call is None or usual is None:
                return
            make = cast("Callable[[], Awaitable[Any]]", call)
            took, values = usual.agains.get(plan.again, (0.0, ()))
            result.call_value = comparable(course.call_value)
        del call
        course.over = course.repeats = True
        # it may be the first to warm up, and what was done already when it was tried may now be left to do
        limit = self.far or min(
            self.case.longest, max(_LEAST, 10 * took, 2 * (result if usual is None else usual).took)
        )
        least = 1 if plan is not None and plan.again else 2
        with self.jumps.allowed(self.may_jump):
            second = await run_again(make, limit, self._second_begun, least, self.case.longest)
        result.jumped = self.jumps.any
        result.restart, result.restart_took, result.restart_value = second.ending, second.took, second.value
        if plan is None:
            if second.value != result.value:
                result.value = ""  # it returns another value each time: nothing to compare with
            return
        if second.ending == "ok" and values and second.value not in values:
            result.restart = f"returns {second.value} and not {values[-1]}"
        if result.restart == "ok" and watch is not None and usual is not None:
            await self._see_items(watch, usual.passing[plan.point._replace(nth=1)], make, limit)
        if plan.phase == "after" or result.restart == "ok" or (self.case.calls and second.excused):
            return  # what a test had made for this one call may be closed now, and say so
        away = " with what comes in 20 ms away," if plan.quiet else ""
        what = f"{plan.again.rpartition(':')[2]}, called again with the same arguments," if plan.again else "it"
        self.violated("restart", f"run again afterwards,{away} {what} {result.restart}", second.stack)

    def _second_begun(self) -> None:
        self.jumps.begun()
        self.quiet.run_out()

    async def _see_items(self, watch: Watch, usual: Passing, make: Callable[[], Awaitable[Any]], limit: float) -> None:
        """Is there still, after it was done once more, what is taken out without a cancel, and the more of it each time?"""
        there, stayed = watch.there(), watch.stayed()
        for name, (number, stay) in usual.items():
            if there[name] == number and stayed[name] > stay and await watch.grows(name, make, limit):
                self.violated("items", f"the {name} is still there, which without a cancel is taken out")

    async def let_go(self) -> None:
        """After the teardown: a moment for what it told to end."""
        await self.leftovers.let_go()

    def finish(self) -> None:
        """The last look, after the teardown."""
        result, usual = self.result, self.usual
        if self.course.shots:
            within(self.case.longest + _STALL)  # what its fixtures still have to do
        self.course.over = True
        result.left_first = self.leftovers.counted()
        if self.case.teardown is not None:
            self.leftovers.forget_gone()
            result.given_kept = self.leftovers.kept
            gc.collect()
        result.left = self.leftovers.counted()
        result.seen = self.course.seen
        result.ended, result.meant, result.main_at = self.course.ended, self.course.meant, self.course.main_at
        result.cleaning, result.beside = self.course.cleaning, self.course.beside
        result.noise = Counter(item.key for item in self._complaints)
        if usual is None or self.plan is None or self.plan.phase == "after":
            return
        for item in self.leftovers.unusual(last=True):
            self.violated(item.oracle, item.text, item.made)
        for kind, number in self.leftovers.unclosed(last=True).items():
            what = kind if number == 1 else f"{number} x {kind}"
            self.violated("files", f"it was given a {what} and did not close it, as it does without a cancel")
        said: Counter[str] = Counter()
        for complaint in self._complaints:
            said[complaint.key] += 1
            if said[complaint.key] > usual.noise[complaint.key]:
                self.violated(complaint.oracle, complaint.text, complaint.at)
        if self.plan.is_for_restart:
            self._keep("restart")

    def _keep(self, oracle: str) -> None:
        result = self.result
        kept = [pair for pair in zip(result.violations, result.made, strict=True) if pair[0][0] == oracle]
        result.violations, result.made = [pair[0] for pair in kept], [pair[1] for pair in kept]
        result.at_fault = None


def _beside() -> "set[asyncio.Task[Any]]":
    """The bystander's tasks."""
    return {task for task in asyncio.all_tasks() if isinstance(task.get_coro(), Beside)}


#: where an event loop keeps what these oracles look at
_PARTS = {"timers": "_scheduled", "readers": "_selector"}
_LOOK_EVERY = 0.1
#: seconds that a busy machine may add to a limit
_STALL = 5.0
_IGNORED = 0.5
#: seconds that the second run has at least
_LEAST = 1.0
#: a clock that is so many seconds off is not the real one: on it, limits are so many seconds
_OFF, _FAR = 5.0, 1e6
