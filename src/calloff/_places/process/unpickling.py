"""Unpickling what comes from a worker, aside from the event loop where that may take long.

A pickle runs whatever code it names. One that names nothing but builtin types, and is not large, is done in no time. All
others are unpickled in a thread, so that a slow one holds up its own operation only; where one takes for ever, the
operation is abandoned like any other that can't be stopped.
"""

import os
import pickle
import threading
from asyncio import AbstractEventLoop
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from io import BytesIO
from pickle import PickleBuffer
from queue import Empty, SimpleQueue
from typing import Any, NoReturn

__all__ = ["attempt", "blamed", "may_block", "unpickle_aside"]

#: bytes; a pickle that is longer is unpickled in a thread
_LARGE = 1 << 18
#: bytes that are copied in one step, during which no other thread of Python code runs
_PIECE = 1 << 20
#: the operation code with which pickles name a class or a function
_NAMES = b"\x93"
#: seconds for which an idle thread waits for more
_IDLE = 10.0

Told = Callable[[Any, BaseException | None], None]
Job = tuple[Any, list[PickleBuffer], AbstractEventLoop, Told]

_jobs: SimpleQueue[Job] = SimpleQueue()
_idle = threading.Semaphore(0)


class _Nameless(pickle.Unpickler):
    """Runs no code."""

    def find_class(self, module: str, name: str) -> NoReturn:
        raise pickle.UnpicklingError(f"it names {module}.{name}")


class _Steps:
    """A pickle as a file. It is read in Python, piece by piece, and between two pieces other threads get their turn."""

    def __init__(self, data: Any) -> None:
        self._data = memoryview(data)
        self._at = 0

    def read(self, size: int = -1) -> bytes:
        end = len(self._data) if size < 0 else self._at + size
        part = bytes(self._data[self._at : end])
        self._at += len(part)
        return part

    def readinto(self, target: Any) -> int:
        size = min(len(target), len(self._data) - self._at)
        for begin in range(0, size, _PIECE):
            end = min(begin + _PIECE, size)
            target[begin:end] = self._data[self._at + begin : self._at + end]
        self._at += size
        return size

    def readline(self) -> bytes:
        part = bytes(self._data[self._at :]).partition(b"\n")
        return self.read(len(part[0]) + len(part[1]))


def may_block(data: Any) -> bool:
    """Whether unpickling may take long: the pickle is large, or runs code that is not Python's own."""
    if len(data) > _LARGE:
        return True
    whole = bytes(data)
    if _NAMES not in whole:
        return False
    try:  # numbers and texts have that byte, too
        _Nameless(BytesIO(whole)).load()
    except Exception:
        return True
    return False


def attempt(unpickle: Callable[[Any], Any], data: Any) -> tuple[Any, BaseException | None]:
    """What comes of it: a value or an error, whatever is raised; only Ctrl-C goes on."""
    try:
        return unpickle(data), None
    except BaseException as problem:
        return None, problem


def blamed(problem: BaseException, name: str) -> Exception:
    """The error of unpickling as one that is a failure of `name`, and nothing else to the loop or to futures."""
    if not isinstance(problem, Exception) or isinstance(problem, StopIteration):
        error = RuntimeError(f"{type(problem).__name__} was raised")
        error.__cause__, problem = problem, error
    problem.add_note(f"while the result of {name} was unpickled")
    return problem


def unpickle_aside(data: Any, buffers: list[PickleBuffer], loop: AbstractEventLoop, told: Told) -> None:
    """Unpickle in a thread; `told` is called on the loop's thread, unless the loop is closed by then."""
    _jobs.put((data, buffers, loop, told))
    if not _idle.acquire(blocking=False):  # nobody is free
        threading.Thread(target=_serve, name="calloff-unpickling", daemon=True).start()


def _load(buffers: list[PickleBuffer], data: Any) -> Any:
    if len(data) <= _LARGE:
        return pickle.loads(data, buffers=buffers)
    return pickle.Unpickler(_Steps(data), buffers=buffers).load()


def _forget() -> None:
    """In a forked child there are no threads of ours."""
    global _jobs, _idle
    _jobs, _idle = SimpleQueue(), threading.Semaphore(0)


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget)


def _serve() -> None:
    while True:
        try:
            data, buffers, loop, told = _jobs.get(timeout=_IDLE)
        except Empty:
            if _idle.acquire(blocking=False):  # else a job is on its way to this thread
                return
            continue
        found, problem = attempt(partial(_load, buffers), data)
        with suppress(RuntimeError):  # the loop was closed
            loop.call_soon_threadsafe(told, found, problem)
        del data, buffers, loop, told, found, problem
        _idle.release()
