"""Room on the stack for a signal handler.

A handler is called on top of whatever the signal interrupts. Where that is as deep as the limit of recursion allows, no
function of Python can be called any more: the handler would end in a `RecursionError`, in a body that may catch that.
So the limit is raised before the handler does anything, and lowered again when it has done its work, at whatever depth.

From Python 3.12 on functions of C have a limit of their own, and a handler that is made of nothing else raises the limit
for the one in Python. Before that both need the same levels, and a function of Python that calls one of C at once needs
the fewest: two. The signal comes again and again, and each that fails there leads the body a step up.
"""

import sys
from collections.abc import Callable
from functools import partial
from itertools import repeat, starmap
from operator import add
from sys import getrecursionlimit, setrecursionlimit
from types import FrameType
from typing import Any

__all__ = ["Room"]

#: how many calls deep a handler goes
_LEVELS = 100
#: and how many at its end
_OWN = 10
_C_HAS_ITS_OWN = sys.version_info >= (3, 12)


class Room:
    """Levels of recursion beyond the limit of the program.

    Args:
        act: what to do when the signal comes, with the frame that it interrupted.
        lasts: whether the room is needed on after that.

    Attributes:
        handler: the signal handler, which gives room and runs `act` there.
        is_running: whether it does so now.
    """

    def __init__(self, act: Callable[[FrameType], None], lasts: Callable[[], bool]) -> None:
        self._act = act
        self._lasts = lasts
        #: the limit of the program while there is more
        self._former: int | None = None
        self.is_running = False
        #: whether the next call is the one for the second argument of a handler
        self._is_second = False
        self.handler: Callable[[int, FrameType | None], Any] = self._handler() if _C_HAS_ITS_OWN else self._on_signal

    def _handler(self) -> Callable[[int, FrameType | None], Any]:
        """Return a handler in C: it gives more room, and calls `_run`, twice."""
        limits = starmap(getrecursionlimit, repeat(()))
        giving = map(setrecursionlimit, map(partial(add, _LEVELS), limits))
        step = zip(giving, starmap(self._run, repeat(())), strict=False)
        each: Callable[..., Any] = max  # takes the two arguments of a handler, and calls its key for each
        return partial(each, key=partial(next, step))

    def _on_signal(self, _signum: int, frame: FrameType | None) -> None:
        setrecursionlimit(getrecursionlimit() + _LEVELS)
        assert frame is not None
        self._act_there(frame)

    def _run(self) -> None:
        if self._is_second:
            self._is_second = False
            _lower(getrecursionlimit() - _LEVELS)
        else:
            self._act_there(sys._getframe(1))
            self._is_second = True

    def _act_there(self, frame: FrameType) -> None:
        former = getrecursionlimit() - _LEVELS
        if self.is_running:  # the signal has interrupted its own handler
            try:
                self._act(frame)
            finally:
                setrecursionlimit(former)
            return
        if self._former is None:
            self._former = former
        self.is_running = True
        try:
            self._act(frame)
        finally:
            self.is_running = False
            if self._lasts() or not self.take_back():
                _lower(former)  # unless what was given before has been used up

    @staticmethod
    def holds(frame: FrameType | None) -> bool:
        """Whether a handler that was interrupted at `frame` stands there, or below."""
        while frame is not None and frame.f_code not in _HANDLING:
            frame = frame.f_back
        return frame is not None

    def take_back(self) -> bool:
        """Lower the limit to what it was, if that can be done now."""
        if self._former is None or _lower(self._former):
            self._former = None
            return True
        return False


_HANDLING = frozenset(function.__code__ for function in (Room._on_signal, Room._run, Room._act_there))


def _lower(limit: int) -> bool:
    """Set the limit of recursion, also where only this call and those of the handler are beyond it: they return now."""
    try:
        setrecursionlimit(limit)
    except RecursionError:
        try:
            setrecursionlimit(limit + _OWN)
            from ctypes import pythonapi
        except (RecursionError, ImportError):  # it is deeper than that; or an interpreter without ctypes
            return False
        pythonapi.Py_SetRecursionLimit(limit)  # from here on there may be no room for another call
    return True
