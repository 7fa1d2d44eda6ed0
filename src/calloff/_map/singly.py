"""One operation for each item."""

import asyncio
from asyncio import Future
from collections.abc import Callable
from types import CoroutineType
from typing import Any

from .._operation.ending import outcome_of
from .._operation.operation import Operation, current_operation
from .._operation.waiting import settled
from .._places.task.body import TaskBody
from .._words.outcome import Failed, Outcome
from .._words.reason import Kind, Reason
from .flight import Flight
from .window import Window

__all__ = ["Singly"]


class Singly:
    """A lane: every item in an operation of its own."""

    def __init__(self, window: Window, start: Callable[..., Operation[Any]]) -> None:
        self._window = window
        self._start = start
        self._flying: dict[Future[Any], Flight] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        plan = window.plan
        self._make = plan.make
        self._numbered = plan.numbered
        self._limits = plan.timeout, plan.stall, min(plan.grace, Operation.policy.longest_grace)
        self._now = window.loop.time
        #: the operation that the items belong to, known before the first is started
        self.owner: Operation[Any] | None = None

    def launch(self) -> bool:
        """Start the next item."""
        window = self._window
        flight = window.draw()
        if flight is None:
            return False
        if window.plan.within is not None:
            task = window.loop.create_task(self._held(flight, window.plan.within))
            self._tasks.add(task)
            task.add_done_callback(self._released, context=window.context)
            return True
        try:
            operation = self._begin(flight)
        except Exception as error:
            window.ended(flight, Failed(error))
            window.landed()
        else:
            self._flying[operation] = flight
            operation.add_done_callback(self._landed, context=window.context)
        return True

    def _begin(self, flight: Flight) -> Operation[Any]:
        flight.since = self._now()
        item = flight.item
        work = self._make(item, flight.number + 1) if self._numbered else self._make(item)
        if type(work) is CoroutineType and not work.cr_suspended:  # what `start` would do, without its questions
            body = TaskBody(work)
            return Operation(body, body.name, self._window.loop, *self._limits, self.owner)
        timeout, stall, grace = self._limits
        return self._start(work, timeout=timeout, stall=stall, grace=grace)

    def _landed(self, operation: "Future[Any]") -> None:
        flight = self._flying.pop(operation)
        flight.seconds = self._now() - flight.since
        window = self._window
        window.ended(flight, outcome_of(operation))  # type: ignore[arg-type]  # it is an operation
        window.landed()

    # --- with something that is held around each item

    async def _held(self, flight: Flight, within: Callable[[Any], Any]) -> None:
        """Hold what belongs to the item, from before its start to its confirmed end."""
        outcome: Outcome[Any] | None = None
        try:
            async with within(flight.item):
                operation = self._begin(flight)
                self._flying[operation] = flight
                cancelled = await settled(lambda: (operation,), lambda error: self._call_off(operation, str(error)))
                outcome = outcome_of(operation)
                flight.seconds = self._now() - flight.since
                del self._flying[operation]
                if cancelled is not None:
                    raise cancelled
        except Exception as error:
            outcome = Failed(error)
        finally:
            if outcome is not None:
                self._window.ended(flight, outcome)
            else:  # called off before it began
                self._window.back([flight])

    def _released(self, task: "asyncio.Task[None]") -> None:
        self._tasks.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            self._window.abort(error)
        self._window.landed()

    # --- the end

    def _call_off(self, operation: Operation[Any], text: str) -> None:
        caller = current_operation.get()
        operation.cancel(Reason(Kind.PARENT, text, None if caller is None else str(caller.ref)))

    def stop(self, text: str) -> None:
        """Call off every operation that is in flight."""
        for task in tuple(self._tasks):
            task.cancel(text)
        for operation in tuple(self._flying):
            assert isinstance(operation, Operation)
            self._call_off(operation, text)

    def close(self) -> None:
        """Everything has ended."""
