"""What is to be raised in code that blocks the event loop, and which steps are taken for the loop that does not turn.

`Interrupter` finds that the loop is blocked, by what, and when an exception does no harm there; here is decided whether one
is due. First what belongs to the code by itself: the ladder of its operation, or of one that waits for it; then the blocks
(`timeout`) around it, and those of other tasks that wait for it; at last whoever ends the whole program.
"""

import asyncio
import logging
import sys
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from typing import Any
from weakref import WeakKeyDictionary

from ..._scopes.scope import overdue_scope
from ..._scopes.timers import Timers
from ..._words.place import Sink
from ..._words.policy import Policy
from .body import TaskBody
from .on_stack import interrupt_plain, is_held_up
from .stack import stems_from

__all__ = ["Decider"]

_logger = logging.getLogger("calloff")


class Decider:
    """Decides what is to be raised in the code that blocks one event loop.

    Args:
        timers: of the loop.
        current: the operation that the running code belongs to.
        policy: the pauses between two askings of the same task.
        run_calls: make the calls that other threads have ordered for the loop.

    Attributes:
        last_resort: asked, with the task that blocks the loop (``None``: a callback does), when none of its limits is due;
            what it returns is raised there. It may also ask the operation of that task to stop.
        ends_at: tells the point on the clock of the loop at which all is to be over.
    """

    def __init__(
        self, timers: Timers, current: Callable[[], Any], policy: Policy, run_calls: Callable[[], object]
    ) -> None:
        self.last_resort: Callable[[asyncio.Task[Any] | None], BaseException | None] | None = None
        self.ends_at: Callable[[], float] | None = None
        self._timers = timers
        self._current = current
        self._policy = policy
        self._run_calls = run_calls
        #: the tasks that are no operations and were cancelled: how often, and when again
        self._asked: WeakKeyDictionary[asyncio.Task[Any], tuple[int, float]] = WeakKeyDictionary()

    def decide(self, task: "asyncio.Task[Any] | None", coro: Any, now: float) -> BaseException | None:
        """What is to be raised in the step of `task`, whose body or coroutine is `coro`, that blocks the loop."""
        if task is None:
            with suppress(IndexError):  # one that a signal handler has made meanwhile
                self._run_calls()
            return None if self.last_resort is None else self.last_resort(None)
        run = coro.interrupt if isinstance(coro, TaskBody) else partial(interrupt_plain, coro)
        resort = self.last_resort
        try:
            error = run(partial(self._take_steps, coro, now))
            if error is None and (scope := overdue_scope(now)):
                error = scope.interrupting()
            if error is None and not isinstance(coro, TaskBody):
                error = self._for_a_block(task, coro, now)
            if error is None and resort is not None:
                raised: list[BaseException | None] = []
                error = run(lambda: raised.append(resort(task))) or raised[0]
            return error
        except Exception:
            _logger.exception("interrupting what blocks the event loop failed")
            return None

    def is_over(self, coro: Any, now: float) -> bool:
        """Whether what blocks the loop has had all its grace: it is to be ended even where an exception does harm."""
        try:
            with suppress(IndexError):  # one that a signal handler has made meanwhile
                self._run_calls()
            operation = self._operation_of(coro)
            is_over = operation is not None and operation.is_over(now)
            return is_over or (self.ends_at is not None and self.ends_at() <= now)
        except Exception:
            _logger.exception("whether what blocks the event loop is to be ended could not be found out")
            return False

    def _operation_of(self, coro: Any) -> Sink | None:
        """Return the operation whose body blocks, or waits for the task that does."""
        if isinstance(coro, TaskBody):
            return coro.sink
        operation = self._current()
        body = None if operation is None else operation.body
        return operation if isinstance(body, TaskBody) and body.waits_for(coro) else None

    def _take_steps(self, coro: Any, now: float) -> None:
        """The operation whose body blocks, or waits for the task that does, takes the steps that are due."""
        self._run_calls()
        operation = self._operation_of(coro)
        if operation is not None:
            operation.blocked(now)

    def _for_a_block(self, task: "asyncio.Task[Any]", coro: Any, now: float) -> BaseException | None:
        """What is to be raised in a plain task that blocks, when a block of another one waits for it and is overdue.

        It is cancelled for that block, which can't be called off before the loop turns; and again, with back-off, where
        it refuses, unless it is in its clean-up.
        """
        count, due = self._asked.get(task, (0, 0.0))
        if now < due or stems_from(sys.exception(), asyncio.CancelledError):
            return None
        for entry in self._timers.late(now):
            host: asyncio.Task[Any] | None = getattr(entry, "timer_host", None)
            if host is not None and host is not task and is_held_up(host, coro, through_shields=False):
                self._asked[task] = count + 1, now + self._policy.pause(count + 1)
                return asyncio.CancelledError()
        return None
