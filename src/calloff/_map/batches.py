"""Several items in one operation of a process, with the limit, the stop and the outcome of each of them kept.

A function that takes a microsecond costs a hundred when it is sent alone. So a worker is given as many items as take about
50 ms, as long as they have no end of their own to wait for: `_child/batch.py` runs them and writes each result where it
is read here as it comes. When the operation is stopped or dies, the item that ran is the only one to be lost; those behind
it, which had not begun, go to another worker. The limit of an item is watched here, from the moment its function began.
"""

import pickle
import time
from asyncio import Future, TimerHandle
from collections.abc import Callable
from functools import partial
from typing import Any, Literal

from .._child.batch import one, run
from .._operation.ending import outcome_of
from .._operation.operation import Operation
from .._places.process.packing import pack, unpack_error
from .._places.process.unpickling import may_block, unpickle_aside
from .._words.errors import CalloffError
from .._words.outcome import Abandoned, Completed, Failed, Outcome
from .._words.reason import Kind, Reason
from .flight import Flight
from .sent import Call, Sent
from .spool import Spool, has_children
from .window import Window

__all__ = ["Batches"]

#: seconds that the items of a batch take together; with an output less, since what is not yet told is lost with us
_WORTH, _WORTH_WRITTEN = 0.05, 0.005
_MOST = 512
#: seconds after a word of the worker, within which it gives another one before it begins with a further item
_QUIET = 0.02
#: how often a batch may come back without having begun before its first item is blamed
_BARREN = 3


class Batches:
    """A lane: up to `size` items in an operation of their own."""

    owner: Operation[Any] | None = None

    def __init__(
        self, window: Window, start: Callable[..., Operation[Any]], sent: Sent, batch: int | Literal["auto"]
    ) -> None:
        self.window = window
        self.start = start
        self.sent = sent
        self.limit = window.plan.timeout
        self.grace = window.plan.grace
        #: how far the clock of the loop is behind that of the workers
        self.behind = time.monotonic() - window.loop.time()
        self._fixed = None if batch == "auto" else batch
        self._worth = _WORTH if window.journal is None else _WORTH_WRITTEN
        self._mean: float | None = None
        self._running: dict[Future[Any], _Batch] = {}
        #: those that have ended, but for results that are still unpickled aside
        self._late: set[_Batch] = set()
        self._spools: list[Spool] = []
        self.barren = 0
        if window.journal is not None:
            window.journal.hold()

    @property
    def size(self) -> int:
        """As many as take about 50 ms; few at first, when nothing is known, and towards the end, for equal shares."""
        if self._fixed is not None:
            return self._fixed
        if self._mean is None:
            return 1
        size = min(_MOST, int(self._worth / self._mean)) if self._mean > 0 else _MOST
        left = self.window.ahead()
        if left is not None:
            size = min(size, left // (2 * self.window.jobs))
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
        flights = window.draw_many(window.width)
        if not flights:
            return False
        try:
            batch = _Batch(self, flights, self._spools.pop() if self._spools else Spool())
        except Exception as error:
            self._apart(flights, error)
        else:
            self._running[batch.operation] = batch
            batch.operation.add_done_callback(self._landed, context=window.context)
        return True

    def _apart(self, flights: list[Flight], error: Exception) -> None:
        """They could not be sent: those that can't fail, the others are to be sent without them."""
        good: list[Flight] = []
        for flight in flights:
            try:
                pack(one, (b"", flight.item), {}, self.sent.name)
            except Exception as reason:
                self.window.ended(flight, Failed(reason))
            else:
                good.append(flight)
        if len(good) == len(flights):
            self.window.ended(good.pop(0), Failed(error))
        self.window.back(good)
        self.window.loop.call_soon(self.window.landed, context=self.window.context)

    def _landed(self, operation: "Future[Any]") -> None:
        batch = self._running.pop(operation)
        outcome: Outcome[Any] = outcome_of(operation)  # type: ignore[arg-type]  # it is an operation
        batch.land(outcome)
        if isinstance(outcome, Abandoned):
            batch.spool.close()  # something may still write to it
        else:
            self._spools.append(batch.spool)
        if batch.aside:
            self._late.add(batch)
        else:
            self.window.landed()

    def unpickled(self, batch: "_Batch") -> None:
        """The last result of a batch that was unpickled aside is there."""
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
        """Everything has ended: give back the memory."""
        while self._spools:
            self._spools.pop().close()


class _Batch:
    """Some items in one operation."""

    def __init__(self, lane: Batches, flights: list[Flight], spool: "Spool") -> None:
        self._lane = lane
        self._flights = flights
        self.spool = spool
        self._told = 0
        self._asked = False
        self._timer: TimerHandle | None = None
        #: results that are unpickled in a thread, since that may take long
        self.aside: dict[Flight, Any] = {}
        spool.clear()
        sent = lane.sent
        args = sent.data, [flight.item for flight in flights], spool.path, lane.limit, sent.name, sent.memory
        work = Call(sent, partial(pack, run, args, {}, sent.name), self._heard)
        try:
            self.operation = lane.start(work, grace=lane.grace, patience=lane.window.plan.patience)
        except BaseException:
            spool.close()
            raise

    def cancel(self, reason: Reason, grace: float | None) -> None:
        """Ask for the stop; what has a result by now has it, and the rest is told when the operation has ended."""
        self._tell()
        self._asked = True
        self._rest()
        self.operation.cancel(reason, grace=grace)

    def _heard(self) -> None:
        """The worker has got on; within `_QUIET` it does so again, or the item that runs then is a slow one."""
        self._look()
        if not self._asked and not self.operation.done():
            self._again(self._lane.window.loop.time() + _QUIET)

    def _look(self, *, late: bool = False) -> None:
        """Tell what has ended, and see to the limit of the item that runs."""
        if self._asked or self.operation.done():
            return
        self._tell(all_of_it=late and not has_children(self.operation.body))
        limit = self._lane.limit
        if limit is None or not (began := self.spool.began()):
            return
        left = began + limit - time.monotonic()  # not by the clock of the loop, which may stand still for a turn
        now = self._lane.window.loop.time()
        if left > 0:
            self._again(now + left)
        elif self.spool.began() == began:  # seen after the limit has passed: the worker goes no further than this item
            self._asked = True
            self._rest()
            self.operation.cancel(Reason(Kind.DEADLINE, f"within {limit:g} s", None, now))
        else:
            self._again(now + _QUIET)

    def _again(self, at: float) -> None:
        self._rest()
        loop, context = self._lane.window.loop, self._lane.window.context
        self._timer = loop.call_at(at, partial(self._look, late=True), context=context)

    def _rest(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _tell(self, report: Any = None, *, all_of_it: bool = False) -> None:
        """Hand on the results that have come and may be told."""
        spool, behind = self.spool, self._lane.behind
        first = before = spool.last or spool.first()
        told = self._told
        flights = self._flights
        loads, ended = pickle.loads, self._lane.window.ended
        for at, fine, data in spool.read(all_of_it=all_of_it):
            flight = flights[told]
            told += 1
            flight.seconds = at - before
            flight.since = before - behind
            before = at
            told_of = None  # it is the last one that was asked, if it had not ended by then
            if report is not None and flight.since + flight.seconds >= report.requested_at and not spool.has_more():
                told_of = report
            if fine and may_block(data):
                self._unpickle_aside(flight, data, told_of)
            elif fine and told_of is None:
                try:
                    value = loads(data)
                except BaseException:  # once more, and it is told
                    self._end(flight, fine, data, None)
                else:
                    ended(flight, Completed(value))
            else:
                self._end(flight, fine, data, told_of)
        if told > self._told:
            self._lane.took(max(before - first, 1e-7), told - self._told)
            self._told = told
            spool.last = before

    def _unpickle_aside(self, flight: Flight, data: bytes, report: Any) -> None:
        """In a thread: a pickle that names classes runs their code, and nobody else is to wait for that."""
        lane = self._lane
        loop = lane.window.loop
        self.aside[flight] = report

        def told(value: Any, problem: BaseException | None) -> None:
            loop.call_soon(self._unpickled, flight, value, problem, context=lane.window.context)

        unpickle_aside(data, [], loop, told)
        if lane.limit is not None:
            patience = lane.limit + lane.grace + 1
            text = f"its result was not unpickled within {patience:g} s"
            loop.call_later(patience, self._unpickled, flight, None, CalloffError(text), context=lane.window.context)

    def _unpickled(self, flight: Flight, value: Any, problem: BaseException | None) -> None:
        if flight not in self.aside:
            return
        report = self.aside.pop(flight)
        if problem is None:
            self._lane.window.ended(flight, Completed(value, report))
        else:
            problem.add_note(f"while the result of {self._lane.sent.name} was unpickled")
            self._lane.window.ended(flight, Failed(problem, report))
        if not self.aside:
            self._lane.unpickled(self)

    def wait_no_longer(self, why: str) -> None:
        """What is still being unpickled is given up."""
        for flight in tuple(self.aside):
            self._unpickled(flight, None, CalloffError(f"its result was not unpickled: {why}"))

    def _end(self, flight: Flight, fine: bool, data: bytes, report: Any) -> None:
        outcome: Outcome[Any]
        try:
            if fine and may_block(data):
                self._unpickle_aside(flight, data, report)
                return
            if fine:
                outcome = Completed(pickle.loads(data), report)
            else:
                outcome = Failed(unpack_error(data, self._lane.sent.name), report)
        except BaseException as problem:  # a pickle runs what it likes
            problem.add_note(f"while the result of {self._lane.sent.name} was unpickled")
            outcome = Failed(problem, report)
        self._lane.window.ended(flight, outcome)

    def land(self, outcome: Outcome[Any]) -> None:
        """The operation has ended: tell the rest, whose fault it was, and give back what had not begun."""
        self._rest()
        lane, report = self._lane, outcome.report
        self._tell(report, all_of_it=True)
        began = self.spool.began()
        rest = self._flights[self._told :]
        if isinstance(outcome, Completed):
            if outcome.value is not None and rest:  # there was no room for it
                flight = rest.pop(0)
                flight.since, flight.seconds = began - lane.behind, lane.window.loop.time() + lane.behind - began
                fine, data = outcome.value
                self._end(flight, fine, data, report)
                lane.took(0.01, 1)
        else:
            has_begun = began > 0 or self._told > 0
            lane.barren = 0 if has_begun else lane.barren + 1
            if rest and (began or lane.barren > _BARREN):
                flight = rest.pop(0)
                if began:
                    flight.since, flight.seconds = began - lane.behind, lane.window.loop.time() + lane.behind - began
                lane.window.ended(flight, outcome)
        lane.window.back(rest)
