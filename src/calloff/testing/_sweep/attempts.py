"""One plan carried out: again until its point comes by, with a closer look where there may be more to it."""

import dataclasses
from collections.abc import Callable, Mapping

from .case import Case, Result
from .isolate import Died
from .learnt import alike, without_evidence
from .noise import NEVER_AWAITED
from .places import Place
from .plan import Plan

__all__ = ["ATTEMPTS", "HANGS", "Attempts"]

ATTEMPTS = 3
#: how often a call is made once more, without a cancel, until that is given up: a busy machine spoils one of them
_TRIES = 2
HANGS = frozenset({"ended", "restart", "bystander"})
_TIMED = frozenset(
    {"ended", "tasks", "threads", "processes", "files", "timers", "items", "restart", "bystander", "teardown"}
)


class Attempts:
    """Asks places for runs, and counts them.

    Args:
        case: what is swept.
        late: whether a cancel is also to be tried with what comes in from the network held back.
        known: whether a result shows only what was seen for certain elsewhere.

    Attributes:
        runs: how many there were.
    """

    def __init__(self, case: Case, late: bool, known: Callable[[Plan, Result], bool]) -> None:
        self.runs = 0
        self._case = case
        self._late = late
        self._known = known
        self._not_again: dict[str, str] = {}
        self._calls: dict[str, bool] = {}
        self._sure: set[str] = set()
        self._traced = False

    def not_tried(self, others: Mapping[str, str]) -> dict[str, str]:
        """The oracles that could say nothing, with the reason, and of which calls ``restart`` can't speak."""
        reasons = [others["restart"]] if "restart" in others else []
        for name, why in self._not_again.items():
            function = name.rpartition(":")[2]
            reasons.append(f"{function} can't be called again in the same world: without a cancel, it {why}")
        return {**others, "restart": "; ".join(reasons)} if reasons else dict(others)

    async def carry_out(self, place: Place, plan: Plan, usual: Result) -> Result:
        """The result of a plan, as far as one run shows it."""
        if plan.again and not await self._may_call_again(place, plan, usual):
            plan = plan._replace(again="")
        return await self._made_sure(place, plan, usual)

    async def look_into(self, place: Place, plan: Plan, usual: Result, result: Result) -> Result:
        """Ask again where there may be more to it, and where a result may come of a busy machine."""
        plan = wanted = result.plan or plan
        more: list[Plan] = []
        if plan.again and not result.restart:
            more.append(plan._replace(hasty=True))  # what the call was given may itself look like something left
        if result.network and self._late and plan.phase == "early" and (plan.again or usual.restart == "ok"):
            more.append(plan._replace(quiet=True))
        for other in more:
            if not result.violations:
                found = await self._made_sure(place, other, usual)
                if found.fired and not found.broken and found.violations:
                    result, wanted = dataclasses.replace(found, cleaning=result.cleaning), other
        if result.violations and not self._known(plan, result):
            result = await self._of_one(place, wanted, usual, result)
            result = await self._confirmed(place, wanted, usual, result)
            result = await self._controlled(place, wanted, usual, result)
            result = await self._without_usual_items(place, wanted, usual, result)
            result.plan = plan
        return result

    async def _controlled(self, place: Place, plan: Plan, usual: Result, result: Result) -> Result:
        """Where all that is held against it is the second run: does that still work when it was not called off?

        What its set-up has timed may be over when a busy machine comes to run it for the second time.
        """
        violations = result.violations
        if not violations or result.died or result.unsure or any(part != "restart" for part, _ in violations):
            return result
        if plan.again:
            made = await self._called_again(place, plan, usual)
            now = made if isinstance(made, str) else ""
        else:
            now = await self._run_again(place, usual)
        if not now:
            return result
        return dataclasses.replace(result, unsure=f"now the second run fails without any cancel, too: it {now}")

    async def _without_usual_items(self, place: Place, plan: Plan, usual: Result, result: Result) -> Result:
        """Without the items that a call which comes to its end leaves there, too: its test may take them out."""
        if not plan.again or result.died or all(part != "items" for part, _ in result.violations):
            return result
        self.runs += 1
        try:
            control = await place.ask((Plan("after", plan.point, again=plan.again), usual))
        except Died:
            control = Result(plan)
        usually = set(result.violations if control.restart != "ok" else control.violations)
        kept = [
            part
            for part in zip(result.violations, result.made, strict=True)
            if part[0][0] != "items" or part[0] not in usually
        ]
        return dataclasses.replace(result, violations=[item for item, _ in kept], made=[made for _, made in kept])

    async def _run_again(self, place: Place, usual: Result) -> str:
        """How the second of two runs without a cancel fails; ``""`` where it does not, or there is none."""
        try:
            control = await self._ask(place, None, usual)
        except Died:
            return ""
        return "" if control.restart == "ok" or control.broken or control.ending != "returned" else control.restart

    async def _may_call_again(self, place: Place, plan: Plan, usual: Result) -> bool:
        """Whether what the function had called can be called once more in the same world, without a cancel."""
        name = plan.again
        if "restart" not in self._case.oracles:
            return False
        if name not in self._calls:
            self._calls[name] = False
            for _ in range(_TRIES):
                values = await self._called_again(place, plan, usual)
                if not isinstance(values, str):
                    usual.agains[name] = values
                    self._calls[name] = True
                    break
                self._not_again[name] = values
            else:
                return False
            self._not_again.pop(name, None)
        return self._calls[name]

    async def _called_again(self, place: Place, plan: Plan, usual: Result) -> tuple[float, tuple[str, ...]] | str:
        """How long the call takes when it is made once more, and what it may return; or how it fails."""
        self.runs += 1
        try:
            result = await place.ask((Plan("after", plan.point, again=plan.again), usual))
        except Died as error:
            return f"does not end: {error}"
        if result.restart != "ok":
            return result.restart or "does not come to its end"
        values = (result.call_value, result.restart_value)
        return result.restart_took, values if all(values) else ()

    async def _made_sure(self, place: Place, plan: Plan, usual: Result) -> Result:
        """The result of a plan.

        Before a call that does otherwise than before is held against it, it is made without a cancel for a second time: it
        may fail now and then, or return another value each time.
        """
        result = await self._until_reached(place, plan, usual)
        name = plan.again
        if not name or name in self._sure or all(oracle != "restart" for oracle, _ in result.violations):
            return result
        self._sure.add(name)
        took, values = usual.agains[name]
        if isinstance(second := await self._called_again(place, plan, usual), str):
            self._calls[name] = False
            self._not_again[name] = second
            return (
                Result(plan)
                if plan.is_for_restart
                else await self._until_reached(place, plan._replace(again=""), usual)
            )
        usual.agains[name] = max(took, second[0]), values if values == second[1] else ()
        if usual.agains[name][1] == values:
            return result
        return await self._until_reached(place, plan, usual)

    async def _until_reached(self, place: Place, plan: Plan, usual: Result) -> Result:
        """Until the point comes by; and once more to hear who made a coroutine that nobody awaited.

        Only for that does Python keep where each is made, from the first such complaint on: for each that is made, this
        takes longer than a turn of the loop.
        """
        traced = self._traced
        result = await self._reached(place, plan._replace(traced=traced), usual)
        if not traced and any(oracle == "unawaited" and NEVER_AWAITED in text for oracle, text in result.violations):
            self._traced = True
            again = await self._reached(place, plan._replace(traced=True), usual)
            made = {alike(item): stack for item, stack in zip(again.violations, again.made, strict=True)}
            result.made = [
                stack or made.get(alike(item), ()) for item, stack in zip(result.violations, result.made, strict=True)
            ]
        return result

    async def _reached(self, place: Place, plan: Plan, usual: Result) -> Result:
        result = Result(plan)
        for attempt in range(1, ATTEMPTS + 1):
            try:
                result = await self._ask(place, plan._replace(attempt=attempt), usual)
            except Died as error:
                result = Result(plan, fired=True, died=True, violations=[("ended", str(error))], made=[()])
            if result.fired and not result.broken:
                break
        return result

    async def _ask(self, place: Place, plan: Plan | None, usual: Result) -> Result:
        """One run; once more, and like all that follow without a jump of time, where one with a jump shows something."""
        self.runs += 1
        result = await place.ask((plan, usual))
        if result.jumped and (result.violations or result.restart != "ok"):
            usual.jumps = False
            self.runs += 1
            result = await place.ask((plan, usual))
        return result

    async def _of_one(self, place: Place, plan: Plan, usual: Result, result: Result) -> Result:
        """What nobody can tell the maker of, where other tasks were called off, too: does this one leave it?"""
        if not plan.point.owner or plan.first == "before" or not result.beside or self._case.how != "cancel":
            return result
        if not (found := without_evidence(result)):
            return result
        alone = await self._until_reached(place, plan._replace(alone=True), usual)
        if not alone.fired or alone.broken or alone.died:
            return dataclasses.replace(result, doubtful=True)
        left = set(map(alike, alone.violations))
        not_alone = all(alike(item) not in left for item in found)
        return dataclasses.replace(result, not_alone=not_alone, doubtful=not_alone or bool(alone.beside))

    async def _confirmed(self, place: Place, plan: Plan, usual: Result, result: Result) -> Result:
        """What depends on time must be seen twice in three runs: a busy machine is no finding."""
        if result.died or any(oracle not in _TIMED for oracle, _ in result.violations):
            return result
        again = await self._until_reached(place, plan, usual)
        if again.violations or not again.fired or again.broken:
            return result
        third = await self._until_reached(place, plan, usual)
        if third.violations or not third.fired or third.broken:
            return third if third.fired and not third.broken else again
        if any(oracle in HANGS for oracle, _ in result.violations):
            # not enough to say that it is unsafe, nor that it is safe
            return dataclasses.replace(result, unsure="this was seen in 1 of 3 runs")
        return third
