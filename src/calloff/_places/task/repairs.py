"""Force that is heard as a cancel, for code that puts things in order in an ``except CancelledError`` and raises again.

`StopForced` is no `CancelledError`: who swallows those does not swallow it. But it passes by, too, what a library does in
such a clause before it raises again: it gives its place in a pool back, has the server end the query, lets the next one
read. So where such a clause is around what a coroutine waits for, the exception that is raised there is both.

It must lead nowhere else than `StopForced` would, but for these clauses. So it is used only where nothing around swallows a
cancel, as far as the bytecode tells: that of the frames, of generators that they have entered by a ``with``, and of
greenlets. Where anything can't be told (the types of a clause are no names, say), `StopForced` is raised. Code of Cython
shows nothing, and is trusted.

What a clause awaits may hang like anything else. It has a moment (`REPAIR`), then force comes once more. What `StopForced`
would have reached by itself, a ``finally`` inside of the clause, say, has its time.

All this is for the coroutine of an operation, whose steps its driver sees: what swallows the exception all the same gets
`StopForced` in the same step. A child task hears `StopForced` alone, but for what waits for a lock.
"""

import gc
import logging
import sys
from asyncio import CancelledError
from collections.abc import Iterator
from contextlib import suppress
from enum import Enum
from types import CodeType, FrameType
from typing import Any

from ..._child.bytecode import handlers_around, is_exit
from .clauses import hears, is_in_clause, known, raises_at_end, returns_nothing
from .greenlets import greenlets_in
from .locks import ForcedOut, waits_for_lock
from .objects import exits_in, fields, is_error
from .stack import LONGEST, chain_of, parts_of, stems_from

__all__ = ["REPAIR", "Standing", "is_heard_as_cancel", "standing"]

#: seconds that a clause which `StopForced` would have passed by has for what it awaits
REPAIR = 0.4
#: the steps of a chain that are no coroutines or generators, and pass on whatever is raised in them
_STEPS = frozenset(
    {"FutureIter", "anext_awaitable", "async_generator_asend", "async_generator_athrow", "coroutine_wrapper"}
)
_SUPPRESSES = suppress.__exit__.__code__
_logger = logging.getLogger("calloff")


class Standing(Enum):
    """Where a suspended coroutine stands with an exception that was raised in it."""

    #: in a ``finally`` or something else that `StopForced` would have led to as well; or that can't be told
    DUE = "due"
    #: in an ``except`` that `StopForced` would have passed by
    REPAIRING = "repairing"
    #: nowhere: it has swallowed it
    SWALLOWED = "swallowed"


def is_heard_as_cancel(chain: list[object]) -> bool:
    """Return whether a suspended coroutine, given with all that it awaits, is to be forced by what it hears as a cancel.

    It is where it waits for a lock; or where it puts something in order when it is cancelled, and swallows no cancel. What
    waits in code of calloff's own knows of force.
    """
    try:
        return waits_for_lock(chain) or (not any(map(_is_ours, chain)) and _puts_in_order(chain))
    except Exception:
        _logger.exception("what it does when it is cancelled could not be found out")
        return False


def standing(coro: object, error: ForcedOut) -> Standing:
    """Return where a suspended coroutine stands with `error`.

    The outermost handler that handles it has caught it. Only where that is leaving a ``with`` block, the generator of the
    block may have caught it instead.
    """
    try:
        return _standing(coro, error)
    except Exception:
        _logger.exception("whether it is in its clean-up could not be found out")
        return Standing.DUE


def _standing(coro: object, error: ForcedOut) -> Standing:
    chain = chain_of(coro)
    found = Standing.SWALLOWED if len(chain) < LONGEST else Standing.DUE
    greenlets = "greenlet" in sys.modules
    for step in chain:
        parts = parts_of(step)
        if parts is None or parts[0] is None:
            if parts is None and type(step).__name__ not in _STEPS and not _has_swallowed(step, error):
                found = Standing.DUE
            continue
        frame, held = parts[0], gc.get_referents(step)
        errors = [part for part in reversed(held) if is_error(type(part))]
        handlers = [handler for handler, handled in _handled(frame, errors) if handled is error]
        if handlers:
            found = Standing.DUE
            if is_in_clause(frame, handlers[-1]):
                return Standing.REPAIRING
            if not is_exit(frame.f_code, handlers[-1]):
                break
        elif any(stems_from(other, error) for other in errors):
            found = Standing.DUE
        elif greenlets and found is Standing.SWALLOWED:
            for inner in _frames_of_greenlets(held):  # the innermost one that is in a handler, as far as can be told
                for handler in handlers_around(inner.f_code, inner.f_lasti):
                    return Standing.REPAIRING if is_in_clause(inner, handler) else Standing.DUE
    return found


def _has_swallowed(step: object, error: ForcedOut) -> bool:
    """Return whether a coroutine of Cython has nothing to do with `error` any more; of other code that can't be told."""
    held = gc.get_referents(step)
    for scope in [part for part in held if type(part).__name__.startswith("__pyx_scope")]:  # what it keeps meanwhile
        held += gc.get_referents(scope)
    return _is_of_cython(step) and not any(is_error(type(part)) and stems_from(part, error) for part in held)


def _handled(frame: FrameType, errors: list[Any]) -> Iterator[tuple[int, Any]]:
    """Yield the handlers that a suspended frame is in, from the inside outwards, each with what it handles.

    They are among the exceptions that the frame refers to, given from the last to the first: what is handled now, which the
    stack has once more in a handler that raises it again at its end; then what was handled when that began, and so on.
    """
    at = 0
    for handler in handlers_around(frame.f_code, frame.f_lasti) if errors else ():
        if at >= len(errors):
            break
        yield handler, errors[at]
        at += 2 if raises_at_end(frame.f_code, handler) else 1


def _is_ours(step: object) -> bool:
    parts = parts_of(step)
    return parts is not None and parts[0] is not None and known(parts[0].f_code).ours


def _puts_in_order(chain: list[object]) -> bool:
    found = False
    for step in chain if len(chain) < LONGEST else ():
        for heard in _heard_by(step):
            if heard is None:
                return False
            found = found or heard
    return found


def _heard_by(step: object) -> Iterator[bool | None]:
    """Yield whether a clause that `StopForced` passes by is around what a step of a chain waits for.

    The answers are for its frame, generators that it has entered, and greenlets; ``None`` where a cancel is swallowed,
    or made another error, or may be. A coroutine of Cython is taken for one that puts something in order.
    """
    parts = parts_of(step)
    if parts is None and type(step).__name__ not in _STEPS:
        yield True if _is_of_cython(step) else None
    if parts is None or parts[0] is None:
        return
    frame = parts[0]
    yield hears(frame)
    opens, greenlets = known(frame.f_code).opens, "greenlet" in sys.modules
    held = gc.get_referents(step) if opens or greenlets else []
    for owner, function in exits_in(held) if opens else ():
        inner = parts_of(owner)
        if inner is None:
            yield None if _may_swallow(owner, function.__code__) else False
        elif inner[0] is not None:
            yield hears(inner[0])
    if greenlets:
        yield from map(hears, _frames_of_greenlets(held))


def _may_swallow(owner: object, code: CodeType) -> bool:
    """Return whether the end of a ``with`` block may swallow a cancel: it names it, and is not of calloff's own."""
    if code is _SUPPRESSES:
        kinds = fields(owner).get("_exceptions")
        return type(kinds) is not tuple or any(kind is CancelledError or type(kind) is tuple for kind in kinds)
    return "CancelledError" in code.co_names and not known(code).ours and not returns_nothing(code)


def _is_of_cython(step: object) -> bool:
    return "cr_await" in type(step).__dict__


def _frames_of_greenlets(held: list[Any]) -> Iterator[FrameType]:
    """Yield the frames of suspended greenlets, of each the innermost first."""
    for top in greenlets_in(held):
        frame: FrameType | None = top
        for _ in range(LONGEST):
            if frame is None:
                break
            yield frame
            frame = frame.f_back
