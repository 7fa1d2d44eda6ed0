"""The sweep from end to end: two runs without a cancel, then one for each point and phase, and the report."""

import asyncio
import dataclasses
import inspect
import linecache
import sys
import time
from collections.abc import Callable, Collection, Mapping, Sequence
from functools import partial
from typing import Any, Protocol

from .attempts import ATTEMPTS, HANGS, Attempts
from .case import Case, Result
from .course import STARTS
from .isolate import Died, Lost
from .journal import Journal
from .learnt import Learnt, alike
from .places import Place
from .plan import PHASES, Plan, Seen, choose, plans_for
from .points import Point, Stack, Step
from .pythons import pythons_own
from .report import Finding, SweepReport, Violation
from .results import at_fault, doubles, together
from .skipping import LONG
from .versions import packages_of

__all__ = ["NotForUs", "Sweeping", "known_words"]


class Wants(Protocol):
    """What others have tried already."""

    def __call__(self, plan: Plan, /, *, take: bool) -> bool:
        """Whether a cancel is to be tried; with `take`, it is claimed."""
        ...

    def give_back(self, plan: Plan, /) -> None:
        """It was claimed, and is not tried after all."""


class NotForUs(Exception):
    """What was to be swept does not run on asyncio; the text says why."""


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
        journal: Journal | None = None,
        progress: Callable[[int, int], None] | None = None,
        wants: "Wants | None" = None,
        concerns: Callable[[Plan], bool] | None = None,
        learnt: Learnt | None = None,
    ) -> None:
        if isinstance(phases, str):
            phases = (phases,)
        known_words("phases", phases, PHASES)
        if not phases:
            raise ValueError(f"phases must be at least one of {', '.join(PHASES)}")
        if max_runs is not None and max_runs < 1:
            raise ValueError(f"max_runs must be a number of 1 or more, or None, not {max_runs!r}")
        self.case = case
        self.phases = phases
        self.max_runs = max_runs
        self.known = dict(known or {})
        self.replay = replay
        self.target = target
        self.again = again
        self.journal = journal if replay is None else None
        self.progress = progress
        self.wants = wants
        self.concerns = concerns
        self.elsewhere = 0
        self.lost = False
        self.learnt = Learnt() if learnt is None else learnt
        self.attempts = Attempts(case, late="early" in phases, known=self._is_known)
        self.tried = 0
        self.tried_before = 0
        self.skipped = 0
        self.began = time.monotonic()
        self.seen: list[Seen] = []
        self.points: dict[Point, None] = {}
        self.findings: dict[str, Finding] = {}
        self.unresolved: list[Plan] = []
        self.resolved: set[tuple[str, str, Stack]] = set()
        self.safe: dict[Point, None] = {}
        self.not_tried: dict[str, str] = {}
        self.shown: dict[tuple[str, Point], set[tuple[str, str]]] = {}

    async def run(self, places: Sequence[Place]) -> SweepReport:
        """Carry out everything and report."""
        try:
            return await self._run(places)
        except Lost as error:
            self.lost = True
            return self._report(error=str(error))

    async def _run(self, places: Sequence[Place]) -> SweepReport:
        usual = await self._usual(places[0])
        if isinstance(usual, str):
            return self._report(error=usual)
        plans, left_out = self._plans(self.seen)
        self.skipped += left_out
        if self.replay is not None:
            return await self._again(places[0], plans, usual)
        if self.journal is not None:
            self.journal.open(self.case, self.points)
        alone = [plan for plan in plans if plan.phase != "amid"]
        results = await self._carry_out(places, self._choose(alone), usual)
        if "double" in self.phases:
            await self._carry_out(places, self._choose(doubles(results)), usual)
        amid = [plan for plan in plans if plan.phase == "amid" and not self._is_unsafe(plan.point)]
        await self._carry_out(places, self._choose(amid), usual)
        return self._report()

    def done_elsewhere(self, seen: Sequence[Seen]) -> SweepReport | None:
        """The report on what came by these points without a cancel, where others have tried all that there is to try."""
        if not self._is_done_elsewhere(seen):
            return None
        plans, self.skipped = self._plans(seen)
        self.elsewhere = len(plans)
        self._note_points(seen)
        return self._report()

    def _is_unsafe(self, point: Point) -> bool:
        """Whether it needs no second task for harm to be done there."""
        return any(self.shown.get((phase, point)) for phase in ("early", "late"))

    def _choose(self, plans: list[Plan]) -> list[Plan]:
        """Those whose result is known from before, and of the others as many as there is still room for."""
        if self.wants is not None:
            wanted = [plan for plan in plans if self.wants(plan, take=True)]
            self.elsewhere += len(plans) - len(wanted)
            plans = wanted
        fresh = [plan for plan in plans if self._before(plan) is None]
        chosen = choose(fresh, None if self.max_runs is None else self.max_runs - self.tried)
        self.tried += len(chosen)
        self.tried_before += len(plans) - len(fresh)
        self.skipped += len(fresh) - len(chosen)
        left_out = set(fresh) - set(chosen)
        if self.wants is not None:
            for plan in left_out:
                self.wants.give_back(plan)
        return [plan for plan in plans if plan not in left_out]

    def _before(self, plan: Plan) -> Result | None:
        return None if self.journal is None else self.journal.result(plan)

    async def _usual(self, place: Place) -> Result | str:
        """What a run without a cancel is like, or why there is none."""
        found: Result | None = None
        for _ in range(2):
            try:
                result = await self._without_cancel(place, found)
                if found is None:
                    result.skips = self.case.calls and result.took > LONG
                    result.jumps = not self.case.calls
                elif found.skips and (_fails(result) or result.restart != found.restart):
                    found.skips = False  # what it does goes by another clock, too
                    result = await self._without_cancel(place, found)
                elif result.jumped and (_fails(result) or _second(result) != _second(found)):
                    found.jumps = False
                    result = await self._without_cancel(place, found)
            except Died as error:
                self.lost = True
                return f"it fails without any cancel: {error}"
            if result.skipped:
                raise NotForUs(result.skipped)
            if why := _fails(result):
                return why
            found = result if found is None else together(found, result)
            if self._is_done_elsewhere(found.seen):
                break
        assert found is not None
        self._note_points(found.seen)
        self.seen = found.seen
        if "restart" in self.case.oracles and found.restart != "ok":
            self.not_tried["restart"] = f"it can't be run twice in the same world: without a cancel, it {found.restart}"
        for oracle in sorted(self.case.oracles.intersection(found.blind)):
            self.not_tried[oracle] = "this event loop does not show them"
        return dataclasses.replace(found, seen=[])  # it is sent with every plan

    async def _without_cancel(self, place: Place, found: Result | None) -> Result:
        self.attempts.runs += 1
        return await place.ask((None, found))

    def _note_points(self, seen: Sequence[Seen]) -> None:
        for item in seen:
            if not item.born:
                self.points.setdefault(item.point)

    def _is_done_elsewhere(self, seen: Sequence[Seen]) -> bool:
        """Whether there is nothing to try here: then one run without a cancel is enough."""
        if self.wants is None:
            return False
        return not any(self.wants(plan, take=False) for plan in self._plans(seen)[0])

    def _plans(self, seen: Sequence[Seen]) -> tuple[list[Plan], int]:
        """All cancels that may show something, and how many may not."""
        plans = plans_for(seen, self._start(), self.phases, self.case.children)
        if self.concerns is None or self.replay is not None:
            return plans, 0
        kept = [plan for plan in plans if self.concerns(plan)]
        return kept, len(plans) - len(kept)

    def _start(self) -> Point | None:
        """Where it begins; ``None`` where a cancel before that shows nothing.

        A test makes its own world: before its first step there is none. A deadline is set in the first step.
        """
        if self.case.calls or self.case.how == "deadline":
            return None
        target: Any = inspect.unwrap(self.case.fn)
        target = target.func if isinstance(target, partial) else target
        code = getattr(target, "__code__", None) or getattr(type(target).__call__, "__code__", None)
        if code is None:
            return Point("", (Step("<unknown>", 0, self.target),), 1)
        return Point("", (Step(code.co_filename, _def_line(code), code.co_name),), 1)

    async def _again(self, place: Place, plans: list[Plan], usual: Result) -> SweepReport:
        """Only the cancel of one finding."""
        assert self.replay is not None
        for plan in plans:
            if plan.id == self.replay:
                await self._carry_out([place], [plan], usual)
                return self._report()
            if self.replay.startswith(plan.id + "-"):
                results = await self._carry_out([place], [plan], usual)
                self.findings.clear()
                self.safe.clear()
                chosen = [double for double in doubles(results) if double.id == self.replay]
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
            try:
                async with asyncio.TaskGroup() as group:
                    for place in places:
                        group.create_task(work(place))
            except* Lost as group_of_lost:
                raise group_of_lost.exceptions[0] from None
        return results

    async def _one(self, place: Place, plan: Plan, usual: Result) -> Result:
        before = self._before(plan)
        result = before or await self.attempts.carry_out(place, plan, usual)
        if result.eager and plan.first == "before" and not plan.point.owner:
            return result  # an eager task makes its first step at once: there is no "before"
        if not result.fired or result.broken:
            self._not_reached(plan, result)
            return result
        if before is None:
            result = await self.attempts.look_into(place, plan, usual, result)
        if self.journal is not None and before is None:
            self.journal.note(plan, result)
        self.resolved.add((plan.phase, plan.point.owner, plan.point.stack))
        if plan.second is None:
            self.shown[plan.phase, plan.point] = {alike(item) for item in result.violations}
        elif result.violations and plan.first in self.phases:
            first = self.shown.get((plan.first, plan.point), set())
            if all(alike(item) in first for item in result.violations):
                return result  # the first cancel alone does that, and was told of
        if plan.phase not in self.phases:
            return result  # an early cancel only for the sake of its doubles
        if result.violations and not (result.doubtful and self.learnt.explains(result)):
            self._found(plan, result)
        else:
            self.safe.setdefault(plan.shown)
        return result

    def _not_reached(self, plan: Plan, result: Result) -> None:
        if result.broken or result.ending.startswith("raised"):
            text = result.broken or f"it failed before the cancel: it {result.ending}"
            self._add(plan, "ERROR", plan.shown.at, (Violation("error", text),), plan.shown.stack)
        else:
            self.unresolved.append(plan)

    def _found(self, plan: Plan, result: Result) -> None:
        violations = tuple(Violation(*item) for item in result.violations)
        stack = plan.shown.stack
        fault, opened = self._fault(plan, result)
        if not result.unsure and not result.not_alone:
            self.learnt.note(result.violations, fault)
        if result.unsure:
            violations = (*violations, Violation("repeated", result.unsure))
        verdict = "UNRESOLVED" if result.unsure else "UNSAFE"
        self._add(plan, verdict, fault, violations, stack, opened)

    def _fault(self, plan: Plan, result: Result) -> tuple[Step, Stack]:
        """The line to mend, and where the file was opened that is left."""
        oracle, made = next(
            ((oracle, made) for (oracle, _), made in zip(result.violations, result.made, strict=True) if made),
            ("", ()),
        )
        opened = made if oracle == "files" else ()
        if result.at_fault is not None:
            return result.at_fault, opened
        if (result.doubtful or not plan.point.owner) and (beside := self.learnt.explains(result)) is not None:
            return beside, opened
        point = Point("", result.main_at, 1) if result.not_alone and result.main_at else plan.shown
        started = oracle not in HANGS
        return at_fault(point, made, started=started, raised=oracle == "errors", main=result.main_at), opened

    def _is_known(self, plan: Plan, result: Result) -> bool:
        """Whether a fault that was seen for certain shows itself once more."""
        return self.replay is None and self.learnt.knows(result.violations, self._fault(plan, result)[0])

    def _add(
        self, plan: Plan, verdict: str, fault: Step, violations: tuple[Violation, ...], stack: Stack, opened: Stack = ()
    ) -> None:
        oracles = frozenset(item.oracle for item in violations)
        own = pythons_own(stack, oracles, made=opened) if verdict == "UNSAFE" else None
        owner = plan.shown.owner.removesuffix(STARTS)
        step, why = (fault, "") if own is None else (own[0], own[1].label)
        self.findings[plan.id] = Finding(plan.id, plan.phase, verdict, stack, step, violations, owner, python=why)

    def _report(self, error: str = "") -> SweepReport:
        for plan in self.unresolved:
            if (plan.phase, plan.point.owner, plan.point.stack) not in self.resolved:
                text = f"the point did not come again in {ATTEMPTS} runs"
                self._add(plan, "UNRESOLVED", plan.shown.at, (Violation("reached", text),), plan.shown.stack)
        stacks = [point.stack for point in self.points] + [finding.stack for finding in self.findings.values()]
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
        verdict = "ERROR" if error else next((v for v in ("UNSAFE", "ERROR", "UNRESOLVED") if v in verdicts), "SAFE")
        return SweepReport(
            verdict,
            len(self.points),
            self.attempts.runs,
            ".".join(map(str, sys.version_info[:3])),
            packages.versions,
            tuple(found),
            target=self.target,
            seconds=time.monotonic() - self.began,
            skipped=self.skipped,
            tried_before=self.tried_before,
            error=error,
            safe=tuple(self.safe),
            seen=tuple(self.points),
            silenced=tuple(silenced),
            replay=self.again,
            not_tried=self.attempts.not_tried(self.not_tried) if self.attempts.runs > 2 else {},
            elsewhere=self.elsewhere,
        )


def _fails(result: Result) -> str:
    """Why a run without a cancel is no measure of others, or ``""``."""
    if result.broken:
        return result.broken
    if result.ending != "returned":
        return f"it fails without any cancel: it {result.ending}"
    bad = [text for oracle, text in result.violations if oracle in ("bystander", "check", "ended")]
    return f"it fails without any cancel: {bad[0]}" if bad else ""


def _second(result: Result) -> tuple[str, bool]:
    """What became of the second run, and whether it returned the same as the first."""
    return result.restart, bool(result.value)


def _def_line(code: Any) -> int:
    """The line of the ``def``: a decorator's line comes first in the code object."""
    line: int = code.co_firstlineno
    for number in range(line, line + 30):
        text = linecache.getline(code.co_filename, number).lstrip()
        if text.startswith(("async def", "def")):
            return number
    return line


def known_words(name: str, words: Collection[str], allowed: Sequence[str]) -> None:
    """Raise `ValueError` unless all words are of those allowed."""
    for word in words:
        if word not in allowed:
            raise ValueError(f"{name} must be of {', '.join(allowed)}, not {word!r}")
