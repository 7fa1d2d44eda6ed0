"""Who keeps what: the objects whose methods started a task, and the frames that have an object at a cancel.

A task that an object starts for its whole life (a scheduler, a connection) outlives the call that started it, and is
ended by another, as by ``close``. When the function is called off in between, it is for the caller to close what it has.
An object that nobody has any more, or that does not know the task, keeps nothing: then the call is at fault. One that
the function of a task had when it was called off is gone with that task; it was for that function to close it.

An object that complains of itself when it is garbage (a session that was not closed) was there for the outermost frame
that had it to close, not for the await below it.
"""

import asyncio
import gc
import sys
import weakref
from types import BuiltinFunctionType, FrameType, FunctionType, ModuleType
from typing import Any

from .points import LOOP, Stack, Step, chain, is_ours

__all__ = ["caller_of", "had_by", "holders_of", "keepers_of"]

_DEPTH, _MOST = 6, 3000
_HELD_DEPTH = 3
_DEAD_ENDS = (
    type,
    ModuleType,
    FunctionType,
    BuiltinFunctionType,
    FrameType,
    asyncio.AbstractEventLoop,
    str,
    bytes,
    int,
)


def keepers_of(made: Stack) -> dict[Step, Any]:
    """For each frame that runs now and is one of `made`: a weak reference to the object whose method it is.

    Only of objects that the caller has in a variable: it can close them.
    """
    wanted, found = set(made), dict[Step, Any]()
    frame: FrameType | None = sys._getframe(1)
    while frame is not None and frame.f_back is not None:
        code, caller = frame.f_code, frame.f_back
        if code.co_filename.endswith(LOOP):
            break  # below the loop is none of `made`: all of pytest, say
        method = code.co_argcount and code.co_varnames[0] == "self" and not is_ours(code.co_filename)
        if method and (step := Step(code.co_filename, frame.f_lineno or 0, code.co_name)) in wanted:
            own = frame.f_locals.get("self")
            if any(value is own for value in caller.f_locals.values()):
                try:
                    found[step] = weakref.ref(own)
                except TypeError:
                    pass
        frame = caller
    return found


def had_by(coro: object, keepers: dict[Step, Any], task: Any) -> frozenset[Step]:
    """Those of `keepers` that know the task, and that the outermost function of a coroutine has in a variable now."""
    frames = (frame for _, frame in chain(coro) if not is_ours(frame.f_code.co_filename))
    if not keepers or (outermost := next(frames, None)) is None:
        return frozenset()
    known = {id(value) for value in outermost.f_locals.values()}
    alive = {step: own for step, reference in keepers.items() if (own := reference()) is not None}
    return frozenset(step for step, own in alive.items() if id(own) in known and _knows(own, task))


def holders_of(coro: object) -> dict[int, Step]:
    """For each object that the frames of a coroutine have, by its id: the outermost that has it, or its holder.

    No reference is kept: what complains of itself afterwards was there all the time. A coroutine that runs just now (it
    starts a task) is asked for what its running frames have.
    """
    running = getattr(coro, "cr_running", False)
    frames = _running_frames() if running else [(gc.get_referents(part), frame) for part, frame in chain(coro)]
    found: dict[int, Step] = {}
    parts = {id(part) for part, _ in chain(coro)}
    for layer, frame in frames:
        code = frame.f_code
        if is_ours(code.co_filename):
            continue
        step = Step(code.co_filename, frame.f_lineno or 0, code.co_name)
        for _ in range(_HELD_DEPTH):
            fresh = {id(held): held for held in layer if not isinstance(held, _DEAD_ENDS)}
            held_here = [held for number, held in fresh.items() if number not in found and number not in parts]
            found.update((id(held), step) for held in held_here)
            if not held_here or len(held_here) > _MOST:
                break
            layer = gc.get_referents(*held_here)
    return found


def _running_frames() -> list[tuple[list[Any], FrameType]]:
    """The frames that run now, outermost first, each with what its variables hold."""
    found: list[tuple[list[Any], FrameType]] = []
    frame: FrameType | None = sys._getframe(1)
    while frame is not None:
        if not is_ours(frame.f_code.co_filename):
            found.append((list(frame.f_locals.values()), frame))
        elif found:
            break  # what drives the coroutine
        frame = frame.f_back
    return found[::-1]


def caller_of(made: Stack, ended: Stack, keepers: dict[Step, Any], had: frozenset[Step], task: Any) -> Stack:
    """The part of `made` that answers for a task.

    Args:
        made: where it was started.
        ended: where the function waits when the task ends, in a run without a cancel; empty where that is not known.
        keepers: the objects whose methods started it.
        had: those of them that the function which started it had, and could close, when all was called off.
        task: the task that is left.
    """
    together = 0
    for step, other in zip(made, ended, strict=False):
        if (step.file, step.function) != (other.file, other.function):
            break
        together += 1
    while ended and len(made) > max(together, 1):
        reference = keepers.get(made[-1])
        own = None if reference is None else reference()
        if made[-1] not in had and (own is None or not _knows(own, task)):
            break
        made = made[:-1]
    return made


def _knows(own: Any, task: Any) -> bool:
    """Whether the task is among what the object refers to, directly or through what it holds."""
    seen, layer = {id(own)}, [own]
    for _ in range(_DEPTH):
        following = []
        for part in gc.get_referents(*layer):
            if part is task:
                return True
            if id(part) not in seen and not isinstance(part, _DEAD_ENDS) and not asyncio.isfuture(part):
                seen.add(id(part))
                following.append(part)
        if not following or len(seen) > _MOST:
            return False
        layer = following
    return False
