"""Several items in one operation, with the limit, the stop and the outcome of each of them kept.

A function that takes a microsecond costs a hundred when it is called alone in a process or thread. So as many items as take
about 100 ms are given there at a time, or 250 where it is known how many there are, as long as they have no end of their
own to wait for. `in_processes` and `in_threads` say how they are called and how their results come back. When the operation
is stopped or dies, the item that ran is the only one to be lost; those behind it, which had not begun, go elsewhere. The
limit of an item is watched here, from the moment its function began. Nor do those behind a slow item wait for it: they are
taken back and go elsewhere, too.
"""

import time
from asyncio import Future, TimerHandle
from collections.abc import Callable
from functools import partial
from typing import Any, Literal

from .._operation.ending import outcome_of
from .._operation.operation import Operation
from .._words.outcome import Abandoned, Cancelled, Completed, Failed, Outcome, completed
from .._words.reason import TURN, Kind, Reason
from .._words.state import State
from .flight import Flight, flight_of
from .window import Window

__all__ = ["Batch", "Batches"]

#: seconds that the items of a batch take together; more where the shares at the end can be made equal, since it is known
#: how many items there are; with an output less, since what is not yet told is lost with us
_WORTH, _WORTH_KNOWN, _WORTH_WRITTEN = 0.1, 0.25, 0.005
#: seconds that the items of the last batches take, at least
_LEAST = 0.005
#: seconds after which an item is a slow one, for which those behind it do not wait; at least so many until the next look
_SLOW, _SOON = 0.05, 0.01
_MOST = 4096
#: seconds after a word of the place, within which it gives another one before it begins with a further item
QUIET = 0.04
#: seconds that the import of a function gets in a worker beyond the limit of its first item
READY = 30.0
#: how often a batch may come back without having begun before its first item is blamed
_BARREN = 3


class Batches:
    """A lane: up to `size` items in an operation of their own."""

    owner: Operation[Any] | None = None

    def __init__(
        self,
        window: Window,
        start: Callable[..., Operation[Any]],
        batch: int | Literal["auto"],
        make: "Callable[[Batches, list[Any], list[Any]], Batch]",
    ) -> None:
        self.window = window
        self.start = start
        #: the limit of an item that is watched here; ``None`` where the operation sees to it
        self.limit: float | None = None
        self.grace = window.plan.grace
        #: how far the clock of the loop is behind that of the workers
        behind = time.monotonic() - window.loop.time()
        self.behind = behind if abs(behind) > 1 else 0.0  # what is less is how old that time is
        self._make = make
        self._fixed = None if batch == "auto" else batch
        self._worth = _WORTH_WRITTEN if window.journal is not None else _WORTH if window.total is None else _WORTH_KNOWN
        self._mean: float | None = None
        self._running: dict[Future[Any], Batch] = {}
        #: those that have ended, but for results that are not there yet
        self._late: set[Batch] = set()
        self.barren = 0

    @property
    def size(self) -> int:
        """As many as take long enough; few at first, when nothing is known, and towards the end, for equal shares."""
        if self._fixed is not None:
            return self._fixed
        mean = self._mean
        if mean is None:
            return 1
        size = min(_MOST, int(self._worth / mean)) if mean > 0 else _MOST
        left = self.window.ahead()
        if left is not None:  # the last shares are no smaller than what is worth it
            share = left // (2 * self.window.jobs)
            size = min(size, max(share, min(left // self.window.jobs, int(_LEAST / mean) if mean > 0 else left)))
        return max(1, size)

    def took(self, seconds: float, items: int) -> None:
        """So many items took so long: the next batches are made after it."""
        mean = seconds / items
        weight = min(1.0, items / 8) if self._mean is not None else 1.0
        self._mean = mean if self._mean is None else self._mean + (mean - self._mean) * max(weight, 0.25)

    def launch(self) -> bool:
        """Start the next items."""
        window = self.window
        window.width = self.size
        items, who = window.draw_many(window.width)
        if items:
            self.launch_these(items, who)
        return bool(items)

    def launch_these(self, items: list[Any], who: list[Any]) -> None:
        """Start these."""
        try:
            batch = self._make(self, items, who)
        except Exception as error:
            self.not_started(items, who, error)
        else:
            self._running[batch.operation] = batch
            batch.operation.add_done_callback(self._landed, context=self.window.context)

    def not_started(self, items: list[Any], who: list[Any], error: Exception) -> None:
        """They could not be started: the first of them fails, the others are tried without it."""
        self.window.ended(flight_of(items[0], who[0]), Failed(error))
        self.window.back(items[1:], who[1:])
        self.window.loop.call_soon(self.window.landed, context=self.window.context)

    def _landed(self, operation: "Future[Any]") -> None:
        batch = self._running.pop(operation)
        batch.land(outcome_of(operation))  # type: ignore[arg-type]  # it is an operation
        if batch.is_late():
            self._late.add(batch)
        else:
            self.window.landed()

    def complete(self, batch: "Batch") -> None:
        """The last result of a batch that was late is there."""
        if batch in self._late:
            self._late.discard(batch)
            self.window.landed()

    def stop(self, text: str, grace: float | None = None) -> None:
        """Call off every operation that is in flight."""
        by = None if self.owner is None else str(self.owner.ref)
        for batch in tuple(self._running.values()):
            batch.cancel(Reason(Kind.PARENT, text, by), grace)
        for batch in tuple(self._late):
            batch.wait_no_longer("the map was called off")

    def running(self) -> tuple[Operation[Any], ...]:
        """Those of the batches that run."""
        return tuple(batch.operation for batch in self._running.values())

    def close(self) -> None:
        """Everything has ended."""


class Batch:
    """Some items in one operation. What the place has to say stands first, each with an answer for one that knows nothing.

    Attributes:
        last: when the last item ended whose result was read, on the clock of the place; 0 before the first.
    """

    last: float = 0.0
    operation: Operation[Any]

    # --- what the place says

    def first(self) -> float:
        """Since when the first item ran; 0 before."""
        raise NotImplementedError

    def began(self) -> float:
        """Since when an item runs that has no result; 0 between two items."""
        raise NotImplementedError

    def has_more(self) -> bool:
        """Whether there are results that were not read."""
        raise NotImplementedError

    def read(self, *, all_of_it: bool) -> tuple[list[float], list[Any], bool]:
        """The results that have come since the last look: when the items ended, and what came of them.

        The last says whether each is the value itself; else `outcome_of` has to be asked.
        """
        raise NotImplementedError

    def may_tell_all(self) -> bool:
        """Whether a result may be told before the place says so, since nothing is left of what its item has started."""
        return True

    def outcome_of(self, flight: Flight, found: Any, report: Any) -> Outcome[Any] | None:
        """What was read, as an outcome; ``None`` where that comes later."""
        raise NotImplementedError

    def take_back(self) -> int:
        """How many of the items at the end have not begun, and now never will."""
        return 0

    def is_late(self) -> bool:
        """Whether results are still to come when the operation has ended."""
        return False

    def wait_no_longer(self, why: str) -> None:
        """Results that are late are given up."""

    # --- the same at each place

    def __init__(self, lane: Batches, items: list[Any], who: list[Any]) -> None:
        self._lane = lane
        self._items = items
        self._who = who
        self._told = 0
        self._asked = False
        self._timer: TimerHandle | None = None

    def cancel(self, reason: Reason, grace: float | None) -> None:
        """Ask for the stop; what has a result by now has it, and the rest is told when the operation has ended."""
        self._tell()
        self._asked = True
        self.rest()
        self.operation.cancel(reason, grace=grace)

    def heard(self) -> None:
        """The place has got on; within `QUIET` it says so again, or the item that runs then is a slow one."""
        self._look()
        if not self._asked and not self.operation.done():
            self.look_at(self._lane.window.loop.time() + QUIET)

    def _look(self, *, late: bool = False) -> None:
        """Tell what has ended, see to the limit of the item that runs, and let nobody wait for a slow one."""
        if self._asked or self.operation.done():
            return
        self._tell(all_of_it=late and self.may_tell_all())
        lane = self._lane
        now = lane.window.loop.time()
        if not (began := self.began()):
            if self.first():  # between two items, for however long on a busy machine
                self.look_at(now + QUIET)
            elif late and self.operation.state is State.PENDING:
                self.look_if_it_begins()
            elif late and lane.limit is not None:
                self._call_off(now)
            return
        took = time.monotonic() - began  # not by the clock of the loop, which may stand still for a turn
        left = None if lane.limit is None else lane.limit - took
        if left is not None and left <= 0:
            if self.began() == began:  # seen after the limit has passed: the place goes no further than this item
                self._call_off(now)
            else:
                self.look_at(now + QUIET)
            return
        waits = len(self._items) - self._told > 1
        if waits and took >= _SLOW:
            self._hand_back()
        elif waits:
            slow = max(_SLOW - took, _SOON)
            left = slow if left is None else min(left, slow)
        if left is not None:
            self.look_at(now + left)

    def look_if_it_begins(self) -> None:
        """Its first item may never begin: the function hangs while it is imported there."""
        lane = self._lane
        if lane.limit is not None:
            self.look_at(lane.window.loop.time() + lane.limit + READY)

    def _call_off(self, now: float) -> None:
        """The time of the item that runs, or should run, is over."""
        self._asked = True
        self.rest()
        self.operation.cancel(Reason(Kind.DEADLINE, f"within {self._lane.limit:g} s", None, now))

    def _hand_back(self) -> None:
        """Those behind a slow item are not to wait for it."""
        self._take(self.take_back())

    def _take(self, count: int) -> None:
        """So many at the end are to go elsewhere."""
        if count > 0:
            items, who = self._items[-count:], self._who[-count:]
            del self._items[-count:], self._who[-count:]
            self._lane.window.back(items, who)
            self._lane.window.fill()

    def look_at(self, at: float) -> None:
        """Look then, and not before unless something is heard."""
        self.rest()
        loop, context = self._lane.window.loop, self._lane.window.context
        self._timer = loop.call_at(at, partial(self._look, late=True), context=context)

    def rest(self) -> None:
        """Look no more."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _tell(self, report: Any = None, *, all_of_it: bool = False) -> None:
        """Hand on the results that have come and may be told."""
        ends, results, is_plain = self.read(all_of_it=all_of_it)
        if not results:
            return
        lane, window, behind = self._lane, self._lane.window, self._lane.behind
        before = self.last or self.first()
        start, end = self._told, self._told + len(results)
        items, who = self._items[start:end], self._who[start:end]
        self._told, self.last = end, ends[-1]  # before any of them is told, which may call off the rest
        lane.took(max(ends[-1] - before, 1e-7), len(results))
        if is_plain and report is None and window.asks_little:
            window.completed(items, who, results)
            return
        for number, found in enumerate(results, 1):
            flight, at = flight_of(items[number - 1], who[number - 1]), ends[number - 1]
            flight.seconds = at - before
            flight.since = before - behind
            before = at
            told_of = None  # it is the last one that was asked, if it had not ended by then
            if number == len(results) and report is not None and at - behind >= report.requested_at:
                told_of = report
            outcome = completed(found, told_of) if is_plain else self.outcome_of(flight, found, told_of)
            if outcome is not None:
                window.ended(flight, outcome)

    def land(self, outcome: Outcome[Any]) -> None:
        """The operation has ended: tell the rest, whose fault it was, and give back what had not begun."""
        self.rest()
        lane, report = self._lane, outcome.report
        self._tell(report, all_of_it=True)
        began = self.began()
        items, who = self._items[self._told :], self._who[self._told :]
        if isinstance(outcome, Completed):
            if outcome.value is not None and items:  # there was no room for it
                flight = self._ran(items.pop(0), who.pop(0), began)
                found = self.outcome_of(flight, outcome.value[0], report)
                if found is not None:
                    lane.window.ended(flight, found)
                lane.took(0.01, 1)
        elif began:
            lane.barren = 0
            if items:
                lane.window.ended(self._ran(items.pop(0), who.pop(0), began), outcome)
        elif self._told:
            lane.barren = 0
        else:
            blamed = self._blamed(outcome, len(items))
            for flight in map(flight_of, items[:blamed], who[:blamed]):
                lane.window.ended(flight, outcome)
            del items[:blamed], who[:blamed]
        lane.window.back(items, who)

    def _ran(self, item: Any, known: Any, began: float) -> Flight:
        """The item that ran until now."""
        flight, lane = flight_of(item, known), self._lane
        flight.since, flight.seconds = began - lane.behind, lane.window.loop.time() + lane.behind - began
        return flight

    def _blamed(self, outcome: Outcome[Any], count: int) -> int:
        """How many of its items are to blame when it has ended before the first began; the rest is to be tried again."""
        lane = self._lane
        lane.barren += 1
        if isinstance(outcome, (Cancelled, Abandoned)) and not lane.window.closed:  # it was waited for, or by somebody
            return count if outcome.report.reason.text.startswith(TURN) else 1
        return 1 if lane.barren > _BARREN else 0
