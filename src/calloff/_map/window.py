"""Which item is started when, and what becomes of its ending: the plain part of a map, with no await in it.

The window is filled at its start and whenever something has made room: an item has ended, the consumer has taken a
result, `jobs` was raised, the time of a further attempt has come. All of that happens on the thread of the event loop,
in the context of the operation that the items belong to.

Memory does not grow with the number of items. What is in flight is bounded by `jobs`; what has ended and was not taken,
what waits for a further attempt and, with `ordered`, what waits for a slow head is each bounded by a small multiple of it.
"""

from asyncio import AbstractEventLoop, Future
from collections import deque
from collections.abc import Callable
from contextvars import Context
from typing import TYPE_CHECKING, Any, Protocol

from .._words.errors import CalloffError
from .._words.outcome import Completed, Failed, Outcome, completed_each
from .attempts import Attempts
from .drawing import Drawing
from .flight import Counts, Flight
from .plan import Plan

if TYPE_CHECKING:
    from .._operation.operation import Operation
    from .journal import Journal

__all__ = ["Lane", "Window"]

#: how many times `jobs` items may have ended before a slow head, or wait for a further attempt
_AHEAD = 16
#: from how many endings on a share of failures counts
_ENOUGH = 20


class Lane(Protocol):
    """How items are run: one by one, or several in one operation.

    Attributes:
        owner: the operation that the items belong to; set before the first is started.
    """

    owner: "Operation[Any] | None"

    def launch(self) -> bool:
        """Draw what the next operation takes and start it; ``False`` when there is nothing to draw.

        `Window.ended` follows for each of its items and `Window.landed` once for all.
        """
        ...

    def stop(self, text: str, grace: float | None = None, /) -> None:
        """Call off everything that is in flight, with that grace, by default that of the map."""

    def running(self) -> "tuple[Operation[Any], ...]":
        """The operations of what is in flight."""
        ...

    def close(self) -> None:
        """Everything has ended."""


class Window(Drawing):
    """The items of one map between their source and their consumer."""

    def __init__(
        self,
        plan: Plan,
        jobs: int,
        loop: AbstractEventLoop,
        journal: "Journal | None",
        start: "Callable[..., Operation[Any]]",
    ) -> None:
        super().__init__(plan, journal)
        self.jobs = jobs
        #: how many items the last launch was to take
        self.width = 1
        self.loop = loop
        self.start = start
        self.context: Context | None = None
        #: set by whoever opens the window
        self.lane: Lane
        #: whether the consumer takes the results as they come; else they are kept for the one who awaits all of them
        self.streams = True
        #: whether they are given with all that is known of their items
        self.in_full = False
        self.results: deque[tuple[Any, Outcome[Any]]] = deque()
        self.closed = False
        #: set when nothing is left to do
        self.over: Future[None] = loop.create_future()
        self.on_room: Callable[[], object] | None = None
        #: how many items are asked about, or wait for their next attempt
        self.waiting = 0
        self._attempts = None if plan.retry is None else Attempts(self, plan.retry)
        self._launched = 0
        self._waiters: list[Future[None]] = []
        self._held: dict[int, tuple[Any, Outcome[Any]]] = {}
        self._next = 0
        self._completed = self._failed = 0
        self._ordered = plan.ordered
        #: whether items are being started
        self.is_filling = False

    @property
    def counts(self) -> Counts:
        """How far it is."""
        before = self._skipped, self._failed_before
        return Counts(self._completed, self._failed, self._running, self.waiting, *before)

    # --- from the source

    def fill(self) -> None:
        """Start what there is room for."""
        if self.is_filling:  # an item has ended while it was started
            return
        self.is_filling = True
        try:
            launch = self.lane.launch
            while self._launched < self.jobs and not self.closed:
                self._launched += 1
                try:
                    begun = launch()
                except BaseException as error:  # of an item's own code: more than an error, so it ends
                    self.abort(error)
                    begun = False
                if not begun:
                    self._launched -= 1
                    break
        finally:
            self.is_filling = False
        if self._launched:
            if self.on_room is not None and self.wants():
                self.on_room()
        elif self.closed or not (self.waiting or self._again or self.offered or self.more):
            self._finish()
        elif self.on_room is not None and self.wants():
            self.on_room()

    def wants(self) -> bool:
        """Whether a further item may be offered."""
        free = self.jobs - self._launched
        return len(self.offered) < self.width * free and not self.closed and self._has_room()

    def _has_room(self) -> bool:
        if self.streams:
            if len(self.results) >= self.jobs * self.width:
                return False
            if self._held and len(self._held) >= self.jobs * max(_AHEAD, self.width):
                return False
        return not self.waiting or self.waiting < self.jobs * _AHEAD

    # --- to the consumer

    def ended(self, flight: Flight, outcome: Outcome[Any]) -> None:
        """An item has ended; it is confirmed that nothing of it runs."""
        self._running -= 1
        completed = type(outcome) is Completed
        if completed and self.journal is None:  # nearly all of them
            self._completed += 1
            self._hand_over(flight, outcome)
            if self._waiters:
                self._wake()
            return
        if not completed and self._attempts is not None and not self.closed and flight.attempt:
            self._attempts.ask(flight, outcome)
            return
        self.deliver(flight, outcome)

    def deliver(self, flight: Flight, outcome: Outcome[Any]) -> None:
        """It has ended for good."""
        completed = type(outcome) is Completed
        if completed:
            self._completed += 1
        else:
            self._failed += 1
        if self.journal is not None and not (self.closed and not completed and outcome.report is not None):
            try:  # what was called off with the map counts as missing
                self.journal.write(flight, outcome)
            except Exception as error:  # of the disk, or of the value's own code
                self.abort(error)
        self._hand_over(flight, outcome)
        if not completed and self.plan.max_failures is not None:
            self._judge(outcome)
        if self._waiters:
            self._wake()

    def _hand_over(self, flight: Flight, outcome: Outcome[Any]) -> None:
        found = flight if self.in_full else flight.item
        if not self._ordered:
            self.results.append((found, outcome))
        else:
            self._held[flight.place] = found, outcome
            if self.streams:
                self._in_order()

    @property
    def asks_little(self) -> bool:
        """Whether nobody wants to know more of an item that has completed than its value."""
        return self.journal is None and not self.in_full

    def completed(self, items: list[Any], who: list[Any], values: list[Any]) -> None:
        """The same of several at once whose function returned, where little is asked."""
        self._running -= len(items)
        self._completed += len(items)
        pairs = zip(items, completed_each(values), strict=True)
        if self._ordered:
            places = [known.place if type(known) is Flight else known for known in who]
            self._held.update(zip(places, pairs, strict=True))
            if self.streams:
                self._in_order()
        else:
            self.results.extend(pairs)
        if self._waiters:
            self._wake()

    def _in_order(self) -> None:
        held, number, results = self._held, self._next, self.results
        while number in held:
            results.append(held.pop(number))
            number += 1
        self._next = number

    def landed(self) -> None:
        """What was launched as one has ended; there is room."""
        self._launched -= 1
        self.fill()

    def try_again(self, flight: Flight) -> None:
        """The time of its next attempt has come."""
        flight.packed = None  # it may have changed meanwhile
        self._again.append(flight)
        self.fill()

    def _judge(self, outcome: Outcome[Any]) -> None:
        most = self.plan.max_failures
        ended = self._completed + self._failed
        assert most is not None
        allowed = most if isinstance(most, int) else most * ended if ended >= _ENOUGH else ended
        if self._failed > allowed and not self.closed:
            error = CalloffError(
                f"{self._failed} of {ended} items did not complete: more than max_failures={most} allows"
            )
            if isinstance(outcome, Failed):
                error.__cause__ = outcome.error
            self.abort(error)

    def abort(self, error: BaseException) -> None:
        """Call off what is in flight and start nothing more; the error is raised when all of it has ended."""
        if self.error is None:
            self.error = error
        if not self.closed:
            self.closed = True
            self.lane.stop(str(error))

    def close(self, text: str, grace: float | None = None) -> None:
        """The consumer has left, or the map was called off."""
        self.closed = True
        self.lane.stop(text, grace)

    def _finish(self) -> None:
        self._in_order()  # where nobody took any before
        for place in sorted(self._held):  # behind one that will not end any more: it was called off before it began
            self.results.append(self._held.pop(place))
        if not self.over.done():
            self.over.set_result(None)
        self._wake()

    def _wake(self) -> None:
        waiters, self._waiters = self._waiters, []
        for waiter in waiters:
            if not waiter.done():
                waiter.set_result(None)

    async def wait(self) -> None:
        """Wait until there is a result, or nothing more will come; any number of consumers may."""
        waiter = self.loop.create_future()
        self._waiters.append(waiter)
        try:
            await waiter
        except BaseException:
            if waiter in self._waiters:
                self._waiters.remove(waiter)
            raise

    def taken(self) -> None:
        """The consumer has taken a result: there may be room for another item."""
        if self.is_filling or self.context is None:  # it is an item itself, in its first step
            return
        if self._launched < self.jobs and (self.more or self._again or self.offered):
            self.context.run(self.fill)
