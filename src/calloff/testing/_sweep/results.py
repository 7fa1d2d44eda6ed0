"""What follows from the results of runs, as plain functions: the measure, the second cancels, the frame to mend."""

import dataclasses
import re
from collections.abc import Sequence

from .case import Result
from .plan import Plan
from .points import Point, Stack, Step, is_python, shown

__all__ = ["at_fault", "doubles", "together"]


def doubles(results: Sequence[Result]) -> list[Plan]:
    """A second cancel at each point that the clean-up after a first was seen to come by."""
    plans: dict[tuple[Point, Point], Plan] = {}
    for phase in ("early", "late", "before"):
        for result in results:
            plan = result.plan
            if plan is None or plan.phase != phase or not result.fired:
                continue
            for second in result.cleaning:
                double = Plan("double", plan.point, second, phase, again=plan.again)
                plans.setdefault((plan.point, second), double)
    return list(plans.values())


def together(first: Result, second: Result) -> Result:
    """What may be expected of a run: all that one of the two showed."""
    seen = {item.point: item for item in second.seen}
    seen.update({item.point: item for item in first.seen})
    return dataclasses.replace(
        first,
        seen=list(seen.values()),
        left_first=first.left_first | second.left_first,
        left=first.left | second.left,
        noise=first.noise | second.noise,
        given_first=max(first.given_first, second.given_first, key=len),
        given_kept=max(first.given_kept, second.given_kept, key=len),
        took=max(first.took, second.took),
        bystander_took=max(first.bystander_took, second.bystander_took),
        restart=second.restart if first.restart == "ok" else first.restart,
        restart_took=max(first.restart_took, second.restart_took),
        ended=second.ended | first.ended,
        meant=[*first.meant, *second.meant],
        value=first.value if first.value == second.value else "",
    )


def at_fault(point: Point, evidence: Stack, *, started: bool = True, raised: bool = False, main: Stack = ()) -> Step:
    """The frame to mend.

    `evidence` is the stack that made what is left, or that hangs or fails afterwards. Where it came the same way as the
    await, the frame at which the two part: it took, and did not give back. Else the innermost function that they have in
    common; else the one that started what is left (`started`: something is), if it was a child task that waited, or that
    `raised` what nobody saw; else the innermost that waits. Where a child task waits that did not make what is left, it is
    for where the function itself is (`main`), which is what was called off; so is what only frames of Python's wait for.
    """
    own = [step for step in point.stack if not is_python(step.file)]
    made = [step for step in evidence if not is_python(step.file)]
    parting = _parting(own, made)
    if parting is not None:
        return parting
    involved = set(map(_function, made))
    for step in reversed(own):
        if _function(step) in involved:
            return step
    of_main = [step for step in main if not is_python(step.file)]
    if made and point.owner and of_main and started and not raised:
        return at_fault(Point("", main, 1), evidence)
    if made and (raised or (started and point.owner)):
        return made[-1]
    return next((steps[-1] for steps in (own, made, of_main) if steps), shown(point.stack))


def _parting(own: Sequence[Step], made: Sequence[Step]) -> Step | None:
    """The last frame of a way in common, from where the second begins; ``None`` where it does not begin on the first."""
    start = next((at for at, step in enumerate(own) if made and _function(step) == _function(made[0])), None)
    if start is None:
        return None
    last = start
    for at, (step, other) in enumerate(zip(own[start:], made, strict=False), start):
        if _function(step) != _function(other):
            break
        last = at
        if step.line != other.line:
            break  # what follows was called from here and from there
    inner = own[last + 1] if last + 1 < len(own) else None
    if inner is not None and inner.function in _GIVES_BACK and (package := _package(inner.file)):
        if any(_package(step.file) == package for step in made[last - start + 1 :]):
            return inner  # ``async with``, or to close it, is all that a caller can do for what a package keeps
    return own[last]


_GIVES_BACK = frozenset({"__aenter__", "__aexit__", "aclose", "close", "disconnect", "shutdown"})


def _package(file: str) -> str:
    """The installed package that a file belongs to."""
    found = re.search(r"[/\\](?:site|dist)-packages[/\\]([^/\\]+)", file)
    return found[1] if found else ""


def _function(step: Step) -> tuple[str, str]:
    return step.file, step.function
