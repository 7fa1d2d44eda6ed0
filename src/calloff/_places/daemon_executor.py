"""The loop's default executor under `calloff.run`: threads that never hold up the end of the program.

The pool of the standard library joins its threads at the exit of the interpreter, so that one job that hangs makes a
program hang. And a job whose caller gave up keeps its thread: after a handful of them nothing that needs the default
executor starts any more, not even the look-up of a host name. Here the threads are daemons; a job that nobody waits for
any longer no longer counts against the limit; and whatever still runs at the end is told by name and line.
"""

import functools
import os
import sys
import threading
from collections import deque
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from types import FrameType
from typing import Any, NamedTuple

from .._os.threads import looks
from .._words.frame import OURS, RawFrame, RawStack
from .left import keep_stdin, may_leave_threads

__all__ = ["DaemonExecutor", "Stuck", "stack_of_frame"]

#: threads in all, those included whose callers gave up
MOST_THREADS = 512
#: how long an idle thread may take to go
_MOMENT = 0.1


class Stuck(NamedTuple):
    """A job that still runs, or waits for a thread.

    Attributes:
        name: the name of the function.
        started: whether it got a thread.
        where: its stack, outermost first; empty while it is in C code without a Python frame.
        caller: the line that asked for it.
    """

    name: str
    started: bool
    where: RawStack
    caller: RawFrame | None


class _Job(Future[Any]):
    """The future of a call, and the call."""

    def __init__(self, pool: "DaemonExecutor", function: Callable[[], Any], caller: RawFrame | None) -> None:
        super().__init__()
        self.pool = pool
        self.function: Callable[[], Any] | None = function
        self.caller = caller
        self.thread = 0

    def cancel(self) -> bool:
        """What asyncio calls when the caller gave up: too late for a job that runs."""
        cancelled = super().cancel()
        if not cancelled and self.running():
            self.pool._left(self)
        return cancelled


class DaemonExecutor(ThreadPoolExecutor):
    """A pool of daemon threads; `submit` and `shutdown` as in `concurrent.futures.ThreadPoolExecutor`, which
    `loop.set_default_executor` insists on."""

    def __init__(self, threads: int | None = None) -> None:
        super().__init__(
            max_workers=threads or min(32, (os.cpu_count() or 1) + 4), thread_name_prefix="calloff-default"
        )
        self._limit = self._max_workers
        self._lock = threading.Condition(threading.Lock())
        self._waiting: deque[_Job] = deque()
        self._running: dict[_Job, None] = {}
        self._abandoned: set[_Job] = set()
        self._crew: set[threading.Thread] = set()
        self._idle = 0
        self._born = 0
        self._released = False
        #: called in a worker, with the lock held, when the last job has ended
        self._when_idle: Callable[[], object] | None = None

    def submit(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Future[Any]:
        """Run ``fn(*args, **kwargs)`` in a thread of the pool.

        Raises:
            RuntimeError: the pool is closed, or the system refuses a thread while there is none.
        """
        job = _Job(self, functools.partial(fn, *args, **kwargs), _caller(sys._getframe(1)))
        with self._lock:
            if self._shutdown:
                raise RuntimeError("cannot schedule new futures after shutdown")
            self._waiting.append(job)
            try:
                self._staff()
            except BaseException:
                if self._is_manned():  # a thread that works now, or is idle, takes it later
                    return job
                self._waiting.remove(job)
                raise
        return job

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        """Take no more jobs, let the threads go, and wait for the jobs, until `leave` is called."""
        with self._lock:
            self._shutdown = True
            dropped = list(self._waiting) if cancel_futures else []
            if cancel_futures:
                self._waiting.clear()
            self._lock.notify_all()
        _drop(dropped)
        with self._lock:
            while wait and self._busy():
                self._lock.wait()

    # --- for the end of the program

    def when_idle(self, callback: Callable[[], object]) -> bool:
        """Call it, in some thread, when no job runs or waits; ``False``, and it is not called, if that is so now."""
        with self._lock:
            self._when_idle = callback if self._busy() else None
            return self._when_idle is not None

    def leave(self) -> list[Stuck]:
        """Take no more jobs, wait for none, and tell which ones are left behind."""
        frames = next(looks(sys._current_frames))
        del frames[threading.get_ident()]  # it holds `frames`, and the two would keep what all threads have in theirs
        if self._running:
            keep_stdin()
        with self._lock:
            stuck = [
                Stuck(_name(job.function), True, stack_of_frame(frames.get(job.thread)), job.caller)
                for job in self._running
                if job.function is not None  # else it has ended, and is only not crossed off yet
            ]
            stuck += [Stuck(_name(job.function), False, (), job.caller) for job in self._waiting]
            running = {job.thread for job in self._running}
            idle = [thread for thread in self._crew if thread.ident not in running]
            waiting = list(self._waiting)
            self._waiting.clear()
            self._shutdown = self._released = True
            self._when_idle = None
            self._lock.notify_all()
        _drop(waiting)
        for thread in idle:
            thread.join(_MOMENT)
        return stuck

    # --- the threads

    def _busy(self) -> bool:
        return not self._released and bool(self._running or self._waiting)

    def _staff(self) -> None:
        """Have a thread for what there is to do; the lock is held. Raises what the system says when it refuses one."""
        if len(self._waiting) <= self._idle:
            self._lock.notify()
        elif len(self._crew) < min(self._limit + len(self._abandoned), MOST_THREADS):
            self._born += 1
            name = f"{self._thread_name_prefix}-{self._born}"
            thread = threading.Thread(target=self._work, name=name, daemon=may_leave_threads())
            thread.start()
            self._crew.add(thread)  # once it runs: it needs the lock for its first step

    def _is_manned(self) -> bool:
        """Whether there is a thread that somebody waits for, or an idle one; the lock is held."""
        return len(self._crew) > len(self._abandoned)

    def _left(self, job: _Job) -> None:
        """Nobody waits for a running job any longer: it makes room for another one."""
        keep_stdin()
        stranded: list[_Job] = []
        refusal: Exception | None = None
        with self._lock:
            if job in self._running:
                self._abandoned.add(job)
                if self._waiting:
                    try:
                        self._staff()
                    except Exception as error:
                        refusal = error
                        if not self._is_manned():
                            stranded = list(self._waiting)
                            self._waiting.clear()
        for each in stranded:
            if each.set_running_or_notify_cancel():
                each.set_exception(refusal)

    def _work(self) -> None:
        me = threading.get_ident()
        while (job := self._next()) is not None:
            job.thread = me
            function = job.function
            if function is not None and job.set_running_or_notify_cancel():
                try:
                    result = function()
                except BaseException as error:
                    self._end(job, job.set_exception, error)
                else:
                    self._end(job, job.set_result, result)
                result = None
            else:
                self._end(job, None, None)
            job = function = None

    def _next(self) -> _Job | None:
        """The next job for this thread; ``None`` sends it home."""
        with self._lock:
            while not self._waiting:
                if self._shutdown or len(self._crew) > self._limit + len(self._abandoned):
                    self._crew.discard(threading.current_thread())
                    return None
                self._idle += 1
                self._lock.wait()
                self._idle -= 1
            job = self._waiting.popleft()
            self._running[job] = None
            return job

    def _end(self, job: _Job, settle: Callable[[Any], None] | None, value: Any) -> None:
        job.function = None
        if settle is not None and not self._released:  # else its loop is closed, or about to be
            settle(value)
        with self._lock:
            self._running.pop(job, None)
            self._abandoned.discard(job)
            if self._shutdown:
                self._lock.notify_all()
            if self._when_idle is not None and not self._running and not self._waiting:
                callback, self._when_idle = self._when_idle, None
                callback()


def _drop(jobs: list[_Job]) -> None:
    for job in jobs:
        if job.cancel():
            job.set_running_or_notify_cancel()


def _name(function: Any) -> str:
    """The name of what was handed in; `asyncio.to_thread` wraps it in a partial of ``Context.run``."""
    while isinstance(function, functools.partial):
        inner = getattr(function.func, "__self__", None)
        runs_first = type(inner).__name__ == "Context" and function.args
        function = function.args[0] if runs_first else function.func
    module = getattr(function, "__module__", None)
    name = getattr(function, "__qualname__", repr(function))
    return name if module in (None, "__main__", "builtins") else f"{module}.{name}"


def _caller(frame: FrameType | None) -> RawFrame | None:
    """The first frame outwards that is not asyncio's; ``None`` where a task of asyncio's own asked."""
    while frame is not None and frame.f_code.co_filename.startswith(_ASYNCIO):
        frame = frame.f_back
    if frame is None or frame.f_code.co_filename.startswith(OURS):
        return None
    return frame.f_code.co_filename, frame.f_lineno, frame.f_code.co_name


def stack_of_frame(frame: FrameType | None) -> RawStack:
    """The frames of a thread, outermost first, from what it runs now to the worker that called it."""
    frames: list[RawFrame] = []
    while frame is not None and frame.f_code.co_filename != __file__:
        frames.append((frame.f_code.co_filename, frame.f_lineno, frame.f_code.co_name))
        frame = frame.f_back
    return tuple(reversed(frames))


_ASYNCIO = os.path.dirname(threading.__file__) + os.sep + "asyncio" + os.sep
