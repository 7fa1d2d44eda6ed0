"""The sweep from end to end: two runs without a cancel, then one for each point and phase, and the report."""

import asyncio
import dataclasses
import gc
import inspect
import sys
import time
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from typing import Any, Protocol

from ..._words.duration import period
from .isolate import Died, Server
from .plan import PHASES, Plan, Seen, choose, plans_for
from .points import Point, Stack, Step, is_python, shown
from .report import Finding, SweepReport, Violation
from .touched import watched_locks
from .trial import ORACLES, Case, Function, Result, run_case
from .versions import packages_of

__all__ = ["Place", "Sweeping", "make_case", "make_place", "sweep"]

HOWS = ("cancel", "deadline", "operation")


async def sweep(
    fn: Function,
    *,
    setup: Function | None = None,
    check: Function | None = None,
    teardown: Function | None = None,
    bystander: Function | None = None,
    phases: Sequence[str] = PHASES,
    children: bool = True,
    isolate: bool = True,
    timeout: float = 5.0,
    max_runs: int | None = None,
    how: str = "cancel",
    without: Collection[str] = (),
    known: Mapping[str, str] | None = None,
    jobs: int = 1,
    replay: str | None = None,
) -> SweepReport:
    """Run `fn` again and again, call it off at every await in every phase, and tell what breaks.

    First it is run twice without a cancel; what such a run leaves behind, too, is no finding. Then each await gets its
    own runs: called off while it waits (``early``), when the wait has its result and the function has not gone on
    (``late``), and a second time in the clean-up that follows (``double``); and once before the first step (``before``).

    Args:
        fn: the async function. It takes what `setup` returned, or nothing when there is no `setup`.
        setup: makes what one run needs.
        check: raises or returns ``False`` where the world is not as it should be after `fn` was called off.
        teardown: ends what `setup` made. What it ends is not counted as left behind.
        bystander: runs beside `fn` and must come to its end whatever happens to `fn`.
        phases: which of ``before``, ``early``, ``late``, ``double`` to try.
        children: also call it off at the awaits of the tasks that it starts.
        isolate: run each time in a process of its own, which can be killed. Without it, everything runs on the running
            loop, and a run that blocks it blocks the sweep.
        timeout: seconds that `fn` may take, and its clean-up after a cancel, and each of the other functions.
        max_runs: at most so many cancels; every line is tried before a line is tried again. ``None`` for all.
        how: ``cancel`` (`asyncio.Task.cancel`), ``deadline`` (an `asyncio.timeout` around it) or ``operation`` (it runs
            as a calloff operation, which is cancelled).
        without: oracles to switch off.
        known: findings to be silent about: their ids, with the reason for each.
        jobs: how many runs to have at once; more than one only when isolated.
        replay: the id of a finding: only that cancel is tried.

    Returns:
        The report; ``report.assert_safe()`` makes a test of it.

    Raises:
        TypeError: something is not an async function. The caller's fault.
        ValueError: an unknown phase, oracle or way; a wrong number. The caller's fault.

    When it is cancelled, the run on its way is killed (or, without `isolate`, called off) and the cancel goes on.

    Example:
        ::

            async def test_fetch_can_be_called_off():
                report = await calloff.testing.sweep(fetch, setup=open_pool, teardown=close_pool)
                report.assert_safe()
    """
    case = make_case(fn, setup, check, teardown, bystander, timeout, children, how, without)
    sweeping = Sweeping(
        case,
        phases=phases,
        max_runs=max_runs,
        known=known,
        replay=replay,
        target=getattr(fn, "__qualname__", repr(fn)),
    )
    loop = asyncio.get_running_loop()
    if not isolate:
        with watched_locks(), _young_garbage_only():
            return await sweeping.run([_Here(case)])
    places = [make_place(case, _loop_like(loop)) for _ in range(max(1, jobs))]
    try:
        return await sweeping.run(places)
    finally:
        for place in places:
            place.close()


def make_case(
    fn: Function,
    setup: Function | None,
    check: Function | None,
    teardown: Function | None,
    bystander: Function | None,
    timeout: float,
    children: bool,
    how: str,
    without: Collection[str],
) -> Case:
    """Check what was given and put it together."""
    functions = {"fn": fn, "setup": setup, "check": check, "teardown": teardown, "bystander": bystander}
    for name, function in functions.items():
        if function is not None and not _is_async(function):
            raise TypeError(f"{name} must be an async function, not {function!r}")
    if fn is None:
        raise TypeError("fn must be an async function, not None")
    without = {without} if isinstance(without, str) else set(without)
    _known_words("without", without, ORACLES)
    _known_words("how", [how], HOWS)
    return Case(
        fn,
        setup,
        check,
        teardown,
        bystander,
        timeout=period(timeout, "timeout"),
        children=children,
        oracles=frozenset(ORACLES) - without,
        how=how,
    )


def _is_async(function: Any) -> bool:
    target = function.func if isinstance(function, partial) else function
    return inspect.iscoroutinefunction(target) or inspect.iscoroutinefunction(
        getattr(type(target), "__call__", None)
    )


def _known_words(name: str, words: Collection[str], allowed: Sequence[str]) -> None:
    for word in words:
        if word not in allowed:
            raise ValueError(f"{name} must be of {', '.join(allowed)}, not {word!r}")


# --- where the runs take place


class Place(Protocol):
    """Carries out one plan at a time."""

    async def ask(self, order: tuple[Plan | None, Result | None], /) -> Result: ...

    def close(self) -> None: ...


class _Here:
    """The running loop."""

    def __init__(self, case: Case) -> None:
        self._case = case

    async def ask(self, order: tuple[Plan | None, Result | None], /) -> Result:
        return await run_case(self._case, *order)

    def close(self) -> None: ...


@contextmanager
def _young_garbage_only() -> Iterator[None]:
    """Keep what exists now out of the garbage collections after each run."""
    gc.collect()
    gc.freeze()
    try:
        yield
    finally:
        gc.unfreeze()


def make_place(
    case: Case, make_loop: Callable[[], asyncio.AbstractEventLoop], *, quiet: bool = True
) -> Place:
    """A server that runs the case in processes of their own."""

    def carry_out(order: tuple[Plan | None, Result | None]) -> Result:
        loop = make_loop()
        with watched_locks():
            return loop.run_until_complete(run_case(case, *order))

    return Server(carry_out, 4 * case.timeout + 2, quiet=quiet)


def _loop_like(loop: asyncio.AbstractEventLoop) -> Callable[[], asyncio.AbstractEventLoop]:
    """How to make another loop of the same kind."""
    kind = type(loop)
    eager = loop.get_task_factory() is getattr(asyncio, "eager_task_factory", ())

    def make() -> asyncio.AbstractEventLoop:
        new = kind()
        asyncio.set_event_loop(new)
        if eager:
            new.set_task_factory(asyncio.eager_task_factory)  # type: ignore[attr-defined,unused-ignore]
        return new

    return make


# --- the whole


class Sweeping:
    """One sweep: which plans are carried out, and what comes of them."""

    def __init__(
        self,
        case: Case,
        *,
        phases: Sequence[str] = PHASES,
        max_runs: int | None = None,
        known: Mapping[str, str] | None = None,
        replay: str | None = None,
        target: str = "",
        again: str = "",
        progress: Callable[[int, int], None] | None = None,
    ) -> None:
        phases = (phases,) if isinstance(phases, str) else tuple(phases)
        _known_words("phases", phases, PHASES)
        if max_runs is not None and (
            isinstance(max_runs, bool) or not isinstance(max_runs, int) or max_runs < 1
        ):
            raise ValueError(f"max_runs must be a number of 1 or more, or None, not {max_runs!r}")
        self.case = case
        self.phases = phases
        self.max_runs = max_runs
        self.known = dict(known or {})
        self.replay = replay
        self.target = target
        self.again = again
        self.progress = progress
        self.runs = 0
        self.skipped = 0
        self.began = time.monotonic()
        self.seen: list[Seen] = []
        self.points: dict[Point, None] = {}
        self.findings: dict[str, Finding] = {}
        self.unresolved: list[Plan] = []
        self.resolved: set[tuple[str, str, Stack]] = set()
        self.safe: dict[Point, None] = {}

    async def run(self, places: Sequence[Place]) -> SweepReport:
        """Carry out everything and report."""
        usual = await self._usual(places[0])
        if isinstance(usual, str):
            return self._report(error=usual)
        start = (
            None if self.case.how == "deadline" else self._start()
        )  # there, the deadline is set in the first step
        plans = plans_for(self.seen, start, self.phases, self.case.children)
        if self.replay is not None:
            return await self._again(places[0], plans, usual)
        doubles = "double" in self.phases
        chosen = choose(plans, self.max_runs)
        self.skipped = len(plans) - len(chosen)
        results = await self._carry_out(places, chosen, usual)
        if doubles:
            seconds = _doubles(results)
            room = None if self.max_runs is None else max(0, self.max_runs - len(chosen))
            chosen = choose(seconds, room) if room != 0 else []
            self.skipped += len(seconds) - len(chosen)
            await self._carry_out(places, chosen, usual)
        return self._report()

    async def _usual(self, place: Place) -> Result | str:
        """What a run without a cancel is like, or why there is none."""
        found: Result | None = None
        for _ in range(2):
            self.runs += 1
            try:
                result = await place.ask((None, None))
            except Died as error:
                return f"it fails without any cancel: {error}"
            if result.broken:
                return result.broken
            if result.ending != "returned":
                return f"it fails without any cancel: it {result.ending}"
            bad = [text for oracle, text in result.violations if oracle in ("bystander", "check", "ended")]
            if bad:
                return f"it fails without any cancel: {bad[0]}"
            found = result if found is None else _together(found, result)
        assert found is not None
        for seen in found.seen:
            if not seen.born:
                self.points.setdefault(seen.point)
        self.seen = found.seen
        return dataclasses.replace(found, seen=[])  # it is sent with every plan

    def _start(self) -> Point:
        target: Any = inspect.unwrap(self.case.fn)
        target = target.func if isinstance(target, partial) else target
        code = getattr(target, "__code__", None) or getattr(
            getattr(type(target), "__call__", None), "__code__", None
        )
        if code is None:
            return Point("", (Step("<unknown>", 0, self.target),), 1)
        return Point("", (Step(code.co_filename, _def_line(code), code.co_name),), 1)

    async def _again(self, place: Place, plans: list[Plan], usual: Result) -> SweepReport:
        """Only the cancel of one finding."""
        assert self.replay is not None
        for plan in plans:
            if plan.id == self.replay:
                await self._carry_out([place], [plan._replace(restart=True)], usual)
                return self._report()
            if self.replay.startswith(plan.id + "-"):
                results = await self._carry_out([place], [plan], usual)
                self.findings.clear()
                self.safe.clear()
                chosen = [double for double in _doubles(results) if double.id == self.replay]
                if chosen:
                    await self._carry_out([place], chosen, usual)
                    return self._report()
        raise ValueError(f"replay: no cancel of this function has the id {self.replay!r}")

    async def _carry_out(self, places: Sequence[Place], plans: Sequence[Plan], usual: Result) -> list[Result]:
        queue = iter(plans)
        results: list[Result] = []

        async def work(place: Place) -> None:
            for plan in queue:
                results.append(await self._one(place, plan, usual))
                if self.progress is not None:
                    self.progress(len(results), len(plans))

        if len(places) == 1:
            await work(places[0])
        else:
            async with asyncio.TaskGroup() as group:
                for place in places:
                    group.create_task(work(place))
        return results

    async def _one(self, place: Place, plan: Plan, usual: Result) -> Result:
        result = await self._try(place, plan, usual)
        if result.eager and plan.first == "before" and not plan.point.owner:
            return result  # an eager task makes its first step at once: there is no "before"
        if not result.fired or result.broken:
            self._not_reached(plan, result)
            return result
        if result.violations:
            result = await self._confirmed(place, plan, usual, result)
        self.resolved.add((plan.phase, plan.point.owner, plan.point.stack))
        if plan.phase not in self.phases:
            return result  # an early cancel only for the sake of its doubles
        if result.violations:
            self._found(plan, result)
        else:
            self.safe.setdefault(plan.shown)
        return result

    async def _try(self, place: Place, plan: Plan, usual: Result) -> Result:
        """Until the point comes by."""
        result = Result(plan)
        for attempt in range(1, _ATTEMPTS + 1):
            self.runs += 1
            try:
                result = await place.ask((plan._replace(attempt=attempt), usual))
            except Died as error:
                result = Result(plan, fired=True, violations=[("ended", str(error))], made=[()])
            if result.fired and not result.broken:
                break
        return result

    async def _confirmed(self, place: Place, plan: Plan, usual: Result, result: Result) -> Result:
        """What depends on time must be seen twice in three runs: a busy machine is no finding."""
        if any(oracle not in _TIMED for oracle, _ in result.violations):
            return result
        again = await self._try(place, plan, usual)
        if again.violations or not again.fired or again.broken:
            return result
        third = await self._try(place, plan, usual)
        return third if third.fired and not third.broken else again

    def _not_reached(self, plan: Plan, result: Result) -> None:
        if result.broken or result.ending.startswith("raised"):
            text = result.broken or f"it failed before the cancel: it {result.ending}"
            self._add(plan, "ERROR", plan.shown.at, (Violation("error", text),), plan.shown.stack)
        else:
            self.unresolved.append(plan)

    def _found(self, plan: Plan, result: Result) -> None:
        violations = tuple(Violation(*item) for item in result.violations)
        stack = plan.shown.stack
        fault = result.at_fault
        if fault is None:
            fault = _at_fault(stack, next((made for made in result.made if made), ()))
        self._add(plan, "UNSAFE", fault, violations, stack)

    def _add(
        self, plan: Plan, verdict: str, fault: Step, violations: tuple[Violation, ...], stack: Stack
    ) -> None:
        self.findings[plan.id] = Finding(
            plan.id, plan.phase, verdict, stack, fault, violations, plan.shown.owner.removesuffix(" (start)")
        )

    def _report(self, error: str = "") -> SweepReport:
        for plan in self.unresolved:
            if (plan.phase, plan.point.owner, plan.point.stack) not in self.resolved:
                text = f"the point did not come again in {_ATTEMPTS} runs"
                self._add(plan, "UNRESOLVED", plan.shown.at, (Violation("reached", text),), plan.shown.stack)
        stacks = [point.stack for point in self.points] + [
            finding.stack for finding in self.findings.values()
        ]
        packages = packages_of(stacks)
        found: list[Finding] = []
        silenced: list[tuple[Finding, str]] = []
        for finding in self.findings.values():
            finding = dataclasses.replace(finding, package=packages.of(finding.at_fault.file))
            if finding.id in self.known:
                silenced.append((finding, self.known[finding.id]))
            else:
                found.append(finding)
        verdicts = {finding.verdict for finding in found}
        verdict = (
            "ERROR"
            if error
            else next((v for v in ("UNSAFE", "ERROR", "UNRESOLVED") if v in verdicts), "SAFE")
        )
        return SweepReport(
            verdict,
            len(self.points),
            self.runs,
            ".".join(map(str, sys.version_info[:3])),
            packages.versions,
            tuple(found),
            target=self.target,
            seconds=time.monotonic() - self.began,
            skipped=self.skipped,
            error=error,
            safe=tuple(self.safe),
            silenced=tuple(silenced),
            replay=self.again,
        )


def _doubles(results: Sequence[Result]) -> list[Plan]:
    """A second cancel at each point that the clean-up after a first was seen to come by."""
    plans: dict[tuple[Point, Point], Plan] = {}
    for phase in ("early", "late", "before"):
        for result in results:
            plan = result.plan
            if plan is None or plan.phase != phase or not result.fired:
                continue
            for second in result.cleaning:
                double = Plan("double", plan.point, second, phase)
                plans.setdefault((plan.point, second), double)
    return list(plans.values())


def _together(first: Result, second: Result) -> Result:
    """What may be expected of a run: all that one of the two showed."""
    seen = {item.point: item for item in second.seen}
    seen.update({item.point: item for item in first.seen})
    return dataclasses.replace(
        first,
        seen=list(seen.values()),
        left=first.left | second.left,
        noise=first.noise | second.noise,
        given_kept=max(first.given_kept, second.given_kept, key=len),
        took=max(first.took, second.took),
        bystander_took=max(first.bystander_took, second.bystander_took),
        restart=first.restart
        if first.restart == "ok"
        else second.restart
        if second.restart != "ok"
        else first.restart,
        restart_took=max(first.restart_took, second.restart_took),
        value=first.value if first.value == second.value else "",
    )


def _at_fault(stack: Stack, made: Stack) -> Step:
    """The frame to mend: the innermost that both made what is left and waits; else the innermost that waits."""
    own = [step for step in stack if not is_python(step.file)]
    makers = {(step.file, step.function) for step in made}
    for step in reversed(own):
        if (step.file, step.function) in makers:
            return step
    return own[-1] if own else shown(stack)


def _def_line(code: Any) -> int:
    """The line of the ``def``: a decorator's line comes first in the code object."""
    import linecache

    line: int = code.co_firstlineno
    for number in range(line, line + 30):
        text = linecache.getline(code.co_filename, number).lstrip()
        if text.startswith(("async def", "def")):
            return number
    return line


_ATTEMPTS = 3
_TIMED = frozenset(
    {"ended", "tasks", "threads", "processes", "files", "timers", "restart", "bystander", "teardown"}
)
