"""Threads as Python 3.11 has them: a look at where all of them stand, and the begin of a new one.

A look must not come upon the collection of garbage there.

`sys._current_frames` and `sys._current_exceptions` hold a lock of the interpreter while they make objects, and up to 3.11.8
that may begin a collection, which runs code of Python: finalizers, callbacks of weak references. As soon as that lets
another thread run which wants the same lock, to begin or to end, all threads wait for ever (cpython#106883).

A new thread has the number of the one that starts it until it begins: what is sent to that number reaches the new one.
"""

import gc
import os
from _thread import get_ident, start_new_thread
from collections.abc import Callable, Iterator
from functools import partial
from itertools import repeat, starmap
from operator import attrgetter, itemgetter
from sys import version_info
from threading import Thread
from types import FrameType
from typing import TypeVar

__all__ = ["begin", "looks", "shares_number"]

T = TypeVar("T")
_MAY_HANG = version_info < (3, 11, 9)
_SHARES = version_info < (3, 12)
#: the function that waits for the begin of a new thread, and so many calls inside of it that may be on the stack
_STARTS, _DEPTH = Thread.start.__code__, 3
#: who has started a thread that has not begun
_starting: list[int] = []
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_starting.clear)


def looks(at: Callable[[], dict[int, T]]) -> Iterator[dict[int, T]]:
    """What one of the two tells, as often as it is asked for: each time in one step of C, with no frame of ours in it."""
    if not _MAY_HANG or not gc.isenabled():
        return iter(at, None)  # it never tells nothing
    never, once, always = starmap(gc.disable, repeat(())), starmap(at, repeat(())), starmap(gc.enable, repeat(()))
    three = map(partial(partial, len), never, once, always)  # not `zip`, which holds what it told last
    return map(itemgetter(1), map(attrgetter("args"), three))


def begin(function: Callable[..., object], *args: object) -> None:
    """Have `function` called in a new thread, without waiting for the begin of that.

    Raises:
        RuntimeError: none is to be had.
    """
    starter = get_ident()
    _starting.append(starter)
    try:
        start_new_thread(_begun, (starter, function, args))
    except BaseException:
        _starting.remove(starter)
        raise


def _begun(starter: int, function: Callable[..., object], args: tuple[object, ...]) -> None:
    _starting.remove(starter)
    function(*args)


def shares_number(ident: int, frame: FrameType | None = None) -> bool:
    """Return whether a thread that has not begun has that number, too, in Python 3.11.

    Not every one is known: a program may start them by `_thread`.

    Args:
        ident: the number.
        frame: where the thread stands that has begun.
    """
    if not _SHARES:
        return False
    for _ in range(_DEPTH):
        if frame is not None and frame.f_code is _STARTS:
            return True
        frame = frame and frame.f_back
    return ident in _starting
