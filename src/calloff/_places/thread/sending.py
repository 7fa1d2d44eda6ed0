"""Sends an exception to a thread, which the interpreter raises there at the next bytecode that looks for it."""

import sys
from itertools import repeat
from operator import and_, attrgetter, eq, is_, methodcaller
from threading import get_ident
from time import sleep
from types import FrameType
from typing import Any

from ..._os.threads import looks, shares_number

__all__ = ["Taken", "send"]

_SPINS = sys.version_info < (3, 12)
#: seconds after which a thread that has been started may have begun, and how often that is looked at
_SOON, _OFTEN = 0.01, 16


def send(ident: int, error: type[BaseException] | None, frame: FrameType | None = None, at: int = 0) -> bool:
    """Have `error` raised in the thread at its next bytecode, if its frame on top is still `frame`, at that instruction.

    ``None`` takes back what was sent before and has not arrived.

    In 3.11 `Taken` is raised in this thread as well, and caught, here. That leaves nothing outstanding for this thread,
    and no mark that something is for any. The interpreter takes the mark away only where an exception is taken, which
    may be in a thread that is blocked for ever. Until then every thread looks for one at each step, and Python 3.11 enters
    no function in one that is traced, by a debugger or by coverage. So that one takes one of its own; the other is marked
    anew when it wakes up.

    In 3.11, too, nothing is sent while a thread that this one or the other has started has not begun: that would get it.
    """
    here = get_ident()
    if frame is None:
        _wait_for_begin(ident)
    elif shares_number(ident, frame) or (sys.gettrace() is not None and shares_number(here)):
        return False
    import ctypes  # seldom needed, and slow to import

    raises = ctypes.pythonapi.PyThreadState_SetAsyncExc
    me, thread = ctypes.c_ulong(here), ctypes.c_ulong(ident)
    to: Any = thread
    if frame is not None:
        same = map(is_, map(methodcaller("get", ident), looks(sys._current_frames)), repeat(frame))
        still = map(and_, same, map(eq, map(attrgetter("f_lasti"), repeat(frame)), repeat(at)))
        to = _Aimed((ctypes.c_ulong(0), thread).__getitem__, still)
    sent = 0
    try:
        sent = raises(to, None if error is None else ctypes.py_object(error))
        if _SPINS and sys.gettrace() is not None:
            raises(me, ctypes.py_object(Taken))
    except Taken:
        pass
    except BaseException:  # of a signal handler, which came first
        raises(me, None)
        raise
    return bool(sent)


def _wait_for_begin(ident: int) -> None:
    """Wait until the threads that this one has started have begun."""
    for _ in range(_OFTEN):
        if not shares_number(ident):
            return
        sleep(_SOON)


class _Aimed(map):  # type: ignore[type-arg]  # `map[Any]` is none when the program runs
    """A number for a call of C: the next one, when that call asks for it.

    No other thread runs between that and what is called. Looking before the call would not do: from Python 3.14 on the call
    is told to audit hooks, which are code in Python.
    """

    __slots__ = ()
    _as_parameter_ = property(next)


class Taken(BaseException):
    """Sent to oneself."""
