"""Finds what blocks the event loop, in a signal handler: by the frames below the one that the signal interrupted."""

import asyncio
import inspect
import os
from types import CodeType, FrameType
from typing import Any

from ..._words.bears import bearing
from .body import DRIVING, TaskBody
from .greenlets import frames_outside
from .stack import coro_of, parts_of

__all__ = ["Blocker", "callback_on_top", "task_on_top"]


class Blocker:
    """What blocks the loop.

    Attributes:
        coro: the body, or the coroutine of a plain task; ``None`` for a callback.
        frames: those that an exception would leave, from the one on top to its own.
        importing: whether a module is being imported by one of them.
        dropped: how many of the frames belong to a destructor, where an exception is dropped.
        is_direct: whether it is a function in C that the loop has called.
        is_below: whether it has called what runs now and is not to be left by an exception: asyncio, calloff.
        host: what tells it from others.
        is_over: whether it is to be ended now, though its module stays half done, or a destructor drops the exception.
    """

    __slots__ = ("coro", "dropped", "frames", "host", "importing", "is_below", "is_direct", "is_over")

    def __init__(self, coro: Any, frames: list[FrameType], importing: bool, is_below: bool = False) -> None:
        self.coro = coro
        self.is_below = is_below
        self.frames = frames
        self.importing = importing
        self.dropped = 1 + max((at for at, frame in enumerate(frames) if frame.f_code.co_name == "__del__"), default=-1)
        self.is_direct = frames[0].f_code is _RUN
        self.host = frames[-1] if coro is None else coro
        self.is_over = False

    def is_forced(self, now: float) -> bool:
        """Whether its grace is over."""
        if self.is_over:
            return True
        at: float | None = self.coro.sink.force_at if isinstance(self.coro, TaskBody) else None
        return at is not None and now >= at


def task_on_top(frame: FrameType | None, task: "asyncio.Task[Any]", *, below: bool = False) -> Blocker | None:
    """Return the body or coroutine of `task` if `frame`, which a signal interrupted, may be left by an exception in it.

    With `below`, whatever is on top: then its frames are those that have called what may not be left.

    Every frame from there to the coroutine's own must be one that an exception passes through in good order: code that
    awaits, of whatever origin, and the program's own. The synchronous parts of asyncio and calloff are not, but for those
    that `bears` marks: a `__reduce__` of the program may block in `start`. Nor is the import system, unless it runs the
    code of a module, or waits for another thread that imports the same one. Where a task factory has wrapped a body, its
    driver is found on the way.
    """
    coro = coro_of(task)
    parts = parts_of(coro.coro if isinstance(coro, TaskBody) else coro)
    base = None if parts is None else parts[0]
    step = frame
    frames: list[FrameType] = []
    importing = False
    outside = frames_outside()
    while step is not None:
        code = step.f_code
        file = code.co_filename
        if file.startswith(_FRAGILE):
            if code in _DRIVERS:
                body = step.f_locals.get("self")
                ours = frames and isinstance(body, TaskBody) and body.task is task
                return Blocker(body, frames, importing, below) if ours else None
            imports = file.startswith(_IMPORTERS)
            is_passed = imports or code.co_flags & _AWAITS or code in bearing
            if is_passed and (step is not frame or code.co_qualname == _TAKES_MODULE):
                importing = importing or imports
                frames.append(step)
            elif below:
                frames, importing = [], False
            else:
                return None
        else:
            frames.append(step)
        if step is base:
            return Blocker(coro, frames, importing, below) if frames else None
        step = step.f_back
        if step is None:  # an exception that leaves a greenlet goes on in the one that is behind it
            step = next(outside, None)
    return None


def callback_on_top(
    frame: FrameType | None, loop: asyncio.AbstractEventLoop, caller: CodeType | None, *, below: bool = False
) -> Blocker | None:
    """Return the callback of the loop that runs, if in its frames is nothing but code of the program, and imports.

    With `below`, whatever is on top: then its frames are those that have called what may not be left.
    `caller` runs the loop: it is what a callback of uvloop, which has no frames, is on top of.
    Before and after it runs, uvloop calls Python's sockets: an exception there would leave it neither running nor closed.
    """
    if asyncio._get_running_loop() is not loop:
        return None
    frames: list[FrameType] = []
    step = frame
    importing = False
    while step is not None:
        code = step.f_code
        if code.co_filename.startswith(_FRAGILE):
            if not code.co_filename.startswith(_IMPORTERS) or not (frames or code.co_qualname == _TAKES_MODULE):
                if not below or code is _RUN or code is caller:
                    break
                frames, importing, step = [], False, step.f_back
                continue
            importing = True
        frames.append(step)
        step = step.f_back
    if step is None or (below and not frames):
        return None
    if step.f_code is _RUN:
        return Blocker(None, frames or [step], importing, below)
    if not frames or step.f_code is not caller or type(loop).__module__ != "uvloop":
        return None
    return Blocker(None, frames, importing, below)


_AWAITS = inspect.CO_COROUTINE | inspect.CO_ASYNC_GENERATOR | inspect.CO_ITERABLE_COROUTINE
_DRIVERS = frozenset(function.__code__ for function in DRIVING)
_RUN = asyncio.Handle._run.__code__  # what calls a callback
_IMPORTERS = "<frozen importlib"
#: where one waits while another thread imports the same module
_TAKES_MODULE = "_ModuleLock.acquire"
_FRAGILE = (os.path.dirname(asyncio.__file__) + os.sep, __file__[: __file__.rindex("_places")], _IMPORTERS)
