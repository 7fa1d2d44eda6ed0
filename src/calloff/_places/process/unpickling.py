"""Unpickling what comes from a worker, aside from the event loop where that may take long.

A pickle runs whatever code it names. One that names nothing but builtin types, and is not large, is done in no time. All
others are unpickled in a thread, so that a slow one holds up its own operation only; where one takes for ever, the
operation is abandoned like any other that can't be stopped. A report of progress is waited for, for a moment, so that
it is there before what comes behind it.
"""

import builtins
import os
import pickle
import threading
from asyncio import AbstractEventLoop, get_running_loop
from collections.abc import Callable
from contextlib import suppress
from io import BytesIO
from pickle import PickleBuffer
from queue import Empty, SimpleQueue
from typing import Any, NoReturn

from ..._words.place import Sink
from .steps import load_in_steps

__all__ = ["attempt", "blamed", "load", "may_block", "parts_may_block", "report_progress", "unpickle_aside"]

#: bytes; a pickle that is longer is unpickled in a thread
_LARGE = 1 << 18
#: the operation code with which pickles name a class or a function
_NAMES = b"\x93"
#: seconds for which an idle thread waits for more
_IDLE = 10.0
#: seconds for which a report of progress is waited for on the loop's thread
_MOMENT = 0.02

Told = Callable[[Any, BaseException | None], None]
Job = tuple[Callable[[], Any], AbstractEventLoop, Told]

_jobs: SimpleQueue[Job] = SimpleQueue()
_idle = threading.Semaphore(0)
#: those of whose reports one takes long, and the last one behind it
_slow: dict[Sink, Any] = {}


class _Nameless(pickle.Unpickler):
    """Runs no code."""

    def find_class(self, module: str, name: str) -> NoReturn:
        raise pickle.UnpicklingError(f"it names {module}.{name}")


class _Harmless(pickle.Unpickler):
    """Runs no code but that of Python's own exceptions and containers."""

    def find_class(self, module: str, name: str) -> Any:
        found = vars(builtins).get(name) if module == "builtins" else None
        if isinstance(found, type) and (issubclass(found, BaseException) or found in _CONTAINERS):
            return found
        raise pickle.UnpicklingError(f"it names {module}.{name}")


_CONTAINERS = frozenset({bytearray, complex, frozenset, range, set, slice})


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


def parts_may_block(form: Any) -> bool:
    """Whether one of the pickles in it, which is what tells of an error, may take long."""
    if type(form) is bytes:
        if len(form) > _LARGE:
            return True
        try:
            _Harmless(BytesIO(form)).load()
        except BaseException:
            return True
        return False
    if type(form) is dict:
        return any(map(parts_may_block, form.values()))
    return type(form) in (tuple, list) and any(map(parts_may_block, form))


def attempt(unpickle: Callable[..., Any], *args: Any) -> tuple[Any, BaseException | None]:
    """What comes of it: a value or an error, whatever is raised."""
    try:
        return unpickle(*args), None
    except BaseException as problem:
        return None, problem


def blamed(problem: BaseException, name: str) -> Exception:
    """The error of unpickling as one that is a failure of `name`, and nothing else to the loop or to futures."""
    if not isinstance(problem, Exception) or isinstance(problem, StopIteration):
        error = RuntimeError(f"{type(problem).__name__} was raised")
        error.__cause__, problem = problem, error
    problem.add_note(f"while the result of {name} was unpickled")
    return problem


def unpickle_aside(unpickle: Callable[[], Any], loop: AbstractEventLoop, told: Told) -> None:
    """Unpickle in a thread; `told` is called on the loop's thread, unless the loop is closed by then."""
    _jobs.put((unpickle, loop, told))
    if not _idle.acquire(blocking=False):  # nobody is free
        threading.Thread(target=_serve, name="calloff-unpickling", daemon=True).start()


def load(data: Any, buffers: list[PickleBuffer] | None = None) -> Any:
    """Unpickle; what is large, in steps between which other threads have their turn."""
    if len(data) <= _LARGE:
        return pickle.loads(data, buffers=buffers)
    return load_in_steps(data, buffers)


def report_progress(data: Any, sink: Sink) -> None:
    """Tell what a function reports; what can't be unpickled here is left out. Behind one that takes long comes the last."""
    if sink in _slow:
        _slow[sink] = data
        return
    if not may_block(data):
        value, problem = attempt(load, data)
        if problem is None:
            sink.progressed(value)
        return
    came = threading.Lock()
    found: list[tuple[Any, BaseException | None]] = []
    came.acquire()

    def unpickle() -> None:
        found.append(attempt(load, data))
        came.release()

    def told(*_: object) -> None:
        if found:
            value, problem = found.pop()
            if problem is None:
                sink.progressed(value)
            behind = _slow.pop(sink)
            if behind is not None:
                report_progress(behind, sink)

    _slow[sink] = None
    unpickle_aside(unpickle, get_running_loop(), told)
    if came.acquire(timeout=_MOMENT):
        told()


def _forget() -> None:
    """In a forked child there are no threads of ours."""
    global _jobs, _idle
    _jobs, _idle = SimpleQueue(), threading.Semaphore(0)
    _slow.clear()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget)


def _serve() -> None:
    while True:
        try:
            unpickle, loop, told = _jobs.get(timeout=_IDLE)
        except Empty:
            if _idle.acquire(blocking=False):  # else a job is on its way to this thread
                return
            continue
        found, problem = attempt(unpickle)
        with suppress(RuntimeError):  # the loop was closed
            loop.call_soon_threadsafe(told, found, problem)
        del unpickle, loop, told, found, problem
        _idle.release()
