"""One program under `run`: its main operation, the signals that ask for its end, what blocks its loop, and the end.

A handler of a signal does nothing but hand a call to the loop (`Timers.call`, which reaches a blocked loop, too).
"""

import asyncio
import contextvars
import os
import signal
from asyncio import AbstractEventLoop
from collections.abc import Callable
from contextlib import ExitStack, suppress
from functools import partial
from math import inf
from typing import Any, Generic, TypeVar

from .._operation.ending import outcome_of
from .._operation.loops import adopt
from .._operation.operation import Operation, current_operation
from .._operation.registry import live
from .._places.daemon_executor import DaemonExecutor
from .._places.task.body import body_of
from .._places.task.interrupt import Interrupter
from .._places.task.on_stack import ForSure
from .._scopes.timers import NEVER, Entry
from .._words.errors import StopForced
from .._words.outcome import Failed, Outcome
from .._words.policy import DEFAULT
from .._words.reason import Kind
from .._words.untouched import is_a
from .ending import Ending
from .notify import Notifier
from .signals import Conductor, SignalWatch

__all__ = ["Program"]

T = TypeVar("T")
#: the part of the grace that somebody else who has taken a signal has for it, before `main` is asked to stop
_PATIENCE = 0.75
#: how long what is no operation and blocks the loop at the end has for its clean-up, twice, before nothing helps it
_HIT_PAUSE = DEFAULT.last / 2


class Program(Generic[T]):
    """One call of `run`.

    Attributes:
        watch: hears the signals while it is installed.
        signum: the first signal that asked for the end.
    """

    def __init__(
        self,
        loop: AbstractEventLoop,
        begin: Callable[[], Operation[T]],
        on_start: Callable[[Operation[T]], object] | None,
        grace: float,
        interrupt: bool,
        conductor: Conductor | None,
        notifier: Notifier | None,
    ) -> None:
        self._loop = loop
        self._process = os.getpid()
        self._conductor = conductor
        self._notifier = notifier
        self._timers = adopt(loop)
        self._begin = begin
        self._on_start = on_start
        self._grace = grace
        caller = SignalWatch.run_loop.__code__
        self._interrupter = Interrupter(loop, current_operation.get, caller=caller) if interrupt else None
        self._executor = DaemonExecutor()
        self._operation: Operation[T] | None = None
        self._ending: Ending | None = None
        self._above: Operation[Any] | None = None
        self._error: BaseException | None = None
        self.signum: int | None = None
        self._signals = 0
        self._first_at = inf
        #: how many signals others have taken, and have not handed on; and how long they may take for the first
        self._not_handed_on = 0
        self._patience_at = inf
        self.timer_at = NEVER
        self.timer_bucket: dict[Entry, None] | None = None
        self.watch = SignalWatch(loop, self._on_signal, self._on_foreign_signal)
        self._forced_at = inf
        #: since when everything is to end, and the point at which it is to be over
        self._ends_since = inf
        self._ends_at = inf
        self._hits: dict[asyncio.Task[Any] | None, tuple[int, float]] = {}

    def run(self) -> tuple[Outcome[T], int | None]:
        """Run it to its end."""
        loop = self._loop
        loop.set_default_executor(self._executor)
        with ExitStack() as stack:
            if self._interrupter is not None and self._interrupter.install():
                self._interrupter.decider.last_resort = self._unblock
                self._interrupter.decider.ends_at = lambda: self._ends[1]
                stack.callback(self._interrupter.remove)
            if self._notifier is not None:
                stack.callback(self._notifier.close)
            self._hear_from_above(stack)
            loop.call_soon(self._start, context=contextvars.copy_context())
            try:
                self.watch.run_loop()
            except BaseException as error:  # of a callback, or of a handler of a signal: a limit from outside, say
                self._error = error
                self._wind_up(error, stack)
            return self._end() if os.getpid() == self._process else self._leave_to_parent(), self.signum

    def _start(self) -> None:
        try:
            self._operation = operation = self._begin()
            operation.add_done_callback(self._main_ended)
            _mark_root(operation)
            if self.signum is not None:  # it came before there was anything to ask
                self._shut_down(self._loop.time())
            if self._above is not None and self._above.is_asked():
                self._stop_with(self._above, False)
            if self._notifier is not None:
                self._notifier.began()
            if self._on_start is not None:
                self._on_start(operation)
        except BaseException as error:
            self._error = error
            self._loop.stop()

    def _main_ended(self, _: object) -> None:
        if self._ending is None:
            self._loop.stop()
            if self.timer_at == NEVER:  # what is called before the loop stops may block it
                self._timers.add(self, self._loop.time() + self._grace)

    # --- the end

    def _end(self) -> Outcome[T]:
        """Stop what is left; the outcome of the main operation, or the error that broke the program."""
        operation, loop = self._operation, self._loop
        now = loop.time()
        if operation is not None and operation.done():
            report = operation.report
            since = now if report is None else report.requested_at
            why = f"{operation.name!r} ended"
        else:
            since, why = now, "the event loop was stopped"
        self._ends_since = min(self._ends_since, now)
        self._ends_at = min(self._ends_at, since + self._grace)
        name = self._signal_name
        self._timers.remove(self)
        if self._notifier is not None:
            self._notifier.stopping()
        self._ending = Ending(loop, self._executor, self._ends_at, name or why, name, self.watch.run_loop)
        self._ending.run()
        outcome = None if operation is None or not operation.done() else outcome_of(operation)
        error = self._error or self._ending.stray
        if error is not None and not (isinstance(outcome, Failed) and outcome.error is error):
            raise error
        if outcome is None:
            raise RuntimeError("the event loop was stopped before the main operation ended")
        return outcome

    def _wind_up(self, error: BaseException, stack: ExitStack) -> None:
        """Until the end, tell the worker whose request has broken the program off that this is the clean-up.

        The error is kept meanwhile, not handled: what the tasks that are left raise has nothing to do with it.
        """
        worker: Any = current_operation.get()
        if is_a(error, asyncio.CancelledError) and worker is not None and not isinstance(worker, Operation):
            worker.winds_up = True
            stack.callback(setattr, worker, "winds_up", False)

    def _leave_to_parent(self) -> Outcome[T]:
        """The same in a child that was forked meanwhile: all that runs is its parent's, which goes on with it."""
        if self._operation is None or not self._operation.done() or self._error is not None:
            raise self._error or RuntimeError("the event loop was stopped before the main operation ended")
        return outcome_of(self._operation)

    # --- the operation in whose thread the program runs

    def _hear_from_above(self, stack: ExitStack) -> None:
        """A stop of the operation that calls `run` in a thread is a stop of `main`: nothing else reaches its loop."""
        above = current_operation.get()
        if not isinstance(above, Operation) or above.done():
            return
        from .._operation.on_stop import on_stop

        def ask(*, force: bool = False) -> None:
            with suppress(RuntimeError):  # the loop is closed: the program has ended meanwhile
                self._timers.call(self._stop_with, above, force)

        ask.__qualname__ = "calloff.run"
        block = on_stop(ask, force=partial(ask, force=True))
        block.__enter__()
        self._above = above
        stack.callback(block.__exit__, None, None, None)  # what `main` raises is its own matter

    def _stop_with(self, above: Operation[Any], force: bool) -> None:
        """Ask the main operation to stop, with the grace that the one above has left; on the loop's thread."""
        now = self._loop.time()
        left = 0.0 if force else max(0.0, above.grace_left())
        self._ends_since = min(self._ends_since, now)
        self._ends_at = min(self._ends_at, now + left)
        main = self._main
        if main is not None:
            main.request(Kind.PARENT, above.asked_for(), str(above.ref), left)
        if self._ending is not None and force:
            self._ending.hasten()

    # --- signals

    @property
    def _main(self) -> Operation[Any] | None:
        """The main operation; when its first step runs eagerly, there is no handle yet: then the first of this loop."""
        return self._operation or next((known for known in live if known.get_loop() is self._loop), None)

    @property
    def _signal_name(self) -> str | None:
        return None if self.signum is None else signal.Signals(self.signum).name

    def _on_signal(self, signum: int) -> None:
        """In the handler: a signal came, or one that somebody else took at first was handed on."""
        if self._loop.is_closed():
            return
        if self._not_handed_on:
            self._not_handed_on -= 1
            self._timers.call(self._shut_down, self._first_at)
            return
        self._count_signal(signum)
        if self._conductor is not None and self._ending is None:
            self._timers.call(self._conductor.signalled, signum)
        else:
            self._timers.call(self._shut_down, self._loop.time())

    def _on_foreign_signal(self, signum: int) -> None:
        """On the loop: a signal came for whose handler somebody else cares, who has most of the grace for it."""
        self._not_handed_on += 1
        self._count_signal(signum)
        now = self._loop.time()
        if self._signals > 1 or self._ending is not None:
            self._shut_down(now)
        else:
            self._ends_at = min(self._ends_at, now + self._grace)
            self._patience_at = now + self._grace * _PATIENCE
            self._timers.add(self, self._patience_at)

    def timer_due(self, now: float) -> None:
        """Whoever took the signal has had time enough."""
        self._shut_down(self._first_at)

    def _count_signal(self, signum: int) -> None:
        now = self._loop.time()
        self._signals += 1
        if self.signum is None:
            self.signum = signum
            self._first_at = now
        if self._signals == 2:
            self._forced_at = now
        elif now > self._forced_at + DEFAULT.last:  # nothing has helped
            signal.signal(signum, signal.SIG_DFL)
            signal.raise_signal(signum)
            os._exit(128 + signum)  # the first process of a container: no default action ends it

    def _shut_down(self, asked_at: float) -> None:
        """Ask the main operation to stop, or hasten what is going on; on the loop's thread."""
        now = self._loop.time()
        if self._notifier is not None:
            self._notifier.stopping()
        self._patience_at = inf
        self._timers.remove(self)
        force = self._signals > 1 or self._ending is not None
        self._ends_since = min(self._ends_since, asked_at)
        self._ends_at = min(self._ends_at, now if force else asked_at + self._grace)
        main = self._main
        if main is not None:
            name = self._signal_name or ""
            main.request(Kind.SHUTDOWN, name, name, 0.0 if force else max(0.0, asked_at + self._grace - now))
        if self._ending is not None:
            self._ending.hasten()

    # --- what blocks the loop while everything is to end

    def _unblock(self, task: "asyncio.Task[Any] | None") -> BaseException | None:
        """Stop what blocks the loop: an operation of before the end was asked for at once, the rest when it is due."""
        now = self._loop.time()
        if now >= self._patience_at:
            self._shut_down(self._first_at)
        ends_since, ends_at = self._ends
        body = None if task is None else body_of(task)
        if body is None:
            return self._hit(task, ends_at, now)
        if now >= ends_since:
            operation: Any = body.sink
            if now >= ends_at or operation._started_at <= ends_since:
                name = self._signal_name or "the program ends"
                operation.request(Kind.SHUTDOWN, name, name, max(0.0, ends_at - now))
        return None

    @property
    def _ends(self) -> tuple[float, float]:
        """Since when everything is to end, and when that is to be over, while something keeps the loop from saying so."""
        since, at = self._ends_since, self._ends_at
        if self._conductor is not None:
            since, at = min(since, self._conductor.ends_since), min(at, self._conductor.ends_at)
        main = self._operation
        if main is not None and main._ended_at is not None:  # and something else keeps the loop from its end
            return min(since, main._ended_at), min(at, main._ended_at + self._grace)
        if main is not None and (force_at := main.force_at) is not None:  # something else keeps its timer from it
            at = min(at, force_at)
            since = min(since, at)
        return since, at

    def _hit(self, task: "asyncio.Task[Any] | None", ends_at: float, now: float) -> BaseException | None:
        """What is raised in a plain task or a callback that blocks the loop, harder each time, when all is to be over."""
        if now < ends_at:
            return None
        count, again = self._hits.get(task, (0, now))
        if now < again:
            return None
        self._hits[task] = count + 1, now + _HIT_PAUSE
        if task is not None and not count:
            task.add_done_callback(_forced)
        return asyncio.CancelledError() if not count and task is not None else StopForced() if count < 2 else ForSure()


def _forced(task: "asyncio.Task[Any]") -> None:
    """It was forced: whoever holds it may ask, and nobody need."""
    if not task.cancelled():
        error = task.exception()
        if error is not None and not is_a(error, StopForced):
            task.get_loop().call_exception_handler(
                {"message": "a task that blocked the end of calloff.run() failed", "exception": error, "task": task}
            )


def _mark_root(operation: Operation[Any]) -> None:
    """Give the main task the callback that ``loop.run_until_complete`` gives it.

    anyio looks for it to find the root task, whose life is that of its worker threads. Without one they live as long as the
    task that needs them, and each request of a server starts a thread of its own.
    """
    task = None if operation.body is None else operation.body.task
    mark = getattr(asyncio.base_events, "_run_until_complete_cb", None)
    if task is not None and mark is not None:
        task.add_done_callback(mark)  # which stops the loop; that has been done then
