"""Force that is heard as a cancel, for code that puts things in order in an ``except CancelledError`` and raises again.

`StopForced` is no `CancelledError`: who swallows those does not swallow it. But it passes by, too, what a library does in
such a clause before it raises again: it gives its place in a pool back, has the server end the query, lets the next one
read. So where such a clause is around what a coroutine waits for, the exception that is raised there is both.

It must lead nowhere else than `StopForced` would, but for these clauses. So it is used only where nothing around swallows a
cancel, as far as the bytecode tells: that of the frames, of generators that they have entered by a ``with``, and of
greenlets. Where anything can't be told (code of Cython, the types of a clause that are no names), `StopForced` is raised.

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
from opcode import opmap
from types import CodeType, FrameType, ModuleType
from typing import Any, NamedTuple

from ..._child.bytecode import RAISES, after, block_of, handlers_around, is_exit, name_of, names_before, target
from ..._words.errors import StopForced
from ..._words.frame import OURS
from .greenlets import greenlets_in
from .locks import ForcedOut, waits_for_lock
from .objects import fields, opened_in
from .stack import LONGEST, chain_of, parts_of, stems_from

__all__ = ["REPAIR", "Standing", "is_heard_as_cancel", "standing"]

#: seconds that a clause which `StopForced` would have passed by has for what it awaits
REPAIR = 0.4
_MOST = 10_000
_CHECK, _CHECK_GROUP = opmap["CHECK_EXC_MATCH"], opmap["CHECK_EG_MATCH"]
_EXTENDED, _POP, _POP_EXCEPT, _PUSH = (
    opmap[name] for name in ("EXTENDED_ARG", "POP_TOP", "POP_EXCEPT", "PUSH_EXC_INFO")
)
_RAISE = opmap["RAISE_VARARGS"]
_CHECKS = frozenset({_CHECK, _CHECK_GROUP})
_NAMES = frozenset(opmap[name] for name in ("LOAD_GLOBAL", "LOAD_NAME"))
_ATTRIBUTE = opmap["LOAD_ATTR"]
_SILENT = frozenset(
    opmap[name] for name in ("BUILD_TUPLE", "CACHE", "EXTENDED_ARG", "NOP", "NOT_TAKEN") if name in opmap
)
#: what loads a local variable, such as that of ``except ... as error``
_LOCALS = frozenset(op for name, op in opmap.items() if name.startswith(("LOAD_FAST", "LOAD_DEREF", "LOAD_NAME")))
#: where a ``with`` begins
_OPENINGS = frozenset(opmap[name] for name in ("BEFORE_WITH", "BEFORE_ASYNC_WITH", "LOAD_SPECIAL") if name in opmap)
#: the steps of a chain that are no coroutines or generators, and pass on whatever is raised in them
_STEPS = frozenset(
    {"FutureIter", "anext_awaitable", "async_generator_asend", "async_generator_athrow", "coroutine_wrapper"}
)
_logger = logging.getLogger("calloff")


class Standing(Enum):
    """Where a suspended coroutine stands with an exception that was raised in it."""

    #: in a ``finally`` or something else that `StopForced` would have led to as well; or that can't be told
    DUE = "due"
    #: in an ``except`` that `StopForced` would have passed by
    REPAIRING = "repairing"
    #: nowhere: it has swallowed it
    SWALLOWED = "swallowed"


class _Clause(NamedTuple):
    """An ``except`` with types.

    Attributes:
        begin: the offset of its first instruction.
        end: the offset behind its last one.
        kinds: the names of its types, with dots; ``None`` where they are no names, or it is an ``except*``.
        raises: whether it always raises again what it is for.
    """

    begin: int
    end: int
    kinds: tuple[str, ...] | None
    raises: bool


class _Known(NamedTuple):
    """What is to be known of the code of a function.

    Attributes:
        code: the code, which is known by its id as long as it is kept.
        clauses: of each handler, which is known by the offset in the table of exceptions, those with types.
        opens: whether there is a ``with`` in it.
        ours: whether it is of calloff.
    """

    code: CodeType
    clauses: dict[int, list[_Clause]]
    opens: bool
    ours: bool


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
        errors = [part for part in reversed(held) if _is_error(type(part))]
        handlers = [handler for handler, handled in _handled(frame, errors) if handled is error]
        if handlers:
            found = Standing.DUE
            if _is_in_clause(frame, handlers[-1]):
                return Standing.REPAIRING
            if not is_exit(frame.f_code, handlers[-1]):
                break
        elif any(stems_from(held, error) for held in errors):
            found = Standing.DUE
        elif greenlets and found is Standing.SWALLOWED:
            for inner in _frames_of_greenlets(held):  # the innermost one that is in a handler, as far as can be told
                for handler in handlers_around(inner.f_code, inner.f_lasti):
                    return Standing.REPAIRING if _is_in_clause(inner, handler) else Standing.DUE
    return found


def _has_swallowed(step: object, error: ForcedOut) -> bool:
    """Return whether a coroutine of Cython has nothing to do with `error` any more; of other code that can't be told."""
    held = gc.get_referents(step)
    for scope in [part for part in held if type(part).__name__.startswith("__pyx_scope")]:  # what it keeps meanwhile
        held += gc.get_referents(scope)
    return _is_of_cython(step) and not any(_is_error(type(part)) and stems_from(part, error) for part in held)


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
        at += 2 if _raises_at_end(frame.f_code, handler) else 1


def _raises_at_end(code: CodeType, handler: int) -> bool:
    """Return whether it is a ``finally`` or the end of a ``with``."""
    return code.co_code[after(code.co_code, handler)] != _POP and handler not in _known(code).clauses


#: whether a type is one of exceptions; no code of the type's own is run
_is_error = BaseException.__subclasscheck__


def _is_in_clause(frame: FrameType, handler: int) -> bool:
    """Return whether a frame is in a clause of that handler which `StopForced` would have passed by."""
    for clause in _known(frame.f_code).clauses.get(handler, ()):
        if clause.begin <= frame.f_lasti < clause.end:
            kinds = _kinds(clause, frame)
            return kinds is not None and _is_among(CancelledError, kinds) and not _are_among(StopForced.__mro__, kinds)
    return False


def _is_ours(step: object) -> bool:
    parts = parts_of(step)
    return parts is not None and parts[0] is not None and _known(parts[0].f_code).ours


def _puts_in_order(chain: list[object]) -> bool:
    found = False
    for step in chain if len(chain) < LONGEST else ():
        for hears in _heard_by(step):
            if hears is None:
                return False
            found = found or hears
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
    yield _hears(frame)
    opens, greenlets = _known(frame.f_code).opens, "greenlet" in sys.modules
    held = gc.get_referents(step) if opens or greenlets else []
    for opened in opened_in(held) if opens else ():
        inner = parts_of(opened)
        if inner is not None and inner[0] is not None:
            yield _hears(inner[0])
        elif type(opened) is suppress and _is_among(CancelledError, fields(opened).get("_exceptions")):
            yield None
    if greenlets:
        yield from map(_hears, _frames_of_greenlets(held))


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


def _hears(frame: FrameType) -> bool | None:
    """Return whether a clause that `StopForced` passes by is around what a frame waits for.

    ``None`` where one swallows a cancel, or makes another error of it, or may do so.
    """
    known, found = _known(frame.f_code).clauses, False
    for handler in _around(frame.f_code, frame.f_lasti) if known else ():
        for clause in known.get(handler, ()):
            kinds = _kinds(clause, frame)
            if kinds is None or _is_among(CancelledError, kinds):
                if kinds is not None and _are_among(StopForced.__mro__, kinds):
                    break
                if not clause.raises:
                    return None
                if kinds is not None:
                    found = True
                    break
            elif _are_among(StopForced.__mro__, kinds):
                break
    return found


def _kinds(clause: _Clause, frame: FrameType) -> list[object] | None:
    """Return the types of a clause; ``None`` where they can't be told."""
    builtins = frame.f_builtins if issubclass(type(frame.f_builtins), dict) else {}
    found: list[object] = []
    for name in clause.kinds or ():
        first, *rest = name.split(".")
        value: Any = dict.get(frame.f_globals, first) or dict.get(builtins, first)
        for attribute in rest:
            value = fields(value).get(attribute) if type(value) is ModuleType else None
        if value is None:
            return None
        found += value if type(value) is tuple else (value,)
    return None if clause.kinds is None else found


def _is_among(kind: object, kinds: Any) -> bool:
    return any(kind is other for other in kinds or ())


def _are_among(some: tuple[type, ...], kinds: list[object]) -> bool:
    return any(_is_among(kind, kinds) for kind in some)


def _around(code: CodeType, at: int) -> Iterator[int]:
    """Yield the offsets of what handles an exception that is raised at an instruction, from the inside outwards."""
    seen = set[int]()
    block = block_of(code, at)
    while block is not None and block[2] not in seen:
        seen.add(block[2])
        yield block[2]
        block = block_of(code, block[2])


#: by the id of the code, whose hash takes long
_codes: dict[int, _Known] = {}


def _known(code: CodeType) -> _Known:
    known = _codes.get(id(code))
    if known is None:
        if len(_codes) > _MOST:
            _codes.clear()
        ops = code.co_code[::2]
        known = _codes[id(code)] = _Known(
            code, dict(_clauses(code)), not _OPENINGS.isdisjoint(ops), code.co_filename.startswith(OURS)
        )
    return known


def _clauses(code: CodeType) -> Iterator[tuple[int, list[_Clause]]]:
    raw = code.co_code
    if not _CHECKS.isdisjoint(raw[::2]):
        for handler in range(0, len(raw), 2):
            if raw[handler] == _PUSH and (clauses := list(_clauses_of(code, handler))):
                yield handler, clauses


def _clauses_of(code: CodeType, handler: int) -> Iterator[_Clause]:
    raw = code.co_code
    at = after(raw, handler)
    while True:
        kinds: list[str] | None = []
        while at < len(raw) and raw[at] not in _CHECKS:
            op = raw[at]
            if op == _PUSH or op in RAISES:  # it is none, or there is no further one
                return
            if op in _NAMES:
                kinds = None if kinds is None else [*kinds, name_of(code, at)]
            elif op == _ATTRIBUTE and kinds:
                kinds[-1] += f".{name_of(code, at)}"
            elif op not in _SILENT:
                kinds = None
            at = after(raw, at)
        if at >= len(raw):
            return
        if raw[at] == _CHECK_GROUP:
            yield _Clause(at, at, None, raises=False)
            return
        jump = after(raw, at)
        while raw[jump] == _EXTENDED:
            jump += 2
        begin, end = after(raw, jump), target(raw, jump)
        yield _Clause(begin, end, None if kinds is None else tuple(kinds), _raises_again(code, handler, begin, end))
        at = end


def _raises_again(code: CodeType, handler: int, begin: int, end: int) -> bool:
    """Return whether nothing leads out of a clause but an exception, and there is a ``raise`` alone, or of a variable."""
    raw, found = code.co_code, False
    for at in range(begin, end, 2):
        if raw[at] == _POP_EXCEPT and handler not in handlers_around(code, at):  # else it is of a clause inside of it
            return False
        found = found or (raw[at] == _RAISE and _is_of_the_same(code, at))
    return found


def _is_of_the_same(code: CodeType, at: int) -> bool:
    """Return whether a ``raise`` raises what is handled: it is alone, or of a variable, perhaps ``with_traceback``."""
    raw = code.co_code
    return raw[at + 1] == 0 or (
        raw[at + 1] == 1 and (raw[at - 2] in _LOCALS or "with_traceback" in names_before(code, at))
    )
