"""Looks behind a bridge from async to sync code that is made of greenlets, as SQLAlchemy's is.

The coroutine that awaits on behalf of a greenlet passes every error on into it and forgets the error: by its own frame it
has swallowed a cancel while the code in the greenlet is busy with the ROLLBACK. That code is seen in the frames of the
suspended greenlet. The exception that they handle is out of reach there, so what counts is where each of them stands: the
table of exceptions of a code object tells which of its instructions belong to an ``except``, to a ``finally`` that an
exception has led to, or to the leaving of a ``with``.
"""

import sys
from collections.abc import Iterator
from opcode import opmap
from types import BuiltinFunctionType, CodeType, FrameType
from typing import Any

from .objects import fields

__all__ = ["frames_outside", "greenlets_in", "is_in_handler", "is_in_handlers"]

_LIMIT = 200
_COPY, _PUSH = opmap["COPY"], opmap["PUSH_EXC_INFO"]


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
        if is_in_handler(frame.f_code, frame.f_lasti):
            return True
        frame = frame.f_back
    return False


def is_in_handler(code: CodeType, at: int) -> bool:
    """Return whether the instruction at offset `at` is part of the handling of an exception.

    The compiler guards what handles an exception by an entry of the table that leads to ``COPY, POP_EXCEPT, RERAISE``; what
    is only inside a ``try`` or ``with`` is guarded by one that leads to ``PUSH_EXC_INFO``. Handlers of tries inside a
    handler are followed outwards.
    """
    table = list(_table(code.co_exceptiontable))
    instructions = code.co_code
    for _ in range(_LIMIT):
        target = _target(table, at)
        if target is None:
            return False
        if instructions[target] == _COPY:
            return True
        if instructions[target] != _PUSH:
            return False
        clean_up = _target(table, target)  # of the handler of this very try
        if clean_up is None:
            return False
        at = clean_up
    return False


def _target(table: list[tuple[int, int, int]], at: int) -> int | None:
    return next((target for start, end, target in table if start <= at < end), None)


def _table(packed: bytes) -> Iterator[tuple[int, int, int]]:
    """Unpack the table of exceptions: start, end and target, in bytes (see exception_handling_notes.txt of CPython)."""
    numbers = _numbers(packed)
    for start in numbers:
        length, target, _ = next(numbers), next(numbers), next(numbers)
        yield start * 2, (start + length) * 2, target * 2


def _numbers(packed: bytes) -> Iterator[int]:
    value = 0
    for byte in packed:
        value = value << 6 | byte & 63
        if not byte & 64:
            yield value
            value = 0
