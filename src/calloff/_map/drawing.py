"""Which item is next: what is taken from the source, or was offered by what reads it, and what is to be tried again.

A source that never blocks is drawn from as there is room. One that may wait or block is read by an operation of its own
(the pump of `results`), which *offers* the items; with an output it does so with every source, since finding out by what an
item is known runs code of the program (`key`, what the item's own class says), which may block, too, and is reached there.
"""

from collections import deque
from collections.abc import Iterator
from itertools import islice
from typing import TYPE_CHECKING, Any

from .._words.bears import bears
from .._words.outcome import Failed, Outcome
from .flight import Flight, Wrong, flight_of
from .plan import Plan

if TYPE_CHECKING:
    from .journal import Journal

__all__ = ["Drawing"]


class Drawing:
    """The part of a `Window` between the source and the start of an item."""

    def __init__(self, plan: Plan, journal: "Journal | None") -> None:
        self.plan = plan
        self.journal = journal
        #: what never blocks; else the items are offered
        self.source: Iterator[Any] | None = None
        #: how many items there are, where that is known
        self.total: int | None = None
        #: what was offered and not started yet: an item, or with an output its flight
        self.offered: deque[Any] = deque()
        self.more = True
        self.error: BaseException | None = None
        self._again: deque[Flight] = deque()
        self._drawn = 0
        self._number = 0
        self._running = self._skipped = self._failed_before = 0

    def ended(self, flight: Flight, outcome: Outcome[Any]) -> None:
        """An item has ended."""
        raise NotImplementedError

    def _has_room(self) -> bool:
        raise NotImplementedError

    @bears
    def offer(self, item: Any) -> None:
        """Take an item of the source; raises what finding out by what it is known raises."""
        journal = self.journal
        if journal is None:
            self.offered.append(item)
            return
        number = self._number
        self._number = number + 1
        flight = Flight(item.text if type(item) is Wrong else item, number, 0)
        flight.key = journal.key_of(flight.item, number)
        if journal.has(flight.key, number):
            self._skipped += 1
            self._failed_before += journal.failed(flight.key, number)
        elif type(item) is Wrong:
            item.flight = flight
            self.offered.append(item)
        else:
            self.offered.append(flight)

    def draw(self) -> Flight | None:
        """The next item to start, if there is one and room for it."""
        while True:
            if self._again:
                self._running += 1
                return self._again.popleft()
            if not self._has_room():
                return None
            if self.source is not None:
                if not self.more:
                    return None
                try:
                    item = next(self.source)
                except StopIteration:
                    self.more = False
                    return None
                except Exception as error:
                    self.fail(error)
                    return None
            elif self.offered:
                item = self.offered.popleft()
            else:
                return None
            if type(item) is Wrong:
                self._refuse(item)
                continue
            if type(item) is Flight:
                flight = item
                flight.place = self._drawn
            else:
                flight = Flight(item, self._number, self._drawn)
                self._number += 1
            self._drawn += 1
            self._running += 1
            return flight

    def draw_many(self, most: int) -> tuple[list[Any], list[Any]]:
        """The next items, up to so many; and of each its number, or its flight where more is known of it."""
        if self.journal is None and not self._again and self._has_room():
            return self._draw_fresh(most)
        items: list[Any] = []
        flights: list[Any] = []
        while len(items) < most and (flight := self.draw()) is not None:
            items.append(flight.item)
            flights.append(flight)
        return items, flights

    def _draw_fresh(self, most: int) -> tuple[list[Any], list[Any]]:
        """The same from the source alone, where nobody asks whether an item was done before."""
        items: list[Any] = []
        source, offered = self.source, self.offered
        if source is None:
            items = [offered.popleft() for _ in range(min(most, len(offered)))]
        elif self.more:
            try:
                items.extend(islice(source, most))  # those before an error are there, too
                self.more = len(items) == most
            except Exception as error:
                self.fail(error)
        if Wrong in map(type, items):
            found, items, numbers = items, [], []
            for item in found:
                if type(item) is Wrong:
                    self._refuse(item)
                else:
                    items.append(item)
                    numbers.append(self._number)
                    self._number += 1
                    self._drawn += 1
                    self._running += 1
            return items, numbers
        number = self._number
        self._number = number + len(items)
        self._drawn += len(items)
        self._running += len(items)
        return items, list(range(number, self._number))

    def _refuse(self, wrong: Wrong) -> None:
        """What is no item fails, under its number."""
        flight = wrong.flight
        if flight is None:
            flight = Flight(wrong.text, self._number, self._drawn)
            self._number += 1
        flight.place, flight.attempt = self._drawn, 0
        self._drawn += 1
        self._running += 1
        self.ended(flight, Failed(wrong.error))

    def fail(self, error: BaseException) -> None:
        """The source is broken: what is in flight goes to its end, then the error is raised."""
        self.more = False
        if isinstance(error, (StopIteration, StopAsyncIteration)):  # which would look like an end
            odd, error = error, RuntimeError(f"the items raised {type(error).__name__}")
            error.__cause__ = odd
        if self.error is None:
            self.error = error

    def back(self, items: list[Any], who: list[Any]) -> None:
        """They were launched and never began."""
        self._running -= len(items)
        self._again.extendleft(map(flight_of, reversed(items), reversed(who)))

    def ahead(self) -> int | None:
        """How many items the source has left, where that is known."""
        if self.total is None:
            return None
        left = self.total - self._number
        return max(0, left if self.journal is None else left + len(self.offered))
