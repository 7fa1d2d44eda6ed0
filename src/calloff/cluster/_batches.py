"""Items of a map in batches on nodes: the owner's end.

The worker writes into a spool that it shares with the agent of its node; `_batchjobs` is the agent's end. What is new there
is told whenever the worker has a word, and when it is asked for. All else is as in `_map.batches`, but two things that
hold only for the item that runs at that moment, to call it off when its time is over, and to take back those behind a slow
one, are asked of the agent, which looks at that item itself before it does them.

When a node is lost, nobody knows which items had begun beyond those that were told of: the whole batch is lost with it.
"""

import pickle
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from .._map.batches import Batches
from .._map.flight import flight_of
from .._map.in_processes import InProcesses, ProcessBatch
from .._map.sent import Sent
from .._map.spool import elements
from .._map.window import Window
from .._operation.operation import Operation
from .._words.outcome import Outcome
from .._words.place import Work
from .._words.reason import Kind, Reason
from ._batchjobs import CALL_OFF, END_HERE, LOOK
from ._body import ClusterBody

if TYPE_CHECKING:
    from ._cluster import Cluster

__all__ = ["OnNodes"]


class OnNodes(InProcesses):
    """The lane of a blocking function on nodes."""

    def __init__(
        self, window: Window, start: Callable[..., Operation[Any]], cluster: "Cluster", labels: tuple[str, ...]
    ) -> None:
        plan = window.plan
        super().__init__(window, start, Sent(plan.function, plan.name, None), plan.batch, _NodeBatch)
        self.cluster = cluster
        self.labels = labels


class _Mirror:
    """What is known of a spool on a node."""

    def __init__(self) -> None:
        self._ends: list[float] = []
        self._found: list[Any] = []
        self._read = 0
        self._certain = 0
        self._began = self._first = 0.0
        self._ahead: float | None = None
        #: how many results there are; which item runs, from 1, or 0
        self.count: int = 0
        self.number: int = 0
        #: whether no more will come
        self.is_whole: bool = False

    def update(self, head: tuple[int, int, float, int, float, list[float]], clock: float, data: bytes) -> None:
        """Take in what the node tells."""
        self.count, self.number, self._began, self._certain, self._first, ends = head
        if self._ahead is None:  # how far our clock is ahead; what the way here took comes on top
            self._ahead = time.monotonic() - clock
        self._ends += ends
        self._found += elements(data, len(ends))

    def _here(self, point: float) -> float:
        return point and point + (self._ahead or 0.0)

    def first(self) -> float:
        """Since when the first item ran, on our clock."""
        return self._here(self._first)

    def began(self) -> float:
        """Since when an item runs, on our clock; 0 between two."""
        return self._here(self._began)

    def has_more(self) -> bool:
        """Whether there are results that were not read."""
        return self._read < len(self._found)

    def read(self, *, all_of_it: bool) -> tuple[list[float], list[Any]]:
        """The results that have come since the last look, as a spool gives them."""
        start, stop = self._read, len(self._found) if all_of_it else self._certain
        self._read = max(start, stop)
        return [self._here(ended) for ended in self._ends[start:stop]], self._found[start:stop]


class _NodeBatch(ProcessBatch):
    def __init__(self, lane: Batches, items: list[Any], who: list[Any]) -> None:
        super().__init__(lane, items, who)
        assert isinstance(lane, OnNodes)
        self.mirror: _Mirror = _Mirror()
        self.results = self.mirror
        self._work = _BatchWork(lane, lane.sent.sealed(items, who), self)
        self.operation = lane.start(self._work, grace=lane.grace, patience=lane.window.plan.patience)
        self.look_if_it_begins()

    def may_tell_all(self) -> bool:
        return False  # what may be told, the agent says

    # --- what is asked of the agent

    def _look(self, *, late: bool = False) -> None:
        if not (late and self._asks(LOOK)):
            super()._look(late=late)

    def _call_off(self, now: float) -> None:
        self._asks(CALL_OFF, self.mirror.number)

    def _hand_back(self) -> None:
        self._asks(END_HERE)

    def _asks(self, what: int, number: int = 0) -> bool:
        """Have the agent do that, if the batch is there; it tells what is new in any case."""
        body = self._work.body
        if body is None or body.link is None:
            return False
        body.ask_for(what, number, self._lane.limit, self._lane.grace)
        return True

    # --- what the agent tells

    def told(self, head: Any, clock: float, asked: int | None, done: bool, is_last: bool, data: bytes) -> None:
        """What is new in the spool, by itself or because it was asked for, and whether what was asked was done."""
        mirror = self.mirror
        mirror.update(head, clock, data)
        mirror.is_whole = mirror.is_whole or is_last
        lane = self._lane
        if is_last or self._asked or self.operation.done():
            return
        if asked is None:
            self.heard()
        elif asked == CALL_OFF and done:
            self._asked = True
            self.rest()
            self.operation.cancel(Reason(Kind.DEADLINE, f"within {lane.limit:g} s", None, lane.window.loop.time()))
        elif asked == END_HERE:
            self._tell()
            if done:
                self._take(len(self._items) - max(mirror.number, mirror.count))  # it may have ended meanwhile
        else:
            super()._look(late=True)

    def land(self, outcome: Outcome[Any]) -> None:
        body = self._work.body
        if body is None or not body.token or self.mirror.is_whole:
            super().land(outcome)
            return
        self.rest()  # nobody knows which have begun
        self._tell(outcome.report, all_of_it=True)
        for flight in map(flight_of, self._items[self._told :], self._who[self._told :]):
            self._lane.window.ended(flight, outcome)


class _BatchWork(Work[Any]):
    """Work of our own on a node that goes by the name of the user's function."""

    __slots__ = ("_batch", "_data", "_lane", "body", "name")
    place = "cluster"

    def __init__(self, lane: OnNodes, sealed: Any, batch: _NodeBatch) -> None:
        sent = lane.sent
        self._lane, self._batch = lane, batch
        self._data = pickle.dumps((sent.data, sealed, lane.limit, sent.name), 5)
        self.name: str = sent.name
        self.body: _BatchBody | None = None

    def open(self) -> "_BatchBody":
        """The body."""
        lane, sent = self._lane, self._lane.sent
        self.body = _BatchBody(lane.cluster, lane.labels, (self._data, []), sent.name, sent.first_line, sent.stamp)
        self.body.batch = self._batch
        return self.body


class _BatchBody(ClusterBody):
    """A body that hears of a batch."""

    __slots__ = ("batch",)
    batch: _NodeBatch
    frame = "batch"

    def ask_for(self, what: int, number: int, limit: float | None, grace: float) -> None:
        """Have the agent look at the spool, and perhaps do something about the item that runs."""
        self._send("spool", what, number, limit, grace)

    def spooled(self, news: tuple[Any, ...], data: bytes) -> None:
        """What the agent has seen."""
        head, clock, asked, done, is_last = news
        self.batch.told(head, clock, asked, done, is_last, data)

    def refused_start(self) -> None:
        """Nothing of it was begun."""
        self.batch.mirror.is_whole = True
