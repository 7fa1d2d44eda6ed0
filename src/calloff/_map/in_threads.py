"""Several items in one call of a thread: each with a context of its own, and nothing to be pickled.

The thread draws the next item from a deque, from whose other end those that wait behind a slow one are taken back; an item
is drawn by the one or the other. Function, result and the moment of its end are one step of C, so that force, which
arrives between two bytecodes, can't part a value from its item. The limit is that of the operation, whose deadline is set
anew for each item. After each the thread looks whether it had passed, or whether a stop was asked for, and goes no further
then. So a stop that was meant for one item never hits the next.
"""

from asyncio import AbstractEventLoop, CancelledError
from collections import deque
from collections.abc import Callable, Iterator
from contextvars import copy_context
from itertools import starmap
from operator import call
from time import monotonic
from types import CoroutineType
from typing import Any, Literal

from .._operation.operation import Operation, current_operation
from .._places.thread.body import ThreadWork, is_coroutine
from .._places.thread.call import HIDDEN
from .._places.thread.pool import POOL
from .._words.errors import StopForced
from .._words.outcome import Failed, Outcome, completed
from .._words.untouched import drop_frame
from .batches import QUIET, Batch, Batches
from .flight import Flight
from .window import Window

__all__ = ["InThreads", "ThreadBatch"]

#: seconds between two words of the thread
_SILENCE = 0.01


class InThreads(Batches):
    """The lane of a blocking function in threads."""

    def __init__(
        self,
        window: Window,
        start: Callable[..., Operation[Any]],
        batch: int | Literal["auto"],
        make: Callable[[Batches, list[Any], list[Any]], Batch] | None = None,
    ) -> None:
        super().__init__(window, start, batch, make or ThreadBatch)
        self.name = window.plan.name
        self.function = window.plan.function


class _Raised:
    """Stands for a value where there was an error."""

    __slots__ = ("error",)

    def __init__(self, error: BaseException) -> None:
        self.error = error


#: what is no value of a blocking function; of coroutines that are not made by `async def`, nobody can tell
_ODD = {_Raised, CoroutineType}


class ThreadBatch(Batch):
    """A batch in a thread."""

    def __init__(self, lane: Batches, items: list[Any], who: list[Any]) -> None:
        super().__init__(lane, items, who)
        assert isinstance(lane, InThreads)
        plan = lane.window.plan
        self._name = lane.name
        self._function = lane.function
        self._loop: AbstractEventLoop = lane.window.loop
        self._context = lane.window.context
        self._timeout = plan.timeout
        self._pending = deque(items)
        self._results: deque[tuple[Any, float]] = deque()
        self._read = 0
        self._is_busy = False
        #: how many items have begun, and when the last of them did
        self._run = 0, 0.0
        self._first = 0.0
        self._made = monotonic()
        work: ThreadWork[None] = ThreadWork(self._call_each, lane.name, POOL)
        self.operation = lane.start(work, timeout=plan.timeout, grace=lane.grace, patience=plan.patience)
        self.look_at(self._loop.time() + QUIET)

    # --- in the thread

    def _call_each(self) -> None:
        """Call the function with each item."""
        operation = current_operation.get()
        assert operation is not None
        self._first = monotonic()
        if self._first > self._made + QUIET:
            self._say()
        add = self._results.extend
        while True:
            try:
                add(zip(starmap(call, self._steps(operation)), iter(monotonic, None), strict=False))
                if not self._is_busy:
                    return
                self._failed(RuntimeError(f"{self._name} raised StopIteration"))  # which ended the step of C
            except (CancelledError, StopForced):
                raise
            except BaseException as error:
                if not self._is_busy:  # not of an item
                    raise
                drop_frame(error)
                self._failed(error)

    def _failed(self, error: BaseException) -> None:
        self._results.append((_Raised(error), monotonic()))

    def _steps(self, operation: Operation[Any]) -> Iterator[tuple[Any, ...]]:
        """Each item with what calls it; when it is asked for the next one, the result of the one before is there."""
        draw, function, timeout, behind = self._pending.popleft, self._function, self._timeout, self._lane.behind
        limits = operation._limits
        context = copy_context()
        number, now = self._run
        over = None if limits is None or not number else limits.deadline
        due = max(now, self._first) + _SILENCE
        while True:
            self._is_busy = False
            now = monotonic()
            if operation._stop is not None or (over is not None and now - behind >= over):
                return
            if now >= due:
                self._say()
                due = now + _SILENCE
            try:
                item = draw()
            except IndexError:
                return
            if limits is not None and timeout is not None:
                limits.timeout = timeout  # which the item before may have changed
                limits.deadline = over = now - behind + timeout
            number += 1
            self._is_busy = True
            self._run = number, now
            yield context.copy().run, function, item
            if limits is not None:
                over = limits.deadline

    def _say(self) -> None:
        """The loop may look."""
        try:
            self._loop.call_soon_threadsafe(self.heard, context=self._context)
        except RuntimeError:  # it was closed: nobody waits any more
            pass

    # --- on the loop

    def first(self) -> float:
        return self._first

    def began(self) -> float:
        number, began = self._run
        return began if number > self._read + len(self._results) else 0.0

    def has_more(self) -> bool:
        return bool(self._results)

    def read(self, *, all_of_it: bool) -> tuple[list[float], list[Any], bool]:
        take = self._results.popleft
        found = [take() for _ in range(len(self._results))]
        self._read += len(found)
        values = [value for value, _ in found]
        return [ended for _, ended in found], values, _ODD.isdisjoint(map(type, values))

    def outcome_of(self, flight: Flight, found: Any, report: Any) -> Outcome[Any] | None:
        if type(found) is _Raised:
            return Failed(found.error, report)
        if type(found) is CoroutineType:
            return Failed(is_coroutine(found, self._name), report)
        return completed(found, report)

    def take_back(self) -> int:
        count = 0
        while True:
            try:
                self._pending.pop()
            except IndexError:
                return count
            count += 1

    def land(self, outcome: Outcome[Any]) -> None:
        self._pending.clear()  # one that was abandoned may end after all
        super().land(outcome)


HIDDEN.update((ThreadBatch._call_each.__code__, ThreadBatch._steps.__code__))
