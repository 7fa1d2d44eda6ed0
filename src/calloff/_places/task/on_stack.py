"""What blocks the event loop, while the interrupter looks at that, and what is to be raised there.

A body on the stack can't be asked through its task. So the interrupter runs the steps that are due in the middle of the
body's own step, with the body noted here; who asks then leaves here what the interrupter raises.
"""

import asyncio
from collections.abc import Callable
from typing import Any

from ..._words.errors import StopForced
from ..._words.place import Body
from .objects import is_a
from .stack import coro_of, leads_to, parts_of, shield_on_stack

__all__ = ["ForSure", "interrupt_plain", "is_held_up", "on_stack", "run_on_stack"]


class ForSure(StopForced):
    """Says that `StopForced` is to be raised in what blocks the loop, and again wherever that is caught."""


class OnStack:
    """The look that is going on; a checkpoint may run one inside another.

    Attributes:
        found: the body, or the coroutine of a plain task, that is on the stack; ``None`` outside any look.
        raising: what is to be raised there.
    """

    __slots__ = ("found", "raising")

    def __init__(self) -> None:
        self.found: object = None
        self.raising: BaseException | None = None


on_stack = OnStack()


def run_on_stack(found: object, error: BaseException | None, act: Callable[[], object]) -> BaseException | None:
    """Run `act` while `found` is on the stack; return what is to be raised there, `error` unless something else is."""
    outer = on_stack.found, on_stack.raising
    on_stack.found, on_stack.raising = found, error
    try:
        act()
        return on_stack.raising
    finally:
        on_stack.found, on_stack.raising = outer


def interrupt_plain(coro: object, act: Callable[[], object]) -> BaseException | None:
    """Like `TaskBody.interrupt`, for the coroutine of a task that is no operation.

    What `act` asks of a body that waits for it, and is held up by it, is asked of it instead: cancelling the task of that
    body, too, would cancel this one twice. Where its end does not end that body, the body is asked again, as always.
    """
    return run_on_stack(coro, None, act)


def is_held_up(task: "asyncio.Task[Any]", coro: object, *, through_shields: bool = True) -> bool:
    """Return whether `task` waits, at whatever distance, for the coroutine that runs now."""
    waiting: Any = coro_of(task)
    if is_a(waiting, Body):
        waiting = waiting.coro
    parts = parts_of(waiting)
    if parts is not None and parts[0] is not None and parts[1]:
        # below it on the stack: it started the other one eagerly
        return through_shields or not shield_on_stack(parts[0])
    return leads_to(waiting, coro, through_shields=through_shields)
