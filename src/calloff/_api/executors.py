"""The process pools of the program's own that are stuck at its end: named then, and killed when the interpreter exits.

At its exit the interpreter waits for the jobs of every `concurrent.futures.ProcessPoolExecutor`, without limit. A job that
ran at the end of the grace and still runs at the exit has had its time. The pool may be of use until then: the program may
go on after `calloff.run`, so nothing is killed before.
"""

import logging
import sys
import threading
from collections.abc import Callable, Container
from time import monotonic, sleep
from typing import Any

from .._os.threads import looks

__all__ = ["is_manager", "leave_executors"]

_logger = logging.getLogger("calloff")
#: calls a function before the interpreter waits for threads and executors: what is registered last comes first
_at_exit: Callable[..., Any] = getattr(threading, "_register_atexit", lambda *_: None)
#: seconds that the thread of a pool has for its end, when nothing of the pool runs any more
_MOMENT = 1.0


def is_manager(thread: threading.Thread) -> bool:
    """Whether it is the thread of a process pool, which takes care of its workers."""
    module = sys.modules.get("concurrent.futures.process")
    return module is not None and isinstance(thread, module._ExecutorManagerThread)


def leave_executors(before: Container[threading.Thread]) -> None:
    """Name the jobs that process pools made since `before` still run, and have those pools killed at the exit."""
    for thread in threading.enumerate():
        if thread in before or not is_manager(thread):
            continue
        manager: Any = thread
        jobs = dict(manager.pending_work_items)
        if not jobs:
            continue  # it ends when it is told so
        names = ", ".join(sorted({getattr(job.fn, "__qualname__", repr(job.fn)) for job in jobs.values()}))
        _logger.warning(
            "a ProcessPoolExecutor still has %d %s (%s): what runs of that at the exit of the interpreter is killed",
            len(jobs),
            "job" if len(jobs) == 1 else "jobs",
            names,
        )
        try:
            _at_exit(_kill, manager, frozenset(jobs))
        except RuntimeError:  # it exits already
            _kill(manager, frozenset(jobs))


def _kill(manager: Any, jobs: frozenset[int]) -> None:
    """End a pool that still has one of those jobs, and wait for its thread.

    The interpreter wakes that thread next, which fails just while the thread closes what it is woken by. Up to Python 3.12
    a thread whose `join` was interrupted passes for dead: nobody would wait for it, and it would run into the
    interpreter's end. So neither `is_alive` nor `join` is used here.
    """
    if jobs.isdisjoint(manager.pending_work_items):
        return
    executor = manager.executor_reference()
    if executor is not None:
        executor.shutdown(wait=False, cancel_futures=True)
    for process in list(manager.processes.values()):
        process.kill()
    until = monotonic() + _MOMENT
    while manager.ident in next(looks(sys._current_frames)) and monotonic() < until:
        sleep(0.001)
