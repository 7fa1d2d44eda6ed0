"""What the bytecode of a function tells about one of its instructions: the block that it is in, and what comes next.

For `moments`, which decides by it where an exception may be raised. The names of instructions are those of all Pythons that
are supported.
"""

from bisect import bisect_right
from collections.abc import Iterator
from functools import lru_cache
from opcode import opmap, opname
from operator import itemgetter
from sys import version_info
from types import CodeType

__all__ = [
    "BRANCHES",
    "CALLS",
    "ENDS",
    "GIVES_BACK",
    "JUMP",
    "JUMPS_BACK",
    "JUMP_BACK",
    "LEAVES",
    "RAISES",
    "after",
    "block_of",
    "catchers",
    "enters",
    "gives_back",
    "handlers_around",
    "handles",
    "is_exit",
    "is_finally",
    "is_passed_through",
    "is_to_await_exit",
    "is_to_give_back",
    "name_of",
    "names_before",
    "target",
]

#: functions, of whatever module, that must come to their end
ENDS = frozenset({"__enter__", "__exit__", "__del__", "release", "notify", "notify_all", "task_done"})
#: of those, the ones that only give back: they must begin, too
GIVES_BACK = ENDS - {"__enter__"}

_AHEAD = 12
#: so many bytes a statement may have
_STATEMENT = 200


def _ops(*names: str) -> frozenset[int]:
    return frozenset(opmap[name] for name in names if name in opmap)


_CACHE = opmap["CACHE"]
_COPY, _NOP, _POP_EXCEPT, _POP_TOP = opmap["COPY"], opmap["NOP"], opmap["POP_EXCEPT"], opmap["POP_TOP"]
_EXTENDED = opmap["EXTENDED_ARG"]
_PRECALL = opmap.get("PRECALL", -1)
_PUSH = opmap["PUSH_EXC_INFO"]
CALLS = _ops("CALL", "CALL_KW", "CALL_FUNCTION_EX", "PRECALL")
JUMP_BACK = opmap["JUMP_BACKWARD"]
JUMPS_BACK = _ops("JUMP_BACKWARD", "JUMP_BACKWARD_NO_INTERRUPT")
JUMP = opmap["JUMP_FORWARD"]
BRANCHES = frozenset(op for name, op in opmap.items() if name.startswith("POP_JUMP_") or name == "FOR_ITER")
_BRANCHES_BACK = frozenset(op for op in BRANCHES if "BACKWARD" in opname[op])  # Python 3.11
LEAVES = _ops("RETURN_VALUE", "RETURN_CONST", "YIELD_VALUE")
RAISES = _ops("RAISE_VARARGS", "RERAISE")
_PASSED_THROUGH = _ops("PUSH_EXC_INFO", "RERAISE")
_CLAUSES = _ops("CHECK_EXC_MATCH", "CHECK_EG_MATCH")
_NO_PART = _ops("CACHE", "PUSH_EXC_INFO", "RERAISE", "RETURN_VALUE", "RETURN_CONST")
_GLOBAL = opmap["LOAD_GLOBAL"]
_CONSTANTS = _ops("LOAD_CONST", "LOAD_COMMON_CONSTANT")
_NAMES = _ops("LOAD_ATTR", "LOAD_METHOD")
_WITHS = _ops("BEFORE_WITH", "BEFORE_ASYNC_WITH")
_EXITS = _ops("WITH_EXCEPT_START")
#: makes what `async with` awaits of a value; of what an `__aexit__` has returned, by its argument
_AWAITS, _EXIT = opmap["GET_AWAITABLE"], 2
#: what puts a function and its arguments in place
_LOADS = _CONSTANTS | _NAMES | _ops("LOAD_GLOBAL", "LOAD_DEREF", "LOAD_NAME", "PUSH_EXC_INFO", "LOAD_SMALL_INT")
#: what no expression goes on over
_STATEMENTS = frozenset(op for name, op in opmap.items() if name.startswith("STORE_")) | _ops("POP_TOP", "RESUME")
#: what may stand between a call and the block that undoes it
_QUIET = (
    _ops(
        *("NOP", "POP_TOP", "CACHE", "EXTENDED_ARG", "COPY", "SWAP", "NOT_TAKEN", "TO_BOOL", "PUSH_NULL"),
        *("UNPACK_SEQUENCE", "UNARY_NOT", "JUMP_FORWARD"),
    )
    | frozenset(op for name, op in opmap.items() if name.startswith(("STORE_", "LOAD_FAST")))
    | BRANCHES
)

#: where a piece of code stands in its file: the lines, and the columns if the interpreter keeps them
_Position = tuple[int | None, int | None, int | None, int | None]
#: begin, end, handler
_Block = tuple[int, int, int]
_BEGIN = itemgetter(0)


@lru_cache(256)
def _blocks(code: CodeType) -> tuple[_Block, ...]:
    """The table of exceptions: the innermost block of each instruction, in bytes."""
    numbers = _numbers(code.co_exceptiontable)
    found: list[_Block] = []
    for begin in numbers:
        length, handler = next(numbers), next(numbers)
        next(numbers)  # the depth of the stack
        found.append((2 * begin, 2 * (begin + length), 2 * handler))
    return tuple(found)


def _numbers(table: bytes) -> Iterator[int]:
    """Six bits a byte, the highest first; bit 6 says that more follow."""
    number = 0
    for byte in table:
        number = number << 6 | byte & 63
        if not byte & 64:
            yield number
            number = 0


def block_of(code: CodeType, at: int) -> _Block | None:
    """Return the innermost block that the instruction is in: its begin, its end, and what handles its errors."""
    return _block_at(_blocks(code), at)


def _block_at(blocks: tuple[_Block, ...], at: int) -> _Block | None:
    index = bisect_right(blocks, at, key=_BEGIN) - 1  # they are sorted, and none overlaps another
    return blocks[index] if index >= 0 and at < blocks[index][1] else None


def catchers(code: CodeType, at: int) -> list[int]:
    """Where what handles an exception begins that is raised at the instruction, from the inside outwards."""
    found: list[int] = []
    block = block_of(code, at)
    while block is not None and block[2] not in found:
        found.append(block[2])
        block = block_of(code, block[2])
    return found


@lru_cache(1024)
def enters(code: CodeType, at: int, before: bool = False) -> bool:
    """Whether a block begins right behind the instruction, before anything else looks for exceptions.

    With `before`, for who looks at each instruction, whether it does on any way from there: also where a block goes on, in
    the middle of which the instruction stands. It is not part of that, as it raises nothing: so are jumps on some Pythons.
    """
    raw = code.co_code
    if raw[at] in _WITHS:  # it looks for none itself, and whoever stands there is inside the call
        return False
    if raw[at] in RAISES:  # what comes behind it in the code does not come next
        return False
    around = set(catchers(code, at))
    ahead = [target(raw, at) if raw[at] in JUMPS_BACK else after(raw, at)]
    if before and (raw[at] in BRANCHES or raw[at] == JUMP):
        ahead.append(target(raw, at))
    for now in _ways(raw, ahead, _QUIET | JUMPS_BACK if before else _QUIET, _AHEAD):
        there = block_of(code, now)
        if there is not None and there[2] not in around:
            return True
    return False


def _ways(raw: bytes, ahead: list[int], over: frozenset[int], most: int) -> Iterator[int]:
    """The instructions that may come from those of `ahead` on, at most so many; only past what is in `over`."""
    for _ in range(most):
        if not ahead:
            break
        now = ahead.pop()
        if now >= len(raw):
            continue
        yield now
        op = raw[now]
        if op not in over:
            continue
        jumps = op == JUMP or op in JUMPS_BACK
        if jumps or op in BRANCHES:
            ahead.append(target(raw, now))
        if not jumps:
            ahead.append(after(raw, now))


@lru_cache(1024)
def is_to_give_back(code: CodeType, at: int) -> bool:
    """Whether the next call from there on gives something back, and no block is left on the way that would do it, too."""
    raw = code.co_code
    here = block_of(code, at)
    for now in _ways(raw, [at], _QUIET | _LOADS, 2 * _AHEAD):
        op = raw[now]
        if (op in _EXITS or (op in CALLS and gives_back(code, now))) and block_of(code, now) == here:
            return True
    return False


@lru_cache(1024)
def is_to_await_exit(code: CodeType, at: int) -> bool:
    """Whether an `__aexit__` was called there, or is so just now, and what it has returned has not begun."""
    raw = code.co_code
    following = after(raw, at)
    # CALL, GET_AWAITABLE, one or two that load, and SEND: each one word behind the other from the second on
    steps = (following, at, at - 2, at - 4, at - 6)
    return any(0 <= step < len(raw) and raw[step] == _AWAITS and raw[step + 1] == _EXIT for step in steps)


def is_passed_through(code: CodeType, at: int) -> bool:
    """Whether an exception is on its way there: nothing handles it yet, or any more."""
    return code.co_code[at] in _PASSED_THROUGH


def after(raw: bytes, at: int) -> int:
    """The next instruction."""
    op, at = raw[at], at + 2
    while at < len(raw) and raw[at] == _CACHE:
        at += 2
    if op == _PRECALL:  # and CALL are one
        return after(raw, at)
    return at


def _argument(raw: bytes, at: int) -> int:
    number, shift = raw[at + 1], 8
    while at >= 2 and raw[at - 2] == _EXTENDED:
        at -= 2
        number |= raw[at + 1] << shift
        shift += 8
    return number


def target(raw: bytes, at: int) -> int:
    """Where a jump leads to."""
    back = raw[at] in JUMPS_BACK or raw[at] in _BRANCHES_BACK
    distance = 2 * _argument(raw, at)
    return max(after(raw, at) + (-distance if back else distance), 0)


def gives_back(code: CodeType, at: int) -> bool:
    """Whether the call is one that must begin: the end of a ``with``, or of something that gives back by its name."""
    raw = code.co_code
    if at >= 4 and raw[at - 4] == _PRECALL:  # and CALL are one
        at -= 4
    before = raw[at - 6 : at]
    if len(before) == 6 and before[0] in _CONSTANTS and before[:2] * 3 == before:
        return True
    step = at - 2
    for _ in range(_AHEAD):  # past the arguments and the caches
        if step < 0 or raw[step] in CALLS:
            return False
        if raw[step] in _NAMES:
            return name_of(code, step) in GIVES_BACK
        step -= 2
    return False


@lru_cache(1024)
def names_before(code: CodeType, at: int) -> frozenset[str]:
    """The names, global ones and attributes, of which one may be that of what the call calls: all in its statement."""
    raw = code.co_code
    found: list[str] = []
    for step in range(at - 2, max(at - _STATEMENT, 0), -2):
        op = raw[step]
        if op in _STATEMENTS:
            break
        if op in _NAMES or op == _GLOBAL:
            found.append(name_of(code, step))
    return frozenset(found)


def name_of(code: CodeType, at: int) -> str:
    """The name of the attribute or global that the instruction loads."""
    raw = code.co_code
    number = _argument(raw, at)
    if raw[at] == _GLOBAL or (version_info >= (3, 12) and raw[at] in _NAMES):
        number >>= 1
    return code.co_names[number] if number < len(code.co_names) else ""


def handles(code: CodeType, at: int) -> bool:
    """Whether the instruction belongs to an ``except``, ``finally`` or end of a ``with`` that an exception has led to."""
    # the last one of it; or what only stands for a line, like that of a ``try`` in it; or any between
    return code.co_code[at] in (_POP_EXCEPT, _NOP) or bool(handlers_around(code, at))


@lru_cache(1024)
def handlers_around(code: CodeType, at: int) -> tuple[int, ...]:
    """Where each ``except``, ``finally`` or end of a ``with`` begins that the instruction is part of, innermost first."""
    return _around(code.co_code, _blocks(code), _begins(code), at)


def _around(raw: bytes, blocks: tuple[_Block, ...], begins: dict[int, int], at: int) -> tuple[int, ...]:
    found: list[int] = []
    seen = set[int]()
    while at not in seen:
        seen.add(at)
        block = _block_at(blocks, at)
        if block is None:
            break
        at = end = block[2]
        if end in begins:
            found.append(begins[end])
        elif raw[end] == _PUSH:  # the handler of a block around it, which is no part of that: go on outside of both
            outside = _block_at(blocks, end)
            at = outside[2] if outside is not None and _ends_handler(raw, outside[2]) else end
    return tuple(found)


@lru_cache(64)
def _begins(code: CodeType) -> dict[int, int]:
    """Where each handler begins, by where it ends when it raises."""
    raw, blocks = code.co_code, _blocks(code)
    found: dict[int, int] = {}
    for begin in range(0, len(raw), 2):
        if raw[begin] == _PUSH:
            block = _block_at(blocks, begin)
            if block is not None and _ends_handler(raw, block[2]):
                found.setdefault(block[2], begin)
    return found


@lru_cache(1024)
def is_finally(code: CodeType, at: int) -> bool:
    """Whether an exception there would pass by a ``finally``, or a part of one: it has begun, or comes next."""
    found = _finals(code)
    if at in found:
        return True
    around = catchers(code, at)
    ways = _ways(code.co_code, [at], _QUIET, _AHEAD)
    return any(now in found and not found[now].issubset(around) for now in ways)


@lru_cache(64)
def _finals(code: CodeType) -> dict[int, set[int]]:
    """The instructions of each ``finally``, and where what handles exceptions by it begins.

    There is a copy of it for each way out of its ``try`` that is no exception. Nothing in the bytecode says what is one;
    but they are all of the same place in the file.
    """
    raw, blocks, begins = code.co_code, _blocks(code), _begins(code)
    parts: dict[int, list[int]] = {}
    excepts: set[int] = set()
    for first, end, _ in blocks:
        around = _around(raw, blocks, begins, first)
        inside = [at for at in range(first, end, 2) if raw[at] not in _NO_PART] if around else []
        if around:
            begin = around[0]
            clause = any(raw[at] in _CLAUSES for at in inside)
            if clause or raw[begin + 2] == _POP_TOP or raw[after(raw, begin)] in _EXITS:
                excepts.add(begin)
        for begin in around:
            parts.setdefault(begin, []).extend(inside)
    if not parts.keys() - excepts:
        return {}
    positions: list[_Position] = list(code.co_positions())
    places: dict[_Position, set[int]] = {}
    for begin in parts.keys() - excepts:
        for at in parts[begin]:
            if positions[at // 2][0] is not None:
                places.setdefault(positions[at // 2], set()).add(begin)
    found = {at: places.get(positions[at // 2]) for at in range(0, len(raw), 2) if raw[at] not in _NO_PART}
    return {at: begins for at, begins in found.items() if begins is not None}


def is_exit(code: CodeType, handler: int) -> bool:
    """Whether a handler is the end of a ``with``."""
    return code.co_code[after(code.co_code, handler)] in _EXITS


def _ends_handler(raw: bytes, at: int) -> bool:
    """Whether what stands there only leaves a handler that has raised."""
    return raw[at] == _COPY and raw[at + 2] == _POP_EXCEPT
