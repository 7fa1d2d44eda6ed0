"""Calls in threads and processes that a coroutine waits for: they run on when nobody waits any longer.

A call of `loop.run_in_executor` (hence `asyncio.to_thread`) is waited for by way of an asyncio future that is chained to
the future of the executor: one of the callbacks of the former holds the latter. A call of `anyio.to_thread` is known to
its worker thread only, which the coroutine that waits holds among its locals. Which line a call is at is told by the
frames of its thread.

`asyncio.shield` lets whoever waits go, and the call runs on. It is part of what waits for it if nobody else does.
"""

import asyncio
import functools
import sys
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from contextvars import Context
from time import monotonic
from types import CodeType, FrameType, FunctionType
from typing import Any, Protocol, TypeAlias
from weakref import WeakKeyDictionary

from ..._os.threads import looks
from ..._words.frame import Frame, RawFrame, RawStack, culprit, develop
from ..daemon_executor import stack_of_frame
from .forcing import waiter_of
from .objects import fields, is_a
from .other_loops import TaskElsewhere, task_elsewhere

__all__ = ["Call", "anyio_call", "call_in", "executor_call"]

#: those of a future, each with its context
Callbacks: TypeAlias = Sequence[tuple[object, Context]]


class Call(Protocol):
    """A call that runs, or waits for a thread."""

    def pending(self) -> bool:
        """Whether it has not ended."""
        ...

    def cancel(self) -> None:
        """Keep it from beginning."""

    def when_done(self, callback: Callable[[], object]) -> None:
        """Have `callback` called, in any thread, when it has ended."""

    def stack(self) -> RawStack:
        """Its frames, outermost first; empty where there are none."""
        ...

    def describe(self) -> str:
        """Where it runs and at which line."""
        ...

    def is_lookup(self) -> bool:
        """Whether it looks up a name in the network, which is left behind by everybody and changes nothing."""
        ...


class ExecutorCall:
    """A call of an executor of `concurrent.futures`."""

    def __init__(self, future: "Future[Any]") -> None:
        self.key: object = future
        self.future = future

    def pending(self) -> bool:
        """Return whether it has not ended."""
        return not Future.done(self.future)

    def cancel(self) -> None:
        """Cancel it, if it has not begun."""
        self.future.cancel()

    def when_done(self, callback: Callable[[], object]) -> None:
        """Have `callback` called in the thread in which it ends, or now."""
        self.future.add_done_callback(lambda _: callback())

    def stack(self) -> RawStack:
        """Return the frames of its thread above those of the executor."""
        found = _thread_of(self.future)
        return () if found is None else found[1]

    def describe(self) -> str:
        """Return the thread or process, and the line."""
        found = _thread_of(self.future)
        if found is not None:
            return _in_words(found[0], found[1], _function_of(self.future))
        return _in_words("process of a ProcessPoolExecutor", (), _function_of(self.future))

    def is_lookup(self) -> bool:
        """Return whether it is `socket.getaddrinfo` or `socket.getnameinfo`."""
        function = _function_of(self.future)
        return function is not None and any(
            function is getattr(sys.modules.get("socket"), name, None) for name in ("getaddrinfo", "getnameinfo")
        )


class ShieldedCall(ExecutorCall):
    """One that `asyncio.shield` holds back: nobody keeps it from beginning."""

    def cancel(self) -> None:
        """Do nothing."""

    def describe(self) -> str:
        """Return the thread or process, and the line; or that it still waits for one."""
        if Future.running(self.future):
            return super().describe()
        return _in_words("call that waits for a thread", (), _function_of(self.future))


class AnyioCall:
    """A call of `anyio.to_thread.run_sync`.

    Nobody is told of its end once the future was cancelled, but its worker reports it to itself, on the event loop.
    """

    def __init__(self, future: "asyncio.Future[Any]", worker: threading.Thread, function: Any) -> None:
        self.key: object = future
        self._future = future
        self._worker: Any = worker
        self._function = function
        self._callback: Callable[[], object] | None = None

    def pending(self) -> bool:
        """Return whether the worker is at this call: the future is among the locals of its loop until it has ended."""
        top = next(looks(sys._current_frames)).get(self._worker.ident or 0)
        while top is not None:
            if top.f_code.co_name == "run" and top.f_locals.get("future") is self._future:
                return True
            top = top.f_back
        return False

    def cancel(self) -> None:
        """Do nothing: a call that has not begun is passed over by its worker."""

    def when_done(self, callback: Callable[[], object]) -> None:
        """Have `callback` called on the event loop when it has ended."""
        report = self._worker._report_result

        def reported(future: object, *result: object) -> None:
            report(future, *result)
            if future is self._future:
                self._over()

        self._callback = callback
        self._worker._report_result = reported
        self._future.get_loop().call_later(_MOMENT, self._look, context=Context())  # it may have reported just now

    def _look(self) -> None:
        if not self.pending():
            self._over()

    def _over(self) -> None:
        callback, self._callback = self._callback, None
        fields(self._worker).pop("_report_result", None)
        if callback is not None:
            callback()

    def stack(self) -> RawStack:
        """Return the frames of its thread."""
        return _frames(next(looks(sys._current_frames)).get(self._worker.ident or 0))

    def describe(self) -> str:
        """Return the thread and the line."""
        return _in_words(f"thread {self._worker.name}", self.stack(), self._function)

    def is_lookup(self) -> bool:
        """Return whether it looks up a name in the network: anyio does that through the loop."""
        return False


def executor_call(future: Any, shields: int = 3) -> ExecutorCall | TaskElsewhere | None:
    """Return the call of an executor, or the task of another loop, that an asyncio future, not done, stands for.

    That is told behind `shields`, too.
    """
    return call_in(future._callbacks or (), shields)


def call_in(callbacks: Callbacks, shields: int = 3) -> ExecutorCall | TaskElsewhere | None:
    """Return what `executor_call` does of a future with these callbacks, of which asyncio makes a new list each time."""
    for callback, _ in callbacks:
        if type(callback) is FunctionType and callback.__name__ in _WATCHING:
            if callback.__code__ is _SHIELDS and shields:  # the usual case, fast
                return _shielded_call((callback.__closure__ or ())[_INNER].cell_contents, shields - 1)
            for name, cell in zip(callback.__code__.co_freevars, callback.__closure__ or (), strict=True):
                found = cell.cell_contents
                if is_a(found, Future):
                    return task_elsewhere(found) or ExecutorCall(found)
                if name == "inner" and shields and is_a(found, asyncio.Future):  # `cur_task` is among them, too
                    return _shielded_call(found, shields - 1)
    return None


def _shielded_call(inner: Any, shields: int) -> ExecutorCall | None:
    """Return the call that `asyncio.shield` holds back, itself or in a task, unless others wait for it, too.

    A task may wait for itself: no more than `shields` further ones are looked through.
    """
    is_future = type(inner) is asyncio.Future
    if not is_future and not is_a(inner, asyncio.Task):
        return None
    callbacks = _few_callbacks(inner)
    if len(callbacks) < 1 + is_future:  # nearly always: nothing but the shield waits for a future
        return None
    waited = inner if is_future else waiter_of(inner)
    call = executor_call(waited, shields) if type(waited) is asyncio.Future else None
    if not isinstance(call, ExecutorCall):
        return None
    told = [callback.__name__ if type(callback) is FunctionType else "" for callback, _ in callbacks]
    if not _OF_A_SHIELD.issuperset(told) or told.count("_inner_done_callback") != 1:
        return None
    return ShieldedCall(call.future)


def _few_callbacks(future: Any) -> Callbacks:
    """Return the callbacks of a future; none where there are more than one shield adds, and what Python adds to that.

    Looking makes a list of all of them, so it is known for a moment: a thousand that are stopped at once may all ask.
    """
    global _crowded_until
    is_usual = type(future) in _USUAL
    if monotonic() < _crowded_until and is_usual and _crowds.get(future, 0.0) > monotonic():
        return ()
    callbacks: Callbacks = future._callbacks or ()
    if len(callbacks) >= _CROWD and is_usual:
        _crowds[future] = _crowded_until = monotonic() + _MOMENT
    return callbacks if len(callbacks) <= _FEW else ()


def anyio_call(frame: FrameType) -> AnyioCall | None:
    """Return the call that the frame of anyio's ``run_sync_in_worker_thread`` waits for."""
    here = frame.f_locals
    future, worker = here.get("future"), here.get("worker")
    if is_a(future, asyncio.Future) and is_a(worker, threading.Thread) and hasattr(type(worker), "_report_result"):
        return AnyioCall(future, worker, here.get("func"))  # type: ignore[arg-type]  # told by their types just now
    return None


# --- the thread of a call


def _thread_of(future: "Future[Any]") -> tuple[str, RawStack] | None:
    """Return the name of the thread that runs a call, and the frames of the call."""
    ident = fields(future).get("thread")  # of a job of our own executor
    for number, top in next(looks(sys._current_frames)).items():
        frames: list[RawFrame] = []
        step: FrameType | None = top
        while step is not None:
            if number == ident or _runs(step, future):
                own = stack_of_frame(top) if number == ident else tuple(reversed(frames))
                return f"thread {_name_of(number)}", own
            frames.append((step.f_code, step.f_lasti))
            step = step.f_back
    return None


def _runs(frame: FrameType, future: "Future[Any]") -> bool:
    """Return whether it is the frame in which an executor runs the call of `future`."""
    code = frame.f_code
    if code.co_filename == _POOL:
        return code.co_name == "run" and fields(frame.f_locals.get("self")).get("future") is future
    if frame.f_back is None or code.co_filename == threading.__file__:
        return False
    return _is_near_the_bottom(frame) and any(
        value is future or fields(value).get("future") is future for value in tuple(frame.f_locals.values())
    )


def _is_near_the_bottom(frame: FrameType, most: int = 6) -> bool:
    step: FrameType | None = frame
    for _ in range(most):
        step = step and step.f_back
    return step is None


def _frames(top: FrameType | None) -> RawStack:
    frames: list[RawFrame] = []
    while top is not None:
        frames.append((top.f_code, top.f_lasti))
        top = top.f_back
    return tuple(reversed(frames))


def _name_of(ident: int) -> str:
    return next((thread.name for thread in threading.enumerate() if thread.ident == ident), str(ident))


# --- the function of a call


def _function_of(future: "Future[Any]") -> Any:
    """Return the function that was handed to the executor, unwrapped."""
    own = fields(future).get("function")  # of a job of our own executor
    if own is not None:
        return _unwrapped(own)
    for frame in next(looks(sys._current_frames)).values():
        step: FrameType | None = frame
        while step is not None:
            if step.f_code.co_filename == _POOL and step.f_code.co_name == "run":
                item = fields(step.f_locals.get("self"))
                if item.get("future") is future:
                    return _unwrapped(item.get("fn") or (item.get("task") or (None,))[0])
            step = step.f_back
    for thread in threading.enumerate():
        items = fields(thread).get("pending_work_items")  # of the thread that manages a ProcessPoolExecutor
        for item in list(items.values()) if type(items) is dict else ():
            if fields(item).get("future") is future:
                return _unwrapped(fields(item).get("fn"))
    return None


def _unwrapped(function: Any) -> Any:
    """Return what partials and ``Context.run`` (of `asyncio.to_thread`) run in the end."""
    for _ in range(10):
        if type(function) is not functools.partial:
            break
        runs = getattr(function.func, "__self__", None) if type(function.func) is _BUILTIN else None
        first = type(runs).__name__ == "Context" and function.args
        function = function.args[0] if first else function.func
    return function


def _in_words(place: str, stack: RawStack, function: Any) -> str:
    frame = culprit(develop(stack))
    code = getattr(function, "__code__", None) if type(function) is FunctionType else None
    if frame is None and type(code) is CodeType:
        frame = Frame(code.co_filename, code.co_firstlineno, code.co_name)
    if frame is not None and frame.file != _POOL and frame.file != threading.__file__:
        return f"{place} in {frame._replace(source='')}"
    name = getattr(function, "__qualname__", None) if type(function) in (FunctionType, _BUILTIN) else None
    return f"{place} in {name}" if type(name) is str else place


#: what is called when a future that is chained to that of an executor has ended, and when a shield has
_CHAINED = "_call_check_cancel"
_OUTER = "_outer_done_callback"
_WATCHING = frozenset({_CHAINED, _OUTER})
#: the code of that one, and which of its cells holds what is shielded
_SHIELDS, _INNER = next(
    (
        (code, code.co_freevars.index("inner"))
        for code in asyncio.shield.__code__.co_consts
        if type(code) is CodeType and code.co_name == _OUTER and "inner" in code.co_freevars
    ),
    (None, 0),
)
#: how many callbacks a future may have that one shield waits for
_FEW = 8
#: from how many on it is noted until when that is known
_CROWD = 50
_USUAL = (asyncio.Future, asyncio.Task)
_crowds: "WeakKeyDictionary[asyncio.Future[Any], float]" = WeakKeyDictionary()
_crowded_until = 0.0  # the latest of these, nearly always long ago
#: what is told of the end of something that one shield holds back and nobody else waits for
_OF_A_SHIELD = frozenset({_CHAINED, "_inner_done_callback", "_clear_awaited_by_callback", "_log_on_exception"})
#: seconds
_MOMENT = 0.05
_BUILTIN = type(len)
_POOL = sys.modules[f"{Future.__module__.rpartition('.')[0]}"].__path__[0] + "/thread.py"
