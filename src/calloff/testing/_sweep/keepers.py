"""Who keeps a task: the objects whose methods started it, and whether they still know it.

A task that an object starts for its whole life (a scheduler, a connection) outlives the call that started it, and is
ended by another, as by ``close``. When the function is called off in between, it is for the caller to close what it has.
An object that nobody has any more, or that does not know the task, keeps nothing: then the call is at fault.
"""

import asyncio
import gc
import sys
import weakref
from types import BuiltinFunctionType, FrameType, FunctionType, ModuleType
from typing import Any

from .points import Stack, Step, is_ours

__all__ = ["caller_of", "keepers_of"]

_DEPTH, _MOST = 6, 3000
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
        step = Step(code.co_filename, frame.f_lineno or 0, code.co_name)
        if step in wanted and code.co_argcount and code.co_varnames[0] == "self" and not is_ours(code.co_filename):
            own = frame.f_locals.get("self")
            if any(value is own for value in caller.f_locals.values()):
                try:
                    found[step] = weakref.ref(own)
                except TypeError:
                    pass
        frame = caller
    return found


def caller_of(made: Stack, ended: Stack, keepers: dict[Step, Any], task: Any) -> Stack:
    """The part of `made` that answers for a task.

    Args:
        made: where it was started.
        ended: where the function waits when the task ends, in a run without a cancel; empty where that is not known.
        keepers: the objects whose methods started it.
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
        if own is None or not _knows(own, task):
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
