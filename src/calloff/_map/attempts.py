"""Whether an item that did not complete is tried again: the program's `retry` is asked, and the item waits as that says.

`retry` is code of the program, and may block the event loop. So it is called in an operation of its own, never in a
callback: there it is interrupted as the body of an item would be, when its time (that of an item) is over, or the map is
called off. The operation ends when nobody is left to be asked about.
"""

from asyncio import Future
from collections import deque
from typing import TYPE_CHECKING, Any

from .._operation.ending import outcome_of
from .._operation.operation import current_operation
from .._words.duration import delay
from .._words.errors import ended_error
from .._words.outcome import Completed, Failed, Outcome
from .._words.reason import LIMITS
from .flight import Flight

if TYPE_CHECKING:
    from .plan import Retry
    from .window import Window

__all__ = ["Attempts"]

#: seconds: no event loop waits longer
_LONGEST = 366 * 86400.0


class Attempts:
    """The items of a map that did not complete and may be tried again."""

    def __init__(self, window: "Window", retry: "Retry") -> None:
        self._window = window
        self._retry = retry
        self._asked: deque[tuple[Flight, Outcome[Any]]] = deque()
        self._is_asking = False

    def ask(self, flight: Flight, outcome: Outcome[Any]) -> None:
        """Find out about an item that has just ended."""
        self._window.waiting += 1
        self._asked.append((flight, outcome))
        if not self._is_asking:
            self._begin()

    def _begin(self) -> None:
        self._is_asking = True
        window, plan = self._window, self._window.plan
        operation = window.start(self._ask_each(), name=f"retry of {plan.name}", grace=plan.grace)
        operation.add_done_callback(self._all_asked, context=window.context)

    async def _ask_each(self) -> None:
        window, limit = self._window, self._window.plan.timeout
        operation = current_operation.get()
        assert operation is not None
        while self._asked and not window.closed:
            flight, outcome = self._asked[0]
            if limit is not None and operation.reason is None:
                operation.reschedule(limit)
            try:
                pause = self._retry(outcome, flight.attempt)
                if pause is not None:
                    pause = delay(pause, "what retry returns")
                    if pause > _LONGEST:
                        raise ValueError(
                            f"what retry returns must be at most a year, not {pause:g} s; None is for never"
                        )
            except BaseException as error:
                if operation.reason is not None:
                    raise
                window.abort(error)
                return
            self._asked.popleft()
            if pause is None:
                self._give_up(flight, outcome)
            else:
                flight.attempt += 1
                window.loop.call_later(pause, self._rested, flight, context=window.context)

    def _all_asked(self, operation: "Future[Any]") -> None:
        """It has ended: all were asked about, or it was called off, or the map is."""
        outcome: Outcome[Any] = outcome_of(operation)  # type: ignore[arg-type]  # it is an operation
        window = self._window
        self._is_asking = False
        if isinstance(outcome, Failed):
            window.abort(outcome.error)
        elif isinstance(outcome, Completed):
            if self._asked and not window.closed:  # since its last look
                self._begin()
                return
        elif outcome.report.reason.kind in LIMITS:
            window.abort(ended_error(outcome.operation, outcome.report))
        while self._asked:
            self._give_up(*self._asked.popleft())
        window.fill()

    def _give_up(self, flight: Flight, outcome: Outcome[Any]) -> None:
        self._window.waiting -= 1
        self._window.deliver(flight, outcome)

    def _rested(self, flight: Flight) -> None:
        self._window.waiting -= 1
        self._window.try_again(flight)
