"""Looks behind a bridge from async to sync code that is made of greenlets, as SQLAlchemy's is.

The coroutine that awaits on behalf of a greenlet passes every error on into it and forgets the error: by its own frame it
has swallowed a cancel while the code in the greenlet is busy with the ROLLBACK. That code is seen in the frames of the
suspended greenlet. The exception that they handle is out of reach there, so what counts is where each of them stands: the
table of exceptions of a code object tells which of its instructions belong to an ``except``, to a ``finally`` that an
exception has led to, or to the leaving of a ``with``.
"""

import sys
from collections.abc import Iterator
from types import BuiltinFunctionType, FrameType
from typing import Any

from ..._child.bytecode import handles
from .objects import fields

__all__ = ["frames_outside", "greenlets_in", "is_in_handlers"]

_LIMIT = 200


def greenlets_in(parts: list[Any]) -> list[FrameType]:
    """Return the innermost frame of each suspended greenlet among what a coroutine refers to; imports nothing."""
    module = sys.modules.get("greenlet")
    kind: Any = None if module is None else fields(module).get("greenlet")
    if type(kind) is not type:
        return []
    frame_of: Any = kind.__dict__["gr_frame"].__get__
    found = [frame_of(part) for part in parts if issubclass(type(part), kind)]
    return [frame for frame in found if frame is not None]


def frames_outside() -> Iterator[FrameType]:
    """Yield the innermost frame of each greenlet around the one that runs, from the inside outwards."""
    module = sys.modules.get("greenlet")
    current: Any = None if module is None else fields(module).get("getcurrent")
    if type(current) is not BuiltinFunctionType:
        return
    step: Any = current()
    for _ in range(_LIMIT):
        step = step.parent
        if step is None:
            return
        if step.gr_frame is not None:
            yield step.gr_frame


def is_in_handlers(frame: FrameType | None) -> bool:
    """Return whether `frame` or one that called it handles an exception."""
    for _ in range(_LIMIT):
        if frame is None:
            return False
        if handles(frame.f_code, frame.f_lasti):
            return True
        frame = frame.f_back
    return False
