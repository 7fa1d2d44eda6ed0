"""Several items in one operation of a process, with the limit, the stop and the outcome of each of them kept.

A function that takes a microsecond costs a hundred when it is sent alone. So a worker is given as many items as take about
50 ms, as long as they have no end of their own to wait for: `_child/batch.py` runs them and writes each result where it
is read here as it comes. When the operation is stopped or dies, the item that ran is the only one to be lost; those behind
it, which had not begun, go to another worker. The limit of an item is watched here, from the moment its function began.
"""

import contextlib
import mmap
import os
import pickle
import time
import zlib
from asyncio import Future, TimerHandle
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any, Literal

from .._child.batch import HEAD, MARK, RECORD, SIZE, one, run
from .._operation.operation import Operation
from .._places.process.body import ProcessBody, _first_line
from .._places.process.facts import stamp_of
from .._places.process.packing import pack, unpack_error
from .._words.outcome import Abandoned, Completed, Failed, Outcome
from .._words.place import Sink, Work
from .._words.reason import Kind, Reason
from .flight import Flight
from .window import Window

__all__ = ["Batches", "Sent"]

#: seconds that the items of a batch take together; with an output less, since what is not yet told is lost with us
_WORTH, _WORTH_WRITTEN = 0.05, 0.005
_MOST = 512
#: seconds after a word of the worker, within which it gives another one before it begins with a further item
_QUIET = 0.02
#: how often a batch may come back without having begun before its first item is blamed
_BARREN = 3


class Sent:
    """The function of a map as it is sent: once pickled, however many items there are."""

    def __init__(self, function: Callable[[Any], Any], name: str) -> None:
        data, _ = pack(function, (), {}, name)
        self.data = zlib.compress(
            data, 1
        )  # also hides the name of the main script, for which the whole is pickled anew
        self.name = name
        self.first_line = _first_line(function)
        self.stamp = stamp_of(function)

    def one(self, item: Any) -> "Call":
        """Work that calls it with one item."""
        return Call(self, partial(pack, one, (self.data, item), {}, self.name))


class Call(Work[Any]):
    """Work of our own in a worker that goes by the name of the user's function."""

    __slots__ = ("_heard", "_pack", "_sent")
    place = "process"

    def __init__(self, sent: Sent, packing: Callable[[], Any], heard: Callable[[], object] | None = None) -> None:
        self._sent = sent
        self._pack = packing
        self._heard = heard

    def open(self) -> "_Body":
        """The body; `TypeError` when something can't be sent."""
        body = _Body(self._pack(), self._sent.name, self._sent.first_line, self._sent.stamp)
        body.heard = self._heard
        return body


class _Body(ProcessBody):
    """A body that hears the words of a batch."""

    heard: Callable[[], object] | None = None

    def begin(self, sink: Sink) -> None:
        """As ever, with an ear between."""
        ear: Any = sink if self.heard is None else _Ear(sink, self.heard)
        super().begin(ear)


class _Ear:
    """Passes on what the worker says, but for the words of a batch."""

    def __init__(self, sink: Sink, heard: Callable[[], object]) -> None:
        self._sink = sink
        self._heard = heard

    def progressed(self, value: Any) -> None:
        """A report of the function, or a word of the batch."""
        if value == MARK:
            self._heard()
        else:
            self._sink.progressed(value)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._sink, name)


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
        self._spools: list[_Spool] = []
        self.barren = 0

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
            batch = _Batch(self, flights, self._spools.pop() if self._spools else _Spool())
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
        outcome: Outcome[Any] = operation._outcome()  # type: ignore[attr-defined]  # it is an operation
        batch.land(outcome)
        if isinstance(outcome, Abandoned):
            batch.spool.close()  # something may still write to it
        else:
            self._spools.append(batch.spool)
        self.window.landed()
        if self.window.over.done():
            while self._spools:
                self._spools.pop().close()

    def stop(self, text: str) -> None:
        """Call off every operation that is in flight."""
        by = None if self.owner is None else str(self.owner.ref)
        for batch in tuple(self._running.values()):
            batch.cancel(Reason(Kind.PARENT, text, by))


class _Batch:
    """Some items in one operation."""

    def __init__(self, lane: Batches, flights: list[Flight], spool: "_Spool") -> None:
        self._lane = lane
        self._flights = flights
        self.spool = spool
        self._told = 0
        self._asked = False
        self._timer: TimerHandle | None = None
        spool.clear()
        sent = lane.sent
        args = sent.data, [flight.item for flight in flights], spool.path, lane.limit, sent.name
        work = Call(sent, partial(pack, run, args, {}, sent.name), self._heard)
        try:
            self.operation = lane.start(work, grace=lane.grace)
        except BaseException:
            spool.close()
            raise

    def cancel(self, reason: Reason) -> None:
        """Ask for the stop; what has a result by now has it, and the rest is told when the operation has ended."""
        self._tell()
        self._asked = True
        self._rest()
        self.operation.cancel(reason)

    def _heard(self) -> None:
        """The worker has got on; within `_QUIET` it does so again, or the item that runs then is a slow one."""
        self._look()
        if not self._asked and not self.operation.done():
            self._again(self._lane.window.loop.time() + _QUIET)

    def _look(self, *, late: bool = False) -> None:
        """Tell what has ended, and see to the limit of the item that runs."""
        if self._asked or self.operation.done():
            return
        self._tell(all_of_it=late and not _has_children(self.operation.body))
        limit = self._lane.limit
        if limit is None or not (began := self.spool.began()):
            return
        due = began - self._lane.behind + limit
        now = self._lane.window.loop.time()
        if now < due:
            self._again(due)
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
            if fine and report is None:
                try:
                    value = loads(data)
                except BaseException:  # once more, and it is told
                    self._end(flight, fine, data, None)
                else:
                    ended(flight, Completed(value))
            else:
                self._end(flight, fine, data, report if told == len(flights) or not spool.has_more() else None)
        if told > self._told:
            self._lane.took(max(before - first, 1e-7), told - self._told)
            self._told = told
            spool.last = before

    def _end(self, flight: Flight, fine: bool, data: bytes, report: Any) -> None:
        outcome: Outcome[Any]
        try:
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


def _has_children(body: Any) -> bool:
    """Whether the worker has any process below it, so that a result may not be told before the end of the job."""
    pid = None if body is None else body.pid
    try:
        for thread in os.listdir(f"/proc/{pid}/task"):
            with open(f"/proc/{pid}/task/{thread}/children", "rb") as file:
                if file.read(1):
                    return True
    except OSError:
        return True  # nobody can tell
    return False


class _Spool:
    """Memory that a worker writes and we read: which item runs, and the results of those before it."""

    def __init__(self) -> None:
        self._file = os.memfd_create("calloff-spool", os.MFD_CLOEXEC)
        os.ftruncate(self._file, SIZE)
        self._memory = mmap.mmap(self._file, SIZE)
        self.path = f"/proc/{os.getpid()}/fd/{self._file}"
        self.clear()

    def clear(self) -> None:
        """For the next batch."""
        HEAD.pack_into(self._memory, 0, HEAD.size, 0.0, HEAD.size, 0.0)
        self._at = HEAD.size
        #: when the last item ended whose result was read; 0 before the first
        self.last = 0.0

    def first(self) -> float:
        """Since when the first item ran."""
        first: float = HEAD.unpack_from(self._memory)[3]
        return first

    def began(self) -> float:
        """Since when an item runs, on the clock of the worker; 0 between two items."""
        began: float = HEAD.unpack_from(self._memory)[1]
        return began

    def has_more(self) -> bool:
        """Whether there are results that were not read."""
        end: int = HEAD.unpack_from(self._memory)[0]
        return end > self._at

    def read(self, *, all_of_it: bool) -> Iterator[tuple[float, bool, bytes]]:
        """The results that have come since the last look: when the item ended, whether it is a value, its pickle."""
        end, _, certain, _ = HEAD.unpack_from(self._memory)
        end = end if all_of_it else certain
        memory, unpack, size = self._memory, RECORD.unpack_from, RECORD.size
        while self._at < end:
            at = self._at + size
            ended, length, fine = unpack(memory, self._at)
            self._at = at + length
            yield ended, fine, memory[at : self._at]

    def close(self) -> None:
        """Give back the memory."""
        if self._file >= 0:
            self._memory.close()
            with contextlib.suppress(OSError):
                os.close(self._file)
            self._file = -1
