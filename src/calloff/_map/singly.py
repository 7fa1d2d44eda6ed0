"""One operation for each item."""

import asyncio
from asyncio import Future
from collections.abc import Callable
from typing import Any

from .._operation.operation import Operation, current_operation
from .._operation.waiting import settled
from .._words.outcome import Failed, Outcome
from .._words.reason import Kind, Reason
from .flight import Flight
from .window import Window

__all__ = ["Singly"]


class Singly:
    """A lane: every launch is one item in an operation of its own."""

    size = 1

    def __init__(self, window: Window, start: Callable[..., Operation[Any]]) -> None:
        self._window = window
        self._start = start
        self._flying: dict[Future[Any], Flight] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        plan = window.plan
        self._make = plan.make
        self._numbered = plan.numbered
        self._limits: dict[str, Any] = {"timeout": plan.timeout, "stall": plan.stall, "grace": plan.grace}

    def launch(self, flights: list[Flight]) -> None:
        """Start the one item."""
        (flight,) = flights
        if self._window.plan.within is not None:
            task = self._window.loop.create_task(self._held(flight, self._window.plan.within))
            self._tasks.add(task)
            task.add_done_callback(self._released, context=self._window.context)
            return
        try:
            operation = self._begin(flight)
        except Exception as error:
            self._over(flight, Failed(error))
        else:
            self._flying[operation] = flight
            operation.add_done_callback(self._landed, context=self._window.context)

    def _begin(self, flight: Flight) -> Operation[Any]:
        flight.since = self._window.loop.time()
        item = flight.item
        work = self._make(item, flight.number + 1) if self._numbered else self._make(item)
        return self._start(work, **self._limits)

    def _landed(self, operation: "Future[Any]") -> None:
        assert isinstance(operation, Operation)
        self._over(self._flying.pop(operation), operation._outcome())

    def _over(self, flight: Flight, outcome: Outcome[Any]) -> None:
        self._window.ended(flight, outcome)
        self._window.landed()

    # --- with something that is held around each item

    async def _held(self, flight: Flight, within: Callable[[Any], Any]) -> None:
        """Hold what belongs to the item, from before its start to its confirmed end."""
        outcome: Outcome[Any] | None = None
        try:
            async with within(flight.item):
                operation = self._begin(flight)
                self._flying[operation] = flight
                cancelled = await settled(lambda: (operation,), lambda error: self._call_off(operation, str(error)))
                outcome = operation._outcome()
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
