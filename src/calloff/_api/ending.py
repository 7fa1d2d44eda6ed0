"""The end of a program, bounded: whatever still runs is stopped side by side, and what can't be stopped is told.

`asyncio.run` cancels what is left, once, and waits without limit: for tasks, for asynchronous generators, for the threads
of the default executor; processes that were started by asyncio it leaves behind. Here all of that has one deadline:
`grace` from the moment at which the main operation was asked to stop or ended by itself. Operations climb their own
ladder, which can't be slower than that. Plain tasks are asked again, with back-off and not in their clean-up, until the
deadline; then they are left where they are. Processes are asked when the tasks have ended, and killed at the deadline.
Each thing left is logged with its name and the line that it is stuck at.

There is no task for this: the loop is run in short turns from outside. So code that cancels or awaits "all other tasks"
while it shuts down meets nothing of ours.
"""

import asyncio
import gc
import logging
import sys
import threading
import time
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from types import AsyncGeneratorType, FrameType
from typing import Any

from .._operation.operation import Operation
from .._operation.registry import live
from .._os.threads import looks
from .._places.daemon_executor import DaemonExecutor, stack_of_frame
from .._places.task.body import body_of
from .._places.task.immortal import keep_alive_forever
from .._places.task.stack import is_handling, stack_of
from .._places.task.subprocesses import Subprocess, left_by
from .._scopes.timers import NEVER, Entry, timers_of
from .._words.errors import StopForced
from .._words.frame import RawStack, at_line, develop
from .._words.policy import DEFAULT, Policy
from .._words.reason import Kind
from .._words.untouched import is_a
from .executors import is_manager, leave_executors

__all__ = ["Ending", "log_threads"]

_logger = logging.getLogger("calloff")

#: what plain tasks get at least, when the main operation has used up the whole grace, and what the rest gets
_LEAST = 0.5
_LITTLE = 0.1
#: turns of the loop that asynchronous generators get at least to begin their end: the task that closes them, and theirs
_TURNS = 3
#: how long after the end of its ladder an operation is waited for, should its place be broken
_GUARD = 1.0


class Ending:
    """Stops everything that runs on a loop which is not running now.

    Args:
        until: the point on the loop's clock at which grace is over.
        text: why everything ends, for the reports.
        by: who asked for it.
        run_loop: runs the loop until it is stopped.
    """

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        executor: DaemonExecutor,
        until: float,
        text: str,
        by: str | None,
        run_loop: Callable[[], None],
        policy: Policy = DEFAULT,
    ) -> None:
        self._loop = loop
        self._executor = executor
        self._until = until
        self._text = text
        self._by = by
        self._run_loop = run_loop
        self._policy = policy
        #: an exception that went through the loop meanwhile: of a handler of a signal, or of a callback that ends all
        self.stray: BaseException | None = None
        self._timers = timers_of(loop)
        self.timer_at = NEVER
        self.timer_bucket: dict[Entry, None] | None = None
        self._asked: dict[asyncio.Future[Any], _Asked] = {}
        self._left: set[asyncio.Task[Any]] = set()

    def hasten(self) -> None:
        """Grace is over now; on the loop's thread."""
        self._until = min(self._until, self._loop.time())
        for operation in [known for known in self._asked if isinstance(known, Operation)]:
            self._request(operation, self._until)
        self._loop.stop()

    def run(self) -> None:
        """Stop everything; returns within the rest of the grace and a little more than a second."""
        self._stop_work()
        self._close_generators()
        self._end_processes()
        self._wait_for_jobs()
        self._shut_down_other_executor()

    # --- operations and tasks

    def _stop_work(self) -> None:
        """Ask everything once, and what clean-up code starts in the meantime when the others have ended."""
        started = self._loop.time()
        while True:
            operations, tasks = self._running()
            if not operations and not tasks:
                return
            now = self._loop.time()
            fresh = now >= self._until or not any(known in self._asked for known in (*operations, *tasks))
            for operation in operations:
                if fresh and operation not in self._asked:
                    self._request(operation, now)
            due = self._ask(tasks, fresh, now)
            tasks_until = max(self._until, started + _LEAST)
            last = max(self._until, started) + self._policy.last + _GUARD
            if now >= tasks_until:
                self._give_up([task for task in tasks if now >= min(last, self._asked[task].since + _LITTLE)])
            promised = max(self._until + 2 * self._policy.last, started + self._policy.last)
            late = operations and all(operation._started_at > started for operation in operations)
            if now >= last or (late and now >= promised):  # what cleans up for ever may start another one each time
                for operation in operations:
                    _logger.error("%s did not end: at %s", operation.ref, at_line(operation.where()))
                    if operation.body is not None and operation.body.task is not None:
                        keep_alive_forever(operation.body.task)
                self._give_up([task for task in tasks if task not in self._left])
                return
            due = min([due, *(point for point in (tasks_until, promised) if now < point)])
            self._wait((*operations, *tasks), min(due, last))

    def _running(self) -> tuple[list[Operation[Any]], list[asyncio.Task[Any]]]:
        operations = [op for op in live if op.get_loop() is self._loop and not op.done()]
        tasks = [task for task in asyncio.all_tasks(self._loop) if task not in self._left and not _is_driver(task)]
        return operations, tasks

    def _request(self, operation: Operation[Any], now: float) -> None:
        self._asked[operation] = _Asked(now)
        operation.request(Kind.SHUTDOWN, self._text, self._by, operation._grace)
        operation.request(Kind.SHUTDOWN, self._text, self._by, max(0.0, self._until - now))

    def _ask(self, tasks: list[asyncio.Task[Any]], fresh: bool, now: float) -> float:
        """Cancel the plain tasks whose turn it is; returns when the next one is due."""
        due = now + self._policy.longest
        for task in tasks:
            asked = self._asked.get(task)
            if asked is None:
                if not fresh:
                    continue
                asked = self._asked[task] = _Asked(now)
                task.add_done_callback(self._task_ended)
            if asked.next <= now:
                # a plain one that was cancelled before may be in its clean-up; one of an operation was given up
                is_new = not asked.count and (not task.cancelling() or body_of(task) is not None)
                if is_new or not is_handling(task.get_coro(), asyncio.CancelledError):
                    task.cancel(self._text)
                asked.count += 1
                asked.next = now + self._policy.pause(asked.count)
            due = min(due, asked.next)
        return due

    def _task_ended(self, task: "asyncio.Task[Any]") -> None:
        if task.cancelled() or task in self._left:
            return
        error = task.exception()
        if error is not None and not is_a(error, (StopForced, KeyboardInterrupt, SystemExit)):
            self._loop.call_exception_handler(
                {"message": "unhandled exception during calloff.run() shutdown", "exception": error, "task": task}
            )

    def _give_up(self, tasks: list[asyncio.Task[Any]]) -> None:
        for task in tasks:
            self._left.add(task)
            keep_alive_forever(task)
            coro = task.get_coro()
            if body_of(task) is None:  # an operation's end was told when it was abandoned
                name = getattr(coro, "__qualname__", repr(coro))
                at = _at(stack_of(coro))
                _logger.warning("task %r (%s) does not end and was left%s", task.get_name(), name, at)

    # --- asynchronous generators

    def _close_generators(self) -> None:
        before = asyncio.all_tasks(self._loop)
        closing = self._loop.create_task(self._loop.shutdown_asyncgens())
        self._wait((closing,), max(self._until, self._soon), _TURNS)
        if closing.done():
            return
        still_open = [task for task in asyncio.all_tasks(self._loop) - before if task is not closing]
        for task in still_open:
            task.cancel()
        self._wait((closing,), self._soon, _TURNS)
        for task in still_open:
            if not task.done():
                keep_alive_forever(task)
                coro = task.get_coro()
                at = _at(stack_of(coro))
                _logger.warning("async generator %s does not close and was left%s", _generator_name(coro), at)
        if not closing.done():
            keep_alive_forever(closing)

    # --- processes

    def _end_processes(self) -> None:
        """End what was started by asyncio and left: asyncio kills it with its transport, which `asyncio.run` never ends."""
        processes = left_by(self._loop)
        if not processes:
            return
        started = self._loop.time()
        for process in processes:
            process.ask()
        self._wait_for_processes(processes, lambda: max(self._until, started + _LITTLE))
        for process in processes:
            if process.pending():
                process.kill()
        until = self._loop.time() + _LEAST
        self._wait_for_processes(processes, lambda: until)
        left = [process for process in processes if process.pending()]
        for process in left:
            process.hurry()
        last = self._soon
        self._wait_for_processes(left, lambda: last)
        for process in left:
            if process.pending():
                _logger.warning("%s, started by asyncio, and was left", process.describe())

    def _wait_for_processes(self, processes: list[Subprocess], at: Callable[[], float]) -> None:
        for process in processes:
            process.when_done(self._loop.stop)
        self._turn_until(lambda: all(process.over for process in processes), at)

    # --- the default executor

    def _wait_for_jobs(self) -> None:
        idle = threading.Event()

        def when_idle() -> None:
            idle.set()
            self._loop.call_soon_threadsafe(self._loop.stop)

        if self._executor.when_idle(when_idle):
            self._turn_until(idle.is_set, lambda: self._until)
        for job in self._executor.leave():
            state = "still runs" if job.started else "never got a thread"
            at = _at(job.where or (job.caller and (job.caller,)) or ())
            _logger.warning("%s, in the default executor, %s and was left%s", job.name, state, at)

    def _shut_down_other_executor(self) -> None:
        """The program may have set a default executor of its own (uvloop does not tell: it only closes that one)."""
        executor: ThreadPoolExecutor | None = getattr(self._loop, "_default_executor", None)
        if executor is None or executor is self._executor:
            return
        idle = threading.Event()

        def shut_down() -> None:
            executor.shutdown(wait=True)
            idle.set()
            if not self._loop.is_closed():
                self._loop.call_soon_threadsafe(self._loop.stop)

        threading.Thread(target=shut_down, daemon=True).start()
        self._turn_until(idle.is_set, lambda: self._until)  # what is left of it is told by `log_threads`

    # --- turning the loop

    @property
    def _soon(self) -> float:
        return self._loop.time() + _LITTLE

    def _wait(self, futures: "tuple[asyncio.Future[Any], ...]", at: float, turns: int = 0) -> None:
        """Run the loop until all are done, or until a point on its clock, or until somebody hastens.

        So many `turns` it makes in any case: where the machine held the program up, that point may have passed.
        """
        until = self._until
        waiting = {future for future in futures if not future.done()}

        def ended(future: "asyncio.Future[Any]") -> None:
            waiting.discard(future)
            if not waiting:
                self._loop.stop()

        for future in futures:
            future.add_done_callback(ended)
        self._turn_until(lambda: not waiting or self._until != until, lambda: at, turns)
        for future in futures:
            future.remove_done_callback(ended)

    def _turn_until(self, condition: Callable[[], bool], at: Callable[[], float], turns: int = 0) -> None:
        while not condition() and (turns > 0 or self._loop.time() < at()):
            turns -= 1
            self._timers.add(self, at())
            try:
                self._run_loop()
            except BaseException as error:
                self.stray = self.stray or error
            finally:
                self._timers.remove(self)

    def timer_due(self, now: float) -> None:
        """Time to look again. (On our own timer, beside which the interrupter keeps the kernel's.)

        The rest of this turn may block, and nothing else may be on the timer: so the kernel's has to go on.
        """
        self._loop.stop()
        self._timers.add(self, now)


class _Asked:
    """How often a plain task was cancelled (an operation: once), since when, and when its next turn is."""

    __slots__ = ("count", "next", "since")

    def __init__(self, now: float) -> None:
        self.count = 0
        self.since = now
        self.next = now


def log_threads(before: Iterable[threading.Thread]) -> None:
    """Tell which threads of the program, started in the meantime, will hold up the exit of the interpreter."""
    known = {*before}
    if (pool := sys.modules.get(_OURS)) is not None:
        known.update(pool.POOL.idle_threads())
    leave_executors(known)
    frames = next(looks(sys._current_frames))
    del frames[threading.get_ident()]  # it holds `frames`, and the two would keep what all threads have in their frames
    until = time.monotonic() + _LITTLE
    for thread in threading.enumerate():
        if thread in known or thread.daemon or thread is threading.current_thread() or is_manager(thread):
            continue
        if _has_nothing_to_do(frames.get(thread.ident or 0)):
            continue
        thread.join(max(0.0, until - time.monotonic()))  # it may be on its way out, or back to its pool
        if thread.is_alive() and not _has_nothing_to_do(next(looks(sys._current_frames)).get(thread.ident or 0)):
            at = _at(stack_of_frame(next(looks(sys._current_frames)).get(thread.ident or 0)))
            _logger.warning("thread %r is not a daemon and will hold up the exit of the interpreter%s", thread.name, at)


def _has_nothing_to_do(frame: FrameType | None) -> bool:
    """Whether this is where a thread of a pool waits for work: it goes when it is told so."""
    return frame is not None and frame.f_globals.get("__name__") in _POOLS


def _is_driver(task: "asyncio.Task[Any]") -> bool:
    """Whether an operation takes care of the end of this task."""
    body = body_of(task)
    return body is not None and not body.given_up


def _at(raw: RawStack) -> str:
    """`` at `` and the line, for the end of a message; nothing where no Python code is."""
    line = at_line(develop(raw))
    return f": at {line}" if line else ""


def _generator_name(closing: object) -> str:
    """The name of the generator whose ``aclose()`` this is; only the garbage collector knows."""
    for part in gc.get_referents(closing):
        if isinstance(part, AsyncGeneratorType):
            return part.__qualname__
    return repr(closing)


#: not imported for this: most programs have no thread of ours
_OURS = "calloff._places.thread.pool"
_POOLS = frozenset({ThreadPoolExecutor.__module__, _OURS})
