"""The threads: started on demand, reused, given up when they can't be stopped, never waited for.

They are daemon threads that nobody registers for a join, so the interpreter ends without them. At most `size` calls run
at a time; further ones wait their turn. A thread whose call was abandoned no longer counts among those: another one may
take its place, and the abandoned thread ends with its call. `max_abandoned` bounds how many of them there may be.

Calls are handed over on the thread of their event loop only, so that an operation changes its state nowhere else. A
thread that has become free therefore doesn't take the next call itself: it wakes the loops that have some waiting. None
of the counts depends on a loop being alive.
"""

import logging
import os
import threading
from asyncio import AbstractEventLoop
from collections import OrderedDict
from collections.abc import Callable
from contextvars import Context
from itertools import count
from queue import Empty, SimpleQueue
from threading import Lock, Thread
from typing import Any, NamedTuple, Protocol

from ..._words.errors import CalloffError
from ..._words.frame import at_line, develop
from ..left import keep_stdin, load_ctypes, may_leave_threads
from .call import Call

__all__ = ["Pool", "ThreadCounts", "Worker"]

_numbers = count(1)
#: calls a function before the interpreter waits for threads; `atexit` is later
_at_end: Callable[[Callable[[], None]], Any] = getattr(threading, "_register_atexit", lambda _: None)
_logger = logging.getLogger("calloff")


class ThreadCounts(NamedTuple):
    """What the threads of calloff do now.

    Attributes:
        running: threads that run a call.
        idle: threads that wait for one, and end after a while.
        waiting: calls that wait for a thread.
        abandoned: threads whose call could not be stopped and still runs.
    """

    running: int
    idle: int
    waiting: int
    abandoned: int


class Job(Protocol):
    """What the pool knows of a body."""

    call: Call

    def enter(self, worker: "Worker", /) -> None:
        """A thread is there: the call starts now; on the thread of its loop."""

    def fail(self, error: Exception, /) -> None:
        """No thread can be had; on the thread of its loop."""


class Worker:
    """One thread."""

    __slots__ = ("_inbox", "_pool", "call", "leaving", "thread")

    def __init__(self, pool: "Pool") -> None:
        self._pool = pool
        self._inbox: SimpleQueue[tuple[Call, Callable[[], None]] | None] = SimpleQueue()
        self.call: Call | None = None
        self.leaving: bool = False
        # With an empty context where threads inherit that of their starter: an idle one holds on to nothing.
        daemon = may_leave_threads()
        if not daemon:
            pool.ends_with_interpreter()
        self.thread: Thread = Thread(target=self._serve, name=f"calloff-thread-{next(_numbers)}", daemon=daemon)
        Context().run(self.thread.start)

    def give(self, call: Call, done: Callable[[], None]) -> None:
        """Run `call`, then `done`, in the thread."""
        self._inbox.put((call, done))

    def is_over(self, call: Call) -> bool:
        """Whether that call, which was given to it, has ended, and all that is said of its end is known."""
        return self.call is not call

    def dismiss(self) -> None:
        """End the thread, which is idle."""
        self._inbox.put(None)

    def _serve(self) -> None:
        load_ctypes()  # for force
        pool = self._pool
        while not self.leaving:
            try:
                job = self._inbox.get(timeout=pool.idle)
            except Empty:
                if pool.retire(self):
                    return
                continue  # a call is on its way
            if job is None:
                return
            call, done = job
            del job
            call.run()
            pool.release(self)
            done()
            del call, done  # an idle thread holds on to nothing


class Pool:
    """All threads of this process, and the calls that wait for one."""

    def __init__(self, size: int, max_abandoned: int, idle: float) -> None:
        self.size = size
        self.max_abandoned = max_abandoned
        self.idle: float = idle
        self.reset()

    def reset(self) -> None:
        """Nothing of it is there: at the start, and in a forked child."""
        self._lock = Lock()
        self._running = 0
        self._idle: list[Worker] = []
        self._dismisses = False
        self._abandoned: dict[Worker, Call] = {}
        self._waiting: dict[AbstractEventLoop, OrderedDict[Job, None]] = {}

    def ends_with_interpreter(self) -> None:
        """In a subinterpreter, which waits for threads at its end: the idle ones are dismissed then."""
        with self._lock:
            if not self._dismisses:
                self._dismisses = True
                _at_end(self._dismiss)

    def _dismiss(self) -> None:
        with self._lock:
            idle, self._idle = self._idle, []
            self.idle = 0.0
        for worker in idle:
            worker.dismiss()

    def idle_threads(self) -> frozenset[Thread]:
        """The threads without a call; one is among them before anybody hears that its call has ended."""
        with self._lock:
            return frozenset(worker.thread for worker in self._idle)

    def counts(self) -> ThreadCounts:
        """How many there are of each."""
        with self._lock:
            waiting = sum(len(jobs) for jobs in self._waiting.values())
            return ThreadCounts(self._running, len(self._idle), waiting, len(self._abandoned))

    def check(self) -> None:
        """Refuse further work when too many threads were abandoned."""
        with self._lock:
            if len(self._abandoned) < self.max_abandoned:
                return
            abandoned, oldest = len(self._abandoned), next(iter(self._abandoned.values()), None)
        line = at_line(develop(oldest.where())) if oldest is not None else ""
        raise CalloffError(
            f"{abandoned} threads run work that could not be stopped, and max_abandoned of calloff.thread is "
            f"{self.max_abandoned}: no more is started in threads until some of it ends"
            + (f"; the oldest is stuck at {line}" if line else "")
        )

    # --- on the thread of a loop

    def submit(self, job: Job, loop: AbstractEventLoop) -> None:
        """Start the job now, or when a thread is free."""
        with self._lock:
            self._waiting.setdefault(loop, OrderedDict())[job] = None
        self.fill(loop)

    def withdraw(self, job: Job, loop: AbstractEventLoop) -> None:
        """Forget a job that waits."""
        with self._lock:
            jobs = self._waiting.get(loop)
            if jobs is not None:
                jobs.pop(job, None)

    def fill(self, loop: AbstractEventLoop) -> None:
        """Start the waiting jobs of `loop`, as far as there is room."""
        while True:
            with self._lock:
                jobs = self._waiting.get(loop)
                if not jobs:
                    self._waiting.pop(loop, None)
                    return
                if self._running >= self.size:
                    return
                job, _ = jobs.popitem(last=False)
                self._running += 1
                worker = self._idle.pop() if self._idle else None
            if worker is None:
                try:
                    worker = Worker(self)
                except (RuntimeError, MemoryError) as error:  # the system refuses a further thread
                    with self._lock:
                        self._running -= 1
                        if self._running or self._idle:  # one of those takes it when it is free, as one may be by now
                            jobs = self._waiting.setdefault(loop, jobs)
                            jobs[job] = None
                            jobs.move_to_end(job, last=False)
                            if not self._idle:
                                return
                            continue
                    failure = CalloffError(f"no thread could be started for the call: {error}")
                    failure.__cause__ = error
                    job.fail(failure)
                    continue
            worker.call = job.call
            job.enter(worker)

    def abandon(self, worker: Worker, call: Call) -> None:
        """The call can't be stopped: the thread ends with it, and no longer counts as running."""
        with self._lock:
            if worker.call is not call:  # it has just ended
                return
            worker.leaving = True
            self._running -= 1
            self._abandoned[worker] = call
            abandoned = len(self._abandoned)
        keep_stdin()
        _logger.warning("threads with work that could not be stopped: %d, at most %d", abandoned, self.max_abandoned)
        self._wake_loops()

    # --- in the thread

    def release(self, worker: Worker) -> None:
        """The thread is free."""
        with self._lock:
            worker.call = None
            if worker.leaving:
                del self._abandoned[worker]
                return
            self._running -= 1
            self._idle.append(worker)
        self._wake_loops()

    def retire(self, worker: Worker) -> bool:
        """The thread had nothing to do for a while; ``False`` when it was chosen for a call meanwhile."""
        with self._lock:
            if worker not in self._idle:
                return False
            self._idle.remove(worker)
            return True

    def _wake_loops(self) -> None:
        """There may be room for calls that wait."""
        for loop in tuple(self._waiting):
            try:
                loop.call_soon_threadsafe(self.fill, loop)
            except RuntimeError:  # it was closed: nobody waits any more
                with self._lock:
                    self._waiting.pop(loop, None)


POOL = Pool(size=256, max_abandoned=64, idle=10.0)
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=POOL.reset)
