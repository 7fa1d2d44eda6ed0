"""The moments at which an exception from outside may be raised in running Python code, by one table for all places.

An exception that arrives anywhere does harm in two ways. It may come between a step and the block that undoes it::

    lock.acquire()
    # here
    try:

In Python 3.14 that gap is in every ``with``, too (cpython#148874), and before 3.13 at the jump back to the beginning of
a loop that fills a ``try``. And it may come in the code that locks are made of: the mutex of a `queue.Queue` stays
locked when `threading.Condition.__exit__` is left before it has released anything.

So before anything is raised, the frame on top is looked at. `is_fit` tells whether an exception may be raised where the
frame stands. Signal handlers need no more: what they raise arrives right there. An exception sent to another thread does so
up to Python 3.12; from 3.13 on the interpreter looks for it once more only at the next instruction that looks at all, and
`stays_fit` walks ahead to each that it may be. An instruction that looks is a jump back, the beginning of a function, or a
call of C that returns.

Whoever waits in C (for a lock, say) stands at the same instruction whenever one looks. A signal handler that finds it so
`PATIENCE` times is inside that call, before the lock is taken, and `may_break_off` tells whether it may raise.
"""

from collections.abc import Callable, Iterator
from functools import lru_cache, partial
from opcode import opmap, opname
from sys import version_info
from types import CodeType, FrameType
from typing import Any

from .._os import inherit

_usage: Callable[[], Any] | None = None
try:
    _usage = partial(inherit.resource().getrusage, inherit.resource().RUSAGE_THREAD)
except (ImportError, AttributeError):  # not Linux
    pass

__all__ = ["PATIENCE", "Still", "handles", "is_fit", "is_guarded", "is_importing", "may_break_off", "stays_fit"]

#: how many looks in a row that find a frame at the same instruction show that it waits there
PATIENCE = 20

#: the modules whose functions take and give back what others rely on, and those that begin so
_FRAGILE = frozenset({"_weakrefset", "asyncio", "contextlib", "logging", "queue", "threading", "weakref"})
_FRAGILE_PACKAGES = ("asyncio.", "concurrent.futures", "importlib", "logging.", "multiprocessing.")
#: ours, which count and time what others wait for; what only calls the function in a worker is prepared for everything
_OURS, _PREPARED = "calloff.", "calloff._child."
_IMPORTERS = ("<frozen importlib._bootstrap>", "<frozen importlib._bootstrap_external>")
#: functions of those in which one waits, and which put everything in order when that is broken off
_WAITS = frozenset({"wait", "join", "_wait_for_tstate_lock"})
#: functions of those in which one waits for a lock that is not taken while one waits
_TAKES = frozenset({"__enter__", "acquire"})
#: functions of those that have done nothing yet when they begin, and whose call may as well not have been made
_ENTRIES = frozenset({"acquire", "get", "get_nowait", "join", "put", "put_nowait", "submit", "wait", "wait_for"})
#: of those, the modules whose functions wait for other threads; the rest waits for processes and files, or calls what does
_BETWEEN_THREADS = frozenset({"_weakrefset", "asyncio", "queue", "threading"})
#: functions, of whatever module, that must come to their end
_ENDS = frozenset({"__enter__", "__exit__", "__del__", "release", "notify", "notify_all", "task_done"})
#: of those, the ones that only give back: they must begin, too
_GIVES_BACK = _ENDS - {"__enter__"}

_AHEAD = 12
_FURTHEST = 500
_LATE = version_info >= (3, 13)


class Still:
    """Counts the looks in a row that found a frame at the same instruction.

    Args:
        enough: how many show that it waits there.
        own: whether the frames are of the thread that looks. Then only those count before which the system put it to
            sleep: a busy loop may well be found at the same instruction many times.
    """

    __slots__ = ("_at", "_count", "_enough", "_own", "_slept")

    def __init__(self, enough: int = PATIENCE, *, own: bool = False) -> None:
        self._own = own
        self._slept: int | None = None
        self._at: tuple[int, CodeType, int] | None = None
        self._count = 0
        self._enough = enough

    def look(self, frame: FrameType) -> bool:
        """Note one more; whether it waits there."""
        at = id(frame), frame.f_code, frame.f_lasti
        slept, before = _sleeps(), self._slept
        rested = self._own and before is not None and slept is not None and slept <= before
        self._slept = slept
        self._count = 1 if at != self._at or rested else self._count + 1
        self._at = at
        return self._count >= self._enough


def is_fit(frame: FrameType, *, waits: bool = False, hasty: bool = False, before: bool = False) -> bool:
    """Whether an exception may be raised where `frame`, the one on top, stands now.

    Args:
        waits: whether it stands at a call of C that does not return; then its functions that wait may be left, too.
        hasty: whether everything may be left but what locks are made of.
        before: whether it stands before its instruction, as for who looks at each, not at one that looks for exceptions.
            Then it may have left a block, and not have begun yet the call that gives back what the block has used.
    """
    code = frame.f_code
    if hasty:
        return not _is_fragile(frame)
    if _is_fragile(frame):
        if not (waits and (code.co_name in _WAITS or _is_ours(frame))) and not (
            code.co_name in _ENTRIES and _begins(frame)
        ):
            return False
    elif code.co_name in _ENDS:
        return False
    return not _enters(code, frame.f_lasti) and not (before and _is_to_give_back(code, frame.f_lasti))


def is_guarded(frame: FrameType) -> bool:
    """Whether the function itself does something when an exception is raised where it stands."""
    return _block(frame.f_code, frame.f_lasti) is not None


def may_break_off(frame: FrameType) -> bool:
    """Whether a signal handler may raise inside the call of C in which `frame`, the one on top, waits."""
    name = frame.f_code.co_name
    if _is_fragile(frame) and name not in _WAITS and name not in _TAKES:
        return _waits_outside(frame) and name not in _GIVES_BACK
    return name not in _GIVES_BACK


@lru_cache(1024)
def handles(code: CodeType, at: int) -> bool:
    """Whether the instruction belongs to an ``except``, ``finally`` or end of a ``with`` that an exception has led to."""
    raw = code.co_code
    if raw[at] in (
        _POP_EXCEPT,
        _NOP,
    ):  # the last one of it; or what only stands for a line, like that of a ``try`` in it
        return True
    seen = set[int]()
    while at not in seen:
        seen.add(at)
        block = _block(code, at)
        if block is None:
            return False
        if _ends_handler(raw, block[2]):
            return True
        end = _block(code, block[2])  # of the handler, which is no part of what it handles: go on outside of both
        at = end[2] if end is not None and _ends_handler(raw, end[2]) else block[2]
    return False


def _ends_handler(raw: bytes, at: int) -> bool:
    """Whether what stands there only leaves a handler that has raised."""
    return raw[at] == _COPY and raw[at + 2] == _POP_EXCEPT


def stays_fit(frame: FrameType, prepared: Callable[[FrameType], bool]) -> bool:
    """Whether an exception sent now to the thread of `frame` arrives where it may be raised.

    Args:
        prepared: tells which frame below is one of ours that calls the function, and bears whatever comes after its end.
    """
    return not _LATE or _walk(frame, _next(frame), _FURTHEST, prepared)


def _sleeps() -> int | None:
    """How often this thread gave up the processor to wait for something, where the system tells."""
    return None if _usage is None else int(_usage().ru_nvcsw)


def is_importing(frame: FrameType | None) -> bool:
    """Whether a module is being imported at `frame`, or below."""
    while frame is not None:
        if frame.f_code.co_filename == _IMPORTERS[0]:
            return True
        frame = frame.f_back
    return False


def _is_fragile(frame: FrameType) -> bool:
    name = frame.f_globals.get("__name__")
    if frame.f_code.co_filename in _IMPORTERS:
        return True
    return type(name) is str and (name in _FRAGILE or name.startswith(_FRAGILE_PACKAGES) or _is_ours(frame))


def _is_ours(frame: FrameType) -> bool:
    name = frame.f_globals.get("__name__")
    return type(name) is str and name.startswith(_OURS) and not name.startswith(_PREPARED)


def _waits_outside(frame: FrameType) -> bool:
    name = frame.f_globals.get("__name__")
    return type(name) is str and name not in _BETWEEN_THREADS and not name.startswith("asyncio.")


def _begins(frame: FrameType) -> bool:
    return opname[frame.f_code.co_code[frame.f_lasti]] == "RESUME"


# --- the bytecode


def _ops(*names: str) -> frozenset[int]:
    return frozenset(opmap[name] for name in names if name in opmap)


_CACHE = opmap["CACHE"]
_COPY, _NOP, _POP_EXCEPT = opmap["COPY"], opmap["NOP"], opmap["POP_EXCEPT"]
_EXTENDED = opmap["EXTENDED_ARG"]
_PRECALL = opmap.get("PRECALL", -1)
_CALLS = _ops("CALL", "CALL_KW", "CALL_FUNCTION_EX", "PRECALL")
_JUMP_BACK = opmap["JUMP_BACKWARD"]
_JUMPS_BACK = _ops("JUMP_BACKWARD", "JUMP_BACKWARD_NO_INTERRUPT")
_JUMP = opmap["JUMP_FORWARD"]
_BRANCHES = frozenset(op for name, op in opmap.items() if name.startswith("POP_JUMP_") or name == "FOR_ITER")
_BRANCHES_BACK = frozenset(op for op in _BRANCHES if "BACKWARD" in opname[op])  # Python 3.11
_LEAVES = _ops("RETURN_VALUE", "RETURN_CONST", "YIELD_VALUE")
_RAISES = _ops("RAISE_VARARGS", "RERAISE")
_CONSTANTS = _ops("LOAD_CONST", "LOAD_COMMON_CONSTANT")
_NAMES = _ops("LOAD_ATTR", "LOAD_METHOD")
_WITHS = _ops("BEFORE_WITH", "BEFORE_ASYNC_WITH")
_EXITS = _ops("WITH_EXCEPT_START")
#: what puts a function and its arguments in place
_LOADS = _CONSTANTS | _NAMES | _ops("LOAD_GLOBAL", "LOAD_DEREF", "LOAD_NAME", "PUSH_EXC_INFO", "LOAD_SMALL_INT")
#: what may stand between a call and the block that undoes it
_QUIET = (
    _ops(
        *("NOP", "POP_TOP", "CACHE", "EXTENDED_ARG", "COPY", "SWAP", "NOT_TAKEN", "TO_BOOL", "PUSH_NULL"),
        *("UNPACK_SEQUENCE", "UNARY_NOT", "JUMP_FORWARD"),
    )
    | frozenset(op for name, op in opmap.items() if name.startswith(("STORE_", "LOAD_FAST")))
    | _BRANCHES
)

#: begin, end, handler
_Block = tuple[int, int, int]


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


def _block(code: CodeType, at: int) -> _Block | None:
    return next((block for block in _blocks(code) if block[0] <= at < block[1]), None)


@lru_cache(1024)
def _enters(code: CodeType, at: int) -> bool:
    """Whether a block begins right behind the instruction, before anything else looks for exceptions."""
    raw = code.co_code
    if raw[at] in _WITHS:  # it looks for none itself, and whoever stands there is inside the call
        return False
    here = _block(code, at)
    around = set[int]()
    outer = here
    while outer is not None and outer[2] not in around:
        around.add(outer[2])
        outer = _block(code, outer[2])
    ahead = [_target(raw, at) if raw[at] in _JUMPS_BACK else _after(raw, at)]
    for _ in range(_AHEAD):
        if not ahead:
            break
        now = ahead.pop()
        if now >= len(raw):
            continue
        there = _block(code, now)
        if there is not None and there[2] not in around:
            return True
        op = raw[now]
        if op not in _QUIET:
            continue
        if op in _BRANCHES or op == _JUMP:
            ahead.append(_target(raw, now))
        if op != _JUMP:
            ahead.append(_after(raw, now))
    return False


@lru_cache(1024)
def _is_to_give_back(code: CodeType, at: int) -> bool:
    """Whether the next call from there on gives something back, and no block is left on the way that would do it, too."""
    raw = code.co_code
    here = _block(code, at)
    ahead = [at]
    for _ in range(2 * _AHEAD):
        if not ahead:
            break
        now = ahead.pop()
        if now >= len(raw):
            continue
        op = raw[now]
        if op in _EXITS or (op in _CALLS and _gives_back(code, now)):
            if _block(code, now) == here:
                return True
        elif op in _QUIET or op in _LOADS:
            if op in _BRANCHES or op == _JUMP:
                ahead.append(_target(raw, now))
            if op != _JUMP:
                ahead.append(_after(raw, now))
    return False


def _after(raw: bytes, at: int) -> int:
    """The next instruction."""
    op, at = raw[at], at + 2
    while at < len(raw) and raw[at] == _CACHE:
        at += 2
    if op == _PRECALL:  # and CALL are one
        return _after(raw, at)
    return at


def _argument(raw: bytes, at: int) -> int:
    number, shift = raw[at + 1], 8
    while at >= 2 and raw[at - 2] == _EXTENDED:
        at -= 2
        number |= raw[at + 1] << shift
        shift += 8
    return number


def _target(raw: bytes, at: int) -> int:
    """Where a jump leads to."""
    back = raw[at] in _JUMPS_BACK or raw[at] in _BRANCHES_BACK
    distance = 2 * _argument(raw, at)
    return max(_after(raw, at) + (-distance if back else distance), 0)


def _gives_back(code: CodeType, at: int) -> bool:
    """Whether the call is one that must begin: the end of a ``with``, or of something that gives back by its name."""
    raw = code.co_code
    if at >= 4 and raw[at - 4] == _PRECALL:  # and CALL are one
        at -= 4
    before = raw[at - 6 : at]
    if len(before) == 6 and before[0] in _CONSTANTS and before[:2] * 3 == before:
        return True
    step = at - 2
    for _ in range(_AHEAD):  # past the arguments and the caches
        if step < 0 or raw[step] in _CALLS:
            return False
        if raw[step] in _NAMES:
            number = _argument(raw, step)
            number = number >> 1 if version_info >= (3, 12) else number
            return number < len(code.co_names) and code.co_names[number] in _GIVES_BACK
        step -= 2
    return False


def _walk(frame: FrameType, ahead: list[int], left: int, prepared: Callable[[FrameType], bool]) -> bool:
    """Whether every instruction that is the next to look for exceptions, from those of `ahead` on, may raise one."""
    code = frame.f_code
    raw = code.co_code
    seen: set[int] = set()
    while ahead:
        at = ahead.pop()
        left -= 1
        if at in seen:
            continue
        if left < 0 or at >= len(raw):
            return False
        seen.add(at)
        op = raw[at]
        if op in _CALLS:
            if _enters(code, at) or _gives_back(code, at):
                return False
        elif op == _JUMP_BACK:
            if _enters(code, at):
                return False
        elif op in _RAISES and (block := _block(code, at)):
            ahead.append(block[2])
        elif op in _RAISES or op in _LEAVES:
            if not _leaves(frame, left, prepared, raises=op in _RAISES):
                return False
        else:
            if op in _BRANCHES or op == _JUMP or op in _JUMPS_BACK:
                ahead.append(_target(raw, at))
            if op != _JUMP and op not in _JUMPS_BACK:
                ahead.append(_after(raw, at))
    return True


def _leaves(frame: FrameType, left: int, prepared: Callable[[FrameType], bool], *, raises: bool) -> bool:
    """`_walk`, in the function that called this one, or handles what this one raises."""
    caller = frame.f_back
    if caller is None or prepared(caller):
        return True
    if _is_fragile(caller):
        return False
    if not raises:
        return is_fit(caller) and _walk(caller, _next(caller), left, prepared)
    block = _block(caller.f_code, caller.f_lasti)
    return _walk(caller, [block[2]], left, prepared) if block else _leaves(caller, left, prepared, raises=True)


def _next(frame: FrameType) -> list[int]:
    raw, at = frame.f_code.co_code, frame.f_lasti
    return [_target(raw, at) if raw[at] in _JUMPS_BACK else _after(raw, at)]
