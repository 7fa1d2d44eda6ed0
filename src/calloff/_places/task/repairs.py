"""Force that is heard as a cancel, for code that puts things in order in an ``except CancelledError`` and raises again.

`StopForced` is no `CancelledError`: who swallows those does not swallow it. But it passes by, too, what a library does in
such a clause before it raises again: it gives its place in a pool back, has the server end the query, lets the next one
read. So where such a clause is around what a coroutine waits for, the exception that is raised there is both. Whether one
is there is read from the bytecode of the frames, of generators that they have entered by a ``with``, and of greenlets.

What the clause awaits may hang like anything else. It has a moment (`REPAIR`), then force comes once more. What
`StopForced` would have reached by itself, a ``finally`` inside of the clause, say, has its time.

All this is for the coroutine of an operation, whose steps its driver sees: what swallows the exception as a cancel gets
`StopForced` in the same step. A child task hears `StopForced` alone, but for what waits for a lock.
"""

import gc
import logging
import sys
from asyncio import CancelledError
from collections.abc import Iterator
from enum import Enum
from opcode import opmap
from types import CodeType, FrameType, ModuleType
from typing import Any, NamedTuple

from ..._child.bytecode import BRANCHES, LEAVES, RAISES, after, block_of, handlers_around, is_exit, name_of, target
from ..._words.errors import StopForced
from ..._words.frame import OURS
from .greenlets import greenlets_in
from .locks import ForcedOut, waits_for_lock
from .objects import fields, generators_in
from .stack import chain_of, parts_of, stems_from

__all__ = ["LOOKS", "REPAIR", "Standing", "is_heard_as_cancel", "standing"]

#: seconds that a clause which `StopForced` would have passed by has for what it awaits
REPAIR = 0.4
#: seconds to the first look at it, and to a later one
LOOKS = (0.02, 0.1)
_LIMIT = 200
_MOST = 10_000
_CHECK, _EXTENDED, _POP, _PUSH, _RAISE = (
    opmap[name] for name in ("CHECK_EXC_MATCH", "EXTENDED_ARG", "POP_TOP", "PUSH_EXC_INFO", "RAISE_VARARGS")
)
_NAMES = frozenset(opmap[name] for name in ("LOAD_GLOBAL", "LOAD_NAME"))
_ATTRIBUTE = opmap["LOAD_ATTR"]
_SILENT = frozenset(
    opmap[name] for name in ("BUILD_TUPLE", "CACHE", "EXTENDED_ARG", "NOP", "NOT_TAKEN") if name in opmap
)
#: what loads a local variable, such as that of ``except ... as error``
_LOCALS = frozenset(op for name, op in opmap.items() if name.startswith(("LOAD_FAST", "LOAD_DEREF", "LOAD_NAME")))
#: where a ``with`` begins
_OPENINGS = frozenset(opmap[name] for name in ("BEFORE_WITH", "BEFORE_ASYNC_WITH", "LOAD_SPECIAL") if name in opmap)
#: what no expression goes on over
_STATEMENTS = (
    frozenset(op for name, op in opmap.items() if name.startswith("STORE_"))
    | {opmap[name] for name in ("POP_EXCEPT", "POP_TOP", "PUSH_EXC_INFO", "SEND", "WITH_EXCEPT_START")}
    | BRANCHES
    | LEAVES
    | RAISES
)
_logger = logging.getLogger("calloff")


class Standing(Enum):
    """Where a suspended coroutine stands with an exception that was raised in it."""

    #: in a ``finally`` or something else that `StopForced` would have led to as well
    DUE = "due"
    #: in an ``except`` that `StopForced` would have passed by
    REPAIRING = "repairing"
    #: behind such an ``except``, which has kept it in a variable
    KEPT = "kept"
    #: nowhere: it has swallowed it
    SWALLOWED = "swallowed"


class _Clause(NamedTuple):
    """An ``except`` with types.

    Attributes:
        begin: the offset of its first instruction.
        end: the offset behind its last one.
        kinds: the names of its types, with dots; ``None`` where they are no names.
        raises: whether it raises again what it is for.
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
    """Return whether a suspended coroutine does something when it is cancelled that `StopForced` would pass by.

    It is given with all that it awaits. It does where it waits for a lock. What waits in code of calloff's own knows of
    force. What is of C (Cython's coroutines) can't be told, and may.
    """
    try:
        return waits_for_lock(chain) or (not any(map(_is_ours, chain)) and any(map(_repairs, _frames(chain))))
    except Exception:
        _logger.exception("what it does when it is cancelled could not be found out")
        return False


def standing(coro: object, error: BaseException | type[BaseException]) -> Standing:
    """Return where a suspended coroutine stands with `error`.

    The outermost frame that has it has caught it. Only where that is leaving a ``with`` block, the generator of the block
    may have caught it instead.
    """
    try:
        return _standing(coro, error)
    except Exception:
        _logger.exception("whether it is in its clean-up could not be found out")
        return Standing.DUE


def _standing(coro: object, error: BaseException | type[BaseException]) -> Standing:
    found, greenlets = Standing.SWALLOWED, "greenlet" in sys.modules
    for step in chain_of(coro):
        parts = parts_of(step)
        if parts is None or parts[0] is None:
            continue
        frame, held = parts[0], gc.get_referents(step)
        errors = [part for part in reversed(held) if _is_error(type(part))]
        mine = [part for part in errors if stems_from(part, error)]
        handlers = [handler for handler, handled in _handled(frame, errors) if any(handled is part for part in mine)]
        if any(_is_in_clause(frame, handler) for handler in handlers):
            return Standing.REPAIRING
        if handlers:
            found = Standing.DUE
            if not is_exit(frame.f_code, handlers[0]):
                break
        elif mine and found is Standing.SWALLOWED:
            return Standing.KEPT if _has_kept(frame, mine) else Standing.DUE
        elif greenlets and found is Standing.SWALLOWED:
            for inner in _frames_of_greenlets(held):  # the innermost one that is in a handler, as far as can be told
                for handler in handlers_around(inner.f_code, inner.f_lasti):
                    return Standing.REPAIRING if _is_in_clause(inner, handler) else Standing.DUE
    return found


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


def _has_kept(frame: FrameType, errors: list[Any]) -> bool:
    """Return whether a frame that handles none of these any more has them from a clause that `StopForced` passes by."""
    return any(type(error) is ForcedOut for error in errors) and any(
        _is_passed_by(clause, frame) for clauses in _known(frame.f_code).clauses.values() for clause in clauses
    )


#: whether a type is one of exceptions; no code of the type's own is run
_is_error = BaseException.__subclasscheck__


def _is_in_clause(frame: FrameType, handler: int) -> bool:
    clauses = _known(frame.f_code).clauses.get(handler, ())
    return any(clause.begin <= frame.f_lasti < clause.end and _is_passed_by(clause, frame) for clause in clauses)


def _is_ours(step: object) -> bool:
    parts = parts_of(step)
    return parts is not None and parts[0] is not None and _known(parts[0].f_code).ours


def _frames(chain: list[object]) -> Iterator[FrameType | None]:
    """Yield the frames of a coroutine, of generators that they have entered, and of greenlets; ``None`` for one of C."""
    greenlets = "greenlet" in sys.modules
    for step in chain:
        parts = parts_of(step)
        if parts is None:
            if "cr_await" in type(step).__dict__:
                yield None
            continue
        frame = parts[0]
        if frame is None:
            continue
        yield frame
        opens = _known(frame.f_code).opens
        if not opens and not greenlets:
            continue
        held = gc.get_referents(step)
        for generator in generators_in(held) if opens else ():
            inner = parts_of(generator)
            if inner is not None and inner[0] is not None:
                yield inner[0]
        if greenlets:
            yield from _frames_of_greenlets(held)


def _frames_of_greenlets(held: list[Any]) -> Iterator[FrameType]:
    """Yield the frames of suspended greenlets, of each the innermost first."""
    for top in greenlets_in(held):
        frame: FrameType | None = top
        for _ in range(_LIMIT):
            if frame is None:
                break
            yield frame
            frame = frame.f_back


def _repairs(frame: FrameType | None) -> bool:
    if frame is None:
        return True
    clauses = _known(frame.f_code).clauses
    return bool(clauses) and any(
        clause.raises and _is_passed_by(clause, frame)
        for handler in _around(frame.f_code, frame.f_lasti)
        for clause in clauses.get(handler, ())
    )


def _is_passed_by(clause: _Clause, frame: FrameType) -> bool:
    """Return whether a clause is for `CancelledError` and not for `StopForced`; as far as names tell, which may be it."""
    builtins = frame.f_builtins if issubclass(type(frame.f_builtins), dict) else {}
    if clause.kinds is None:
        return True
    found: list[Any] = []
    for name in clause.kinds:
        first, *rest = name.split(".")
        value: Any = dict.get(frame.f_globals, first) or dict.get(builtins, first)
        for attribute in rest:
            value = fields(value).get(attribute) if type(value) is ModuleType else None
        if value is None:
            return True
        found += value if type(value) is tuple else (value,)
    return any(kind is CancelledError for kind in found) and not any(
        kind is known for kind in found for known in StopForced.__mro__
    )


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
    if _CHECK in raw[::2]:
        for handler in range(0, len(raw), 2):
            if raw[handler] == _PUSH and (clauses := list(_clauses_at(code, after(raw, handler)))):
                yield handler, clauses


def _clauses_at(code: CodeType, at: int) -> Iterator[_Clause]:
    raw = code.co_code
    while True:
        kinds: list[str] | None = []
        while at < len(raw) and raw[at] != _CHECK:
            op = raw[at]
            if op in _STATEMENTS:
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
        jump = after(raw, at)
        while raw[jump] == _EXTENDED:
            jump += 2
        begin, end = after(raw, jump), target(raw, jump)
        yield _Clause(begin, end, None if kinds is None else tuple(kinds), _raises_again(raw, begin, end))
        at = end


def _raises_again(raw: bytes, begin: int, end: int) -> bool:
    """Return whether there is a ``raise`` alone, or that of a variable, as that of the clause is one."""
    for at in range(begin, end, 2):
        if raw[at] == _RAISE and (raw[at + 1] == 0 or (raw[at + 1] == 1 and raw[at - 2] in _LOCALS)):
            return True
    return False
