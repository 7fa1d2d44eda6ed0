"""What to try: one plan for each point and phase, each carried out in a run of its own."""

from collections.abc import Iterable, Sequence
from typing import NamedTuple

from .points import Point

__all__ = ["PHASES", "Plan", "Seen", "choose", "plans_for"]

PHASES = ("before", "early", "late", "double", "amid")


class Plan(NamedTuple):
    """Call the function off at `point`, in `phase`; in phase ``double`` once more at `second`, in the clean-up.

    `base` is the phase of a double's first cancel. `attempt` counts from 1. `quiet`: from the cancel on nothing comes in
    from the network until the function runs again. `again` names the call to be repeated, in place of the whole; in
    phase ``after`` that call runs to its end, and the function is left there. `hasty`: it runs again at once, whatever is
    left, and only that says something. `turn`: in phase ``amid``, the moment: 1 just before the first step that the
    bystander makes meanwhile, 2 just behind that step, and so on. `alone`: only the task that waits there is called off, to
    see whether what is left is its own. `traced`: each coroutine keeps where it was made.
    """

    phase: str
    point: Point
    second: Point | None = None
    base: str = ""
    attempt: int = 1
    quiet: bool = False
    again: str = ""
    hasty: bool = False
    turn: int = 0
    alone: bool = False
    traced: bool = False

    @property
    def is_for_restart(self) -> bool:
        """Whether only the run that follows says something: what the first one leaves is not given the time to end."""
        return self.quiet or self.hasty

    @property
    def first(self) -> str:
        """The phase of the first cancel."""
        return self.base or self.phase

    @property
    def id(self) -> str:
        """Short and stable; what ``--replay`` takes."""
        name = f"{self.first[0]}{self.turn or ''}-{self.point.digest()}"
        return name if self.second is None else f"{name}-{self.second.digest()[:4]}"

    @property
    def shown(self) -> Point:
        """The point at which the cancel in question arrives."""
        return self.second or self.point


class Seen(NamedTuple):
    """A point that a run without a cancel came by, and which phases it has.

    `born` is true for the creation of a child task (phase ``before``); `resumed` when the task went on with a result
    (then there is a ``late``); `call` names what the function had called there; `steps` is how many steps the bystander
    made meanwhile.
    """

    point: Point
    born: bool
    resumed: bool
    call: str = ""
    steps: int = 0


def plans_for(seen: Iterable[Seen], start: Point | None, phases: Sequence[str], children: bool) -> list[Plan]:
    """All plans but the doubles (those are known only when a first cancel showed the clean-up)."""
    plans: dict[tuple[str, Point, int], Plan] = {}
    if "before" in phases and start is not None:
        plans["before", start, 0] = Plan("before", start)
    for item in seen:
        if item.point.owner and not children:
            continue
        if item.born:
            wanted = ["before"]
        else:
            wanted = ["early", "late"] if item.resumed else ["early"]
        for phase in wanted:
            if phase in phases or (phase == "early" and "double" in phases):
                plans.setdefault((phase, item.point, 0), Plan(phase, item.point, again=item.call))
        if "amid" in phases:
            for turn in _turns(item.steps):
                plans.setdefault(("amid", item.point, turn), Plan("amid", item.point, turn=turn))
    return list(plans.values())


def _turns(steps: int) -> list[int]:
    """Before and behind the first two steps and the last two, however many there are."""
    chosen = sorted({1, 2, steps - 1, steps}.intersection(range(1, steps + 1)))
    return [turn for step in chosen for turn in (2 * step - 1, 2 * step)]


def choose(plans: list[Plan], limit: int | None) -> list[Plan]:
    """At most `limit` plans: every different line first, then the later comings of the same line, spread evenly."""
    if limit is None or len(plans) <= limit:
        return plans
    first = [plan for plan in plans if plan.point.nth == 1]
    later = [plan for plan in plans if plan.point.nth > 1]
    chosen = set(_spread(first, limit))
    chosen |= set(_spread(later, limit - len(chosen)))
    return [plan for plan in plans if plan in chosen]


def _spread(plans: list[Plan], limit: int) -> list[Plan]:
    if limit <= 0:
        return []
    if len(plans) <= limit:
        return plans
    return [plans[index * len(plans) // limit] for index in range(limit)]
