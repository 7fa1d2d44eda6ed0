"""What the `except` clauses of a function do with a cancel, read from its bytecode.

The compiler lays out the clauses of one ``try`` one behind the other: each compares the exception with its types
(``CHECK_EXC_MATCH``), and jumps to the next where that is none of them. Which types they are is told where they are names
of the module. A clause leads on to the code behind it only by way of ``POP_EXCEPT``.
"""

from asyncio import CancelledError
from collections.abc import Iterator
from opcode import opmap
from types import CodeType, FrameType, ModuleType
from typing import Any, NamedTuple

from ..._child.bytecode import RAISES, after, catchers, handlers_around, name_of, target
from ..._words.errors import StopForced
from ..._words.frame import OURS
from .objects import fields

__all__ = ["hears", "is_in_clause", "known", "raises_at_end", "returns_nothing"]

_MOST = 10_000
_CHECK, _CHECK_GROUP = opmap["CHECK_EXC_MATCH"], opmap["CHECK_EG_MATCH"]
_EXTENDED, _POP, _POP_EXCEPT, _PUSH = (
    opmap[name] for name in ("EXTENDED_ARG", "POP_TOP", "POP_EXCEPT", "PUSH_EXC_INFO")
)
_RAISE = opmap["RAISE_VARARGS"]
_CHECKS = frozenset({_CHECK, _CHECK_GROUP})
_NAMES = frozenset(opmap[name] for name in ("LOAD_GLOBAL", "LOAD_NAME"))
_ATTRIBUTE = opmap["LOAD_ATTR"]
_METHODS = frozenset({_ATTRIBUTE, opmap.get("LOAD_METHOD", _ATTRIBUTE)})
_CANCEL = "CancelledError"
#: how a function of this Python returns nothing
_NOTHING = (lambda: None).__code__.co_code[-4:-2]
_CONST, _RETURN, _RETURN_CONST = opmap["LOAD_CONST"], opmap["RETURN_VALUE"], opmap.get("RETURN_CONST", -1)
_SILENT = frozenset(
    opmap[name] for name in ("BUILD_TUPLE", "CACHE", "EXTENDED_ARG", "NOP", "NOT_TAKEN") if name in opmap
)
_WHERE = ("FAST", "DEREF", "NAME")
#: what stores the exception in the variable of ``except ... as error``, and what loads that
_STORES, _LOADS = (
    frozenset(op for name, op in opmap.items() if name.startswith(tuple(f"{verb}_{where}" for where in _WHERE)))
    for verb in ("STORE", "LOAD")
)
#: where a ``with`` begins
_OPENINGS = frozenset(opmap[name] for name in ("BEFORE_WITH", "BEFORE_ASYNC_WITH", "LOAD_SPECIAL") if name in opmap)


class _Clause(NamedTuple):
    """An ``except`` with types.

    Attributes:
        begin: the offset of its first instruction.
        end: the offset behind its last one.
        kinds: the names of its types, with dots; ``None`` where they are no names, or it is an ``except*``.
        raises: whether it always raises again what it is for.
        names: whether it looks by itself whether that is a cancel.
    """

    begin: int
    end: int
    kinds: tuple[str, ...] | None
    raises: bool
    names: bool = False


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


def hears(frame: FrameType) -> bool | None:
    """Return whether a clause that `StopForced` passes by is around what a frame waits for.

    ``None`` where one swallows a cancel, or makes another error of it, or may do so.
    """
    clauses, found = known(frame.f_code).clauses, False
    for handler in catchers(frame.f_code, frame.f_lasti) if clauses else ():
        for clause in clauses.get(handler, ()):
            kinds = _kinds(clause, frame)
            if kinds is not None and _are_among(StopForced.__mro__, kinds):
                if clause.names:
                    return None
                break
            if kinds is None or _is_among(CancelledError, kinds):
                if not clause.raises:
                    return None
                if kinds is not None:
                    found = True
                    break
    return found


def is_in_clause(frame: FrameType, handler: int) -> bool:
    """Return whether a frame is in a clause of that handler which `StopForced` would have passed by."""
    for clause in known(frame.f_code).clauses.get(handler, ()):
        if clause.begin <= frame.f_lasti < clause.end:
            kinds = _kinds(clause, frame)
            return kinds is not None and _is_among(CancelledError, kinds) and not _are_among(StopForced.__mro__, kinds)
    return False


def raises_at_end(code: CodeType, handler: int) -> bool:
    """Return whether it is a ``finally`` or the end of a ``with``."""
    return code.co_code[after(code.co_code, handler)] != _POP and handler not in known(code).clauses


def returns_nothing(code: CodeType) -> bool:
    """Return whether a function never returns anything that is true, as far as the constants tell."""
    raw = code.co_code
    for at in range(0, len(raw), 2):
        if raw[at] == _RETURN:
            if raw[at - 2 : at] != _NOTHING and (raw[at - 2] != _CONST or code.co_consts[raw[at - 1]]):
                return False
        elif raw[at] == _RETURN_CONST and code.co_consts[raw[at + 1]]:
            return False
    return True


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


#: by the id of the code, whose hash takes long
_codes: dict[int, _Known] = {}


def known(code: CodeType) -> _Known:
    """Return what is to be known of a code; it is read once."""
    found = _codes.get(id(code))
    if found is None:
        if len(_codes) > _MOST:
            _codes.clear()
        ops = code.co_code[::2]
        found = _codes[id(code)] = _Known(
            code, dict(_clauses(code)), not _OPENINGS.isdisjoint(ops), code.co_filename.startswith(OURS)
        )
    return found


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
        while raw[begin] in _SILENT:  # from Python 3.14 on
            begin += 2
        raises, names = _raises_again(code, handler, begin, end), _CANCEL in _names_in(code, begin, end)
        yield _Clause(begin, end, None if kinds is None else tuple(kinds), raises, names)
        at = end


def _names_in(code: CodeType, begin: int, end: int) -> Iterator[str]:
    raw = code.co_code
    return (name_of(code, at) for at in range(begin, end, 2) if raw[at] in _NAMES or raw[at] == _ATTRIBUTE)


def _raises_again(code: CodeType, handler: int, begin: int, end: int) -> bool:
    """Return whether nothing leads out of a clause but a ``raise`` of what it is for, and errors of its clean-up."""
    raw, found = code.co_code, False
    for at in range(begin, end, 2):
        if raw[at] == _POP_EXCEPT and handler not in handlers_around(code, at):  # else it is of a clause inside of it
            return False
        if raw[at] == _RAISE:
            is_alone, is_inside = raw[at + 1] == 0, handlers_around(code, at)[:1] != (handler,)
            if not is_alone and not _is_of_the_same(code, begin, at):
                return False
            found = found or not (is_alone and is_inside)  # that is for an error of its clean-up
    return found


def _is_of_the_same(code: CodeType, begin: int, at: int) -> bool:
    """Return whether a ``raise`` is of the variable of its clause."""
    raw = code.co_code
    if raw[at + 1] != 1:
        return False
    for step in range(at - 2, begin, -2):  # perhaps with another traceback
        if raw[step] in _METHODS and name_of(code, step) == "with_traceback":
            at = step
            break
        if raw[step] in RAISES:
            break
    return raw[begin] in _STORES and raw[at - 2] in _LOADS and raw[begin + 1] == raw[at - 1]
