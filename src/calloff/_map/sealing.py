"""Items that run code of the program when they are pickled: one after the other, in a thread.

What `__reduce__`, `__getstate__` and the like do there may block, loop or raise. That is to be the end of that item only:
it has the limit and the stop of the map, and while it blocks, the loop and the other items go on. What is pickled goes
back to the window, from where it is launched like any other.
"""

from collections.abc import Callable
from typing import Any

from .._operation.operation import Operation
from .._words.outcome import Completed, Outcome
from .batches import Batches
from .flight import Flight
from .in_threads import InThreads, ThreadBatch
from .window import Window

__all__ = ["Sealing"]


class Sealing(InThreads):
    """A lane within that of a map in processes: it is stopped with it, and its operations belong to the same one."""

    def __init__(
        self, window: Window, start: Callable[..., Operation[Any]], name: str, seal: Callable[[Any], Any]
    ) -> None:
        super().__init__(window, start, "auto", _Batch)
        self.name = f"pickle items of {name}"
        self.function = seal


class _Batch(ThreadBatch):
    def __init__(self, lane: Batches, items: list[Any], who: list[Any]) -> None:
        self._sealed: list[Flight] = []
        super().__init__(lane, items, who)

    def read(self, *, all_of_it: bool) -> tuple[list[float], list[Any], bool]:
        ends, found, _ = super().read(all_of_it=all_of_it)
        return ends, found, False

    def outcome_of(self, flight: Flight, found: Any, report: Any) -> Outcome[Any] | None:
        outcome = super().outcome_of(flight, found, report)
        if not isinstance(outcome, Completed):
            return outcome
        flight.packed = outcome.value
        self._sealed.append(flight)
        return None

    def _tell(self, report: Any = None, *, all_of_it: bool = False) -> None:
        super()._tell(report, all_of_it=all_of_it)
        sealed, self._sealed = self._sealed, []
        if sealed:
            window = self._lane.window
            window.back([flight.item for flight in sealed], sealed)
            window.loop.call_soon(window.fill, context=window.context)
