"""The moments at which an exception from outside may be raised in running Python code, by one table for all places.

An exception that arrives anywhere does harm in three ways. It may come between a step and the block that undoes it::

    lock.acquire()
    # here
    try:

In Python 3.14 that gap is in every ``with``, too (cpython#148874), and before 3.13 at the jump back to the beginning of
a loop that fills a ``try``. And it may come in the code that locks are made of: the mutex of a `queue.Queue` stays
locked when `threading.Condition.__exit__` is left before it has released anything. And in the code of `subprocess` by which
a process begins, it leaves one behind that nobody knows of.

So before anything is raised, the frame on top is looked at. `is_fit` tells whether an exception may be raised where the
frame stands. Signal handlers need no more: what they raise arrives right there. An exception sent to another thread does so
up to Python 3.12; from 3.13 on the interpreter looks for it once more only at the next instruction that looks at all, and
`stays_fit` walks ahead to each that it may be. An instruction that looks is a jump back, the beginning of a function, or a
call of C that returns. Some calls don't, as soon as the interpreter knows them (`len`), nor does that of a generator.

Whoever waits in C (for a lock, say) stands at the same instruction whenever one looks. A signal handler that finds it so
`PATIENCE` times is inside that call, before the lock is taken, and `may_break_off` tells whether it may raise.
"""

from collections.abc import Callable
from functools import partial
from inspect import CO_ASYNC_GENERATOR, CO_COROUTINE, CO_GENERATOR
from opcode import opname
from sys import gettrace, version_info
from types import CodeType, FrameType, FunctionType, MethodType
from typing import Any

from .._os import inherit
from .bytecode import (
    BRANCHES,
    CALLS,
    ENDS,
    GIVES_BACK,
    JUMP,
    JUMP_BACK,
    JUMPS_BACK,
    LEAVES,
    RAISES,
    after,
    block_of,
    enters,
    gives_back,
    is_passed_through,
    is_to_await_exit,
    is_to_give_back,
    names_before,
    target,
)

_usage: Callable[[], Any] | None = None
try:
    _usage = partial(inherit.resource().getrusage, inherit.resource().RUSAGE_THREAD)
except (ImportError, AttributeError):  # not Linux
    pass

__all__ = ["PATIENCE", "Still", "is_fit", "is_guarded", "is_importing", "may_break_off", "stays_fit"]

#: how many looks in a row that find a frame at the same instruction show that it waits there
PATIENCE = 20

#: the modules whose functions take and give back what others rely on, and those that begin so
_FRAGILE = frozenset({"_weakrefset", "asyncio", "contextlib", "logging", "queue", "threading", "weakref"})
_FRAGILE_PACKAGES = ("asyncio.", "concurrent.futures", "importlib", "logging.", "multiprocessing.")
#: functions of `subprocess` in which a process begins that nobody else knows of yet
_BEGINS = frozenset({"__init__", "__enter__", "_close_pipe_fds", "_execute_child", "_posix_spawn"})
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

_FURTHEST = 500
#: calls that the interpreter carries out itself, and those that begin nothing yet
_BLIND = frozenset({"append", "isinstance", "len", "type"})
_LATER = CO_GENERATOR | CO_COROUTINE | CO_ASYNC_GENERATOR
#: so far below the frame on top a trace function is looked for
_DEEP = 50
_LATE = version_info >= (3, 13)


class Still:
    """Counts the looks in a row that found a frame at the same instruction.

    A busy loop may well be found at the same instruction many times, so only those looks count before which the system put
    the thread to sleep, or which find it in the same sleep, where the system tells.

    Args:
        enough: how many show that it waits there.
        own: whether the frames are of the thread that looks.
    """

    __slots__ = ("_at", "_count", "_enough", "_own", "_slept")

    def __init__(self, enough: int = PATIENCE, *, own: bool = False) -> None:
        self._own = own
        self._slept: int | None = None
        self._at: tuple[int, CodeType, int, int] | None = None
        self._count = 0
        self._enough = enough

    def look(self, frame: FrameType, sleep: int = -1) -> bool:
        """Note one more; whether it waits there.

        Args:
            frame: where it stands.
            sleep: which sleep of its life another thread is in, see `proc.sleep_of`.
        """
        at = id(frame), frame.f_code, frame.f_lasti, sleep
        slept, before = _sleeps(), self._slept
        rested = self._own and before is not None and slept is not None and slept <= before
        self._slept = slept
        self._count = 1 if at != self._at or rested or not sleep else self._count + 1
        self._at = at
        return self._count >= self._enough


def is_fit(frame: FrameType, at: int = -1, *, waits: bool = False, hasty: bool = False, before: bool = False) -> bool:
    """Whether an exception may be raised where `frame`, the one on top, stands now.

    Args:
        frame: that of the calling thread, or of another one.
        at: the instruction at which another thread's was found, which may go on meanwhile.
        waits: whether it stands at a call of C that does not return; then its functions that wait may be left, too.
        hasty: whether everything may be left but what locks are made of.
        before: whether it stands before its instruction, as for who looks at each, not at one that looks for exceptions.
            Then it may have left a block, and not have begun yet the call that gives back what the block has used; and an
            exception may be on its way, which another one would replace.
    """
    code = frame.f_code
    at = frame.f_lasti if at < 0 else at
    if hasty:
        return not _is_fragile(frame)
    if _is_tracing(frame):
        return False
    if _is_fragile(frame):
        if not (waits and (code.co_name in _WAITS or _is_ours(frame))) and not (
            code.co_name in _ENTRIES and opname[code.co_code[at]] == "RESUME"
        ):
            return False
    elif code.co_name in ENDS:
        return False
    if before and (is_passed_through(code, at) or is_to_give_back(code, at)):
        return False
    if is_to_await_exit(code, at):
        return False
    return not enters(code, at, before)


def is_guarded(frame: FrameType) -> bool:
    """Whether the function itself does something when an exception is raised where it stands."""
    return block_of(frame.f_code, frame.f_lasti) is not None


def may_break_off(frame: FrameType) -> bool:
    """Whether a signal handler may raise inside the call of C in which `frame`, the one on top, waits."""
    name = frame.f_code.co_name
    if _is_fragile(frame) and name not in _WAITS and name not in _TAKES:
        return _waits_outside(frame) and name not in GIVES_BACK
    return name not in GIVES_BACK


def stays_fit(frame: FrameType, at: int, prepared: Callable[[FrameType], bool]) -> bool:
    """Whether an exception that is sent to the thread of `frame` while that stands at `at` arrives where it may be raised.

    Args:
        frame: the one on top.
        at: the instruction at which it was found.
        prepared: tells which frame below is one of ours that calls the function, and bears whatever comes after its end.
    """
    return not _LATE or _walk(frame, _next(frame.f_code, at), _FURTHEST, prepared)


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
    if type(name) is not str:
        return False
    if name == "subprocess":
        return frame.f_code.co_name in _BEGINS
    return name in _FRAGILE or name.startswith(_FRAGILE_PACKAGES) or _is_ours(frame)


def _is_tracing(frame: FrameType) -> bool:
    """Whether `frame` is in a trace function of the calling thread: what that raises ends all tracing."""
    hook = gettrace()
    if hook is None:
        return False
    whole = _code_of(hook)
    inner: FrameType | None = frame
    for _ in range(_DEEP):
        if inner is None or (outer := inner.f_back) is None:
            return False
        if inner.f_code is whole or (outer.f_trace is not None and inner.f_code is _code_of(outer.f_trace)):
            return True
        inner = outer
    return False


def _code_of(hook: Any) -> CodeType | None:
    kind = type(hook)
    function = hook.__func__ if kind is MethodType else hook if kind is FunctionType else kind.__call__
    return getattr(function, "__code__", None)


def _is_ours(frame: FrameType) -> bool:
    name = frame.f_globals.get("__name__")
    return type(name) is str and name.startswith(_OURS) and not name.startswith(_PREPARED)


def _waits_outside(frame: FrameType) -> bool:
    name = frame.f_globals.get("__name__")
    return type(name) is str and name not in _BETWEEN_THREADS and not name.startswith("asyncio.")


# --- what comes later


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
        if op in CALLS:
            if enters(code, at) or gives_back(code, at):
                return False
            if _may_not_look(frame, at):
                ahead.append(after(raw, at))
        elif op == JUMP_BACK:
            if enters(code, at):
                return False
        elif op in RAISES and (block := block_of(code, at)):
            ahead.append(block[2])
        elif op in RAISES or op in LEAVES:
            if not _leaves(frame, left, prepared, raises=op in RAISES):
                return False
        else:
            if op in BRANCHES or op == JUMP or op in JUMPS_BACK:
                ahead.append(target(raw, at))
            if op != JUMP and op not in JUMPS_BACK:
                ahead.append(after(raw, at))
    return True


def _leaves(frame: FrameType, left: int, prepared: Callable[[FrameType], bool], *, raises: bool) -> bool:
    """`_walk`, in the function that called this one, or handles what this one raises."""
    caller = frame.f_back
    if caller is None or prepared(caller):
        return True
    if _is_fragile(caller):
        return False
    if not raises:
        return is_fit(caller) and _walk(caller, _next(caller.f_code, caller.f_lasti), left, prepared)
    block = block_of(caller.f_code, caller.f_lasti)
    return _walk(caller, [block[2]], left, prepared) if block else _leaves(caller, left, prepared, raises=True)


def _may_not_look(frame: FrameType, at: int) -> bool:
    """Whether the call may be one that looks for no exception: by the names of what may be called there."""
    names = names_before(frame.f_code, at)
    if not _BLIND.isdisjoint(names):
        return True
    inside = frame.f_globals
    return any(type(it := inside.get(name)) is FunctionType and it.__code__.co_flags & _LATER for name in names)


def _next(code: CodeType, at: int) -> list[int]:
    raw = code.co_code
    return [target(raw, at) if raw[at] in JUMPS_BACK else after(raw, at)]
