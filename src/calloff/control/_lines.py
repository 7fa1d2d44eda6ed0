"""Stops and stacks for the wire: which rungs were taken, and the lines that people want to see."""

import asyncio
import shlex
from functools import lru_cache
from typing import Any

from .._operation.snapshot import Facts
from .._operation.stopping import Stop, frames_of, where_of
from .._places.task.stack import stack_of
from .._words.frame import OURS, RawStack, culprit
from .._words.place import Body
from .._words.report import Rung
from .._words.state import State
from ._records import Frame, Step

__all__ = ["frames", "innermost", "line_of", "own", "stack_of_task", "steps_of"]

_SOURCE = 200  # characters of a source line
_COMMAND = 1000  # and of a command line
_STACK = 100  # frames


def steps_of(stop: Stop, facts: Facts, unix: float) -> tuple[Step, ...]:
    """The rungs that were taken, as far as is known, and when."""
    steps = [Step("ASKED", stop.requested_at + unix)]
    if stop.insisted_at is not None:
        steps.append(Step("INSISTED", stop.insisted_at + unix))
    climb = stop._climb
    if climb is not None and climb.forced_at is not None:
        force = Rung.KILLED if facts.place in ("process", "command") else Rung.FORCED
        steps.append(Step(str(force), climb.forced_at + unix))
    if facts.phase is State.ABANDONED and facts.ended_at is not None:
        steps.append(Step("ABANDONED", facts.ended_at + unix))
    return tuple(steps)


def line_of(body: Body) -> Frame | None:
    """The line that a body stands at; of a command that has no lines its command line."""
    found = innermost(where_of(body))
    if body.argv and (found is None or not found.line):
        return Frame(body.argv[0], 0, body.name, shlex.join(body.argv)[:_COMMAND])
    return found


def innermost(stack: RawStack) -> Frame | None:
    """The line that a person wants to see: the innermost one of their own code, else the innermost of all."""
    return _innermost(stack)


@lru_cache(maxsize=1024)
def _innermost(stack: RawStack) -> Frame | None:
    frame = culprit(frames_of(stack))
    return None if frame is None else Frame(frame.file, frame.line, frame.function, frame.source[:_SOURCE])


def frames(stack: RawStack) -> tuple[Frame, ...]:
    """A stack for the wire."""
    found = frames_of(stack)[-_STACK:]
    return tuple(Frame(frame.file, frame.line, frame.function, frame.source[:_SOURCE]) for frame in found)


def own(stack: tuple[Frame, ...]) -> tuple[Frame, ...]:
    """A stack without the frames of ours, which are the outermost and tell nobody anything; none when all are ours."""
    theirs = next((at for at, frame in enumerate(stack) if not frame.file.startswith(OURS)), len(stack))
    return stack[theirs:]


def stack_of_task(task: "asyncio.Task[Any]") -> RawStack:
    """The frames of a plain task, as far as asyncio tells them from outside."""
    return stack_of(task.get_coro())
