"""One attribute of an operation, of an ended one (`Facts`), or of a plain asyncio task: the same question to all three.

All of them are read for every operation there is, at each look, so each is one or two attributes and no more.
"""

import asyncio
import os
from math import inf
from typing import Any

from .._operation.operation import Operation, current_operation
from .._operation.snapshot import Facts, clock_of
from .._words.state import State

__all__ = [
    "depth_of",
    "ended_at_of",
    "is_of_the_verb",
    "name_of",
    "node_of",
    "number_of",
    "parent_number_of",
    "phase_of",
    "place_of",
    "remaining_of",
    "silence_of",
]

_DEEPEST = 50
_VERBS = os.path.join(os.path.dirname(os.path.dirname(__file__)), "cli", "")


def number_of(each: Any) -> int:
    """The number in its id."""
    number: int = each.number if isinstance(each, Facts) else each._number
    return number


def phase_of(each: Any) -> State:
    """Its state; of a plain task what comes nearest."""
    if isinstance(each, Facts):
        return each.phase
    if isinstance(each, asyncio.Task):
        if not each.done():
            return State.STOPPING if each.cancelling() else State.RUNNING
        return State.CANCELLED if each.cancelled() else State.COMPLETED if each._exception is None else State.FAILED
    phase: State = each._phase
    return phase


def place_of(each: Any) -> str:
    """Where it runs."""
    if isinstance(each, Facts):
        return each.place
    return "asyncio" if isinstance(each, asyncio.Task) else each._place


def node_of(each: Any) -> str:
    """The machine that it runs or ran on, where that is not this one."""
    if isinstance(each, Facts):
        return each.node
    body = each.body if isinstance(each, Operation) else None
    return "" if body is None else body.node


def name_of(each: Any) -> str:
    """What people call it."""
    if isinstance(each, asyncio.Task):
        coro = each.get_coro()
        name: str = each.get_name()
        return f"{name}: {getattr(coro, '__qualname__', type(coro).__name__)}"
    name = each.name if isinstance(each, Facts) else each._name
    return name.rpartition("<locals>.")[2]


def is_of_the_verb(task: "asyncio.Task[Any]") -> bool:
    """Whether the command line made it for itself, as `calloff run` does to show how far it is: nobody else's business."""
    code = getattr(task.get_coro(), "cr_code", None)
    return code is not None and code.co_filename.startswith(_VERBS)


def remaining_of(each: Any) -> float:
    """Seconds until its deadline; without one, no end of them."""
    if isinstance(each, (Facts, asyncio.Task)) or (deadline := each.deadline) is None:
        return inf
    left: float = deadline - clock_of(each)
    return left


def silence_of(each: Any) -> float | None:
    """Seconds since the last report of progress; of one that has made none, nothing."""
    if isinstance(each, (Facts, asyncio.Task)) or each._progress is None or each._ended_at is not None:
        return None
    silent: float = clock_of(each) - each._progress_at
    return max(0.0, silent)


def ended_at_of(each: Any) -> float:
    """When it ended, on the clock of its loop."""
    ended_at = each.ended_at if isinstance(each, Facts) else getattr(each, "_ended_at", None)
    return inf if ended_at is None else ended_at


def parent_number_of(each: Any) -> int | None:
    """The number of what it hangs below."""
    if isinstance(each, Facts):
        return each.parent
    parent = _parent_of(each)
    return None if parent is None else parent._number


def _parent_of(each: Any) -> "Operation[Any] | None":
    """What a live one hangs below; of a plain task the operation that it was made in, which Python 3.11 does not tell."""
    if isinstance(each, asyncio.Task):
        context = getattr(each, "get_context", lambda: None)()
        parent = None if context is None else context.get(current_operation)
    else:
        parent = each._parent
    return parent if isinstance(parent, Operation) else None


def depth_of(each: Any) -> int:
    """How many operations it hangs below."""
    depth = 0
    while depth < _DEEPEST and (each := _parent_of(each)) is not None:
        depth += 1
    return depth
