"""A function on a node as the body of an operation."""

import pickle
import threading
import time
from collections.abc import Callable
from itertools import count
from typing import TYPE_CHECKING, Any, TypeVar

from .._child.wire import frame
from .._places.process.body import ProcessBody, _first_line
from .._places.process.facts import Stamp, stamp_of
from .._places.process.packing import Packed, pack
from .._places.process.unpickling import attempt, report_progress
from .._words.frame import RawStack
from .._words.luggage import Luggage, luggage_of
from .._words.place import Sink, Work
from .._words.report import Rung
from ._words import NodeLost

if TYPE_CHECKING:
    from ._cluster import Cluster
    from ._link import Link

__all__ = ["ClusterBody", "ClusterWork"]

T = TypeVar("T")
#: seconds that `where` waits for the node at most
_PATIENCE = 0.06
_tokens = count(1)


class ClusterWork(Work[T]):
    """A call for a node that was not started yet; made by `Cluster.process`."""

    __slots__ = ("_args", "_cluster", "_function", "_kwargs", "_labels", "name")
    place = "cluster"

    def __init__(
        self,
        cluster: "Cluster",
        labels: tuple[str, ...],
        call: tuple[Callable[..., Any], tuple[Any, ...], dict[str, Any]],
        name: str,
    ) -> None:
        self._cluster, self._labels = cluster, labels
        self._function, self._args, self._kwargs = call
        self.name: str = name

    def open(self) -> "ClusterBody":
        """The body; `TypeError` when something can't be sent."""
        packed = pack(self._function, self._args, self._kwargs, self.name)
        first_line, stamp = _first_line(self._function), stamp_of(self._function)
        return ClusterBody(self._cluster, self._labels, packed, self.name, first_line, stamp)

    def __repr__(self) -> str:
        return f"<calloff.cluster process {self.name}>"


class ClusterBody(ProcessBody):
    """Runs a function in a worker of an agent for an operation."""

    __slots__ = ("_answer", "_on", "_seen", "_seen_at", "cluster", "labels", "link", "token")
    place = "cluster"
    #: the frame that begins it
    frame = "start"

    def __init__(
        self,
        cluster: "Cluster",
        labels: tuple[str, ...],
        packed: Packed,
        name: str,
        first_line: RawStack,
        stamp: Stamp | None,
    ) -> None:
        super().__init__(packed, name, first_line, stamp)
        self.cluster: Cluster = cluster
        self.labels: tuple[str, ...] = labels
        self.link: Link | None = None
        self._on = ""
        self.token: int = 0
        self._seen: RawStack = ()
        self._seen_at = 0.0
        self._answer: threading.Event | None = None

    @property
    def node(self) -> str:  # type: ignore[override]  # computed when it is read
        """Where it runs, or ran; empty as long as it waits for that."""
        return self._on

    # --- what the operation asks for

    def begin(self, sink: Sink) -> None:
        """Send it to a node with a free slot, or have it wait its turn."""
        self.sink = sink
        self.luggage: Luggage | None = luggage_of(sink)
        self.cluster.submit(self)

    def go(self, link: "Link") -> None:
        """A slot of that node is this body's."""
        self.link, self.token = link, next(_tokens)
        self._on = link.node.name
        sink = self.sink
        sink.entered_elsewhere()
        assert self.packed is not None
        data, buffers = self.packed
        self.packed: Packed | None = None
        left, force = self._limits()
        meta = (self.frame, self.token, tuple(sink.ref), link.valid(), left, force, self.stamp, self.luggage)
        self.cluster.post(link.write, frame(meta, data, buffers))

    def ask(self, text: str) -> RawStack | None:
        """The worker raises `CancelledError` in the function; what waits for a node never runs."""
        if self.link is None:
            if self.unpickling:
                return self._first_line
            self.cluster.withdraw(self)
            self.sink.stopped(Rung.ASKED)
            return ()
        reason = self.sink.reason
        assert reason is not None
        ago = max(0.0, self.cluster.loop.time() - reason.at)
        self._send("ask", str(reason.kind), reason.text, reason.by, ago, *self._limits())
        return None

    def force(self) -> bool:
        """Have the worker and everything below it killed."""
        if self.link is not None:
            self._send("force")
        return True

    def limited(self) -> None:
        """The deadline was changed."""
        if self.link is not None:
            self._send("limit", *self._limits())

    def survivors(self) -> tuple[str, ...]:
        """The node that can't be reached, and when all there is dead for certain."""
        link = self.link
        if link is None:
            return super().survivors()
        left = link.certain_at() - time.monotonic()
        told = f"{self.name} on node {link.node.name}, which has not answered for {link.silent():.1f} s"
        return (f"{told}: it is certain to have ended in {max(0.0, left):.1f} s at the latest",)

    def _limits(self) -> tuple[float | None, float | None]:
        """Seconds to the deadline, and to force."""
        now, sink = self.cluster.loop.time(), self.sink
        deadline, force_at = sink.deadline, sink.force_at
        return (None if deadline is None else deadline - now), (None if force_at is None else force_at - now)

    def _send(self, kind: str, *parts: Any) -> None:
        link = self.link
        assert link is not None
        self.cluster.post(link.send, kind, self.token, *parts)

    def refused_start(self) -> None:
        """Nothing of it was begun, and that is certain."""

    def spooled(self, news: tuple[Any, ...], data: bytes) -> None:
        """A batch has got on; no other body hears that."""

    # --- looking at it

    def look(self) -> None:
        """Somebody is about to call `where`: ask the node. From any thread."""
        if self.link is not None and not self.link.lost:
            self._answer = threading.Event()
            self._send("look")

    def where(self) -> RawStack:
        """The node, since when the rest of it is known, and the stack of the function there. From any thread.

        It is asked there, and waited for at most 60 ms; what was seen before is told after that.
        """
        link = self.link
        if link is None:
            return ()
        if self._answer is None:
            self.look()
        answer = self._answer
        if answer is not None and not link.is_silent():
            answer.wait(_PATIENCE)
        self._answer = None
        return (self._node(link), *(self._seen or self._first_line))

    def known_where(self) -> RawStack:
        """What was seen last, without asking the node."""
        return () if self.link is None else (self._node(self.link), *(self._seen or self._first_line))

    def _node(self, link: "Link") -> tuple[str, int, str, str]:
        age = time.monotonic() - self._seen_at if self._seen_at else None
        told = f"node {link.node.name}" if age is None or age < _PATIENCE else f"node {link.node.name}, {age:.1f} s ago"
        return ("<node>", 0, link.node.name, told)

    def saw(self, stack: RawStack) -> None:
        """The node has answered; in the thread of `_io`."""
        self._seen, self._seen_at = stack, time.monotonic()
        answer = self._answer
        if answer is not None:
            answer.set()

    # --- what the node tells

    def hear(self, link: "Link", meta: tuple[Any, ...], data: bytes, buffers: list[Any]) -> None:
        """A frame about this body."""
        kind, _, *parts = meta
        sink = self.sink
        if kind == "spooled":
            self.spooled(tuple(parts), data)
        elif kind == "done":
            self._let_go(link)
            self.finish(parts[0], data, buffers, parts[1], tuple(parts[2]))
        elif kind == "located":
            sink.located((self._node(link), *(parts[0] or self._first_line)))
        elif kind == "refused":
            sink.refused()
        elif kind == "progressed":
            report_progress(data, sink)
        elif kind == "helped":
            sink.helped(parts[0])
        elif kind == "cancel":
            sink.cancel(parts[0], grace=parts[1])
        elif kind == "raised":
            self._let_go(link)
            self._warn(tuple(parts[0]))
            error, problem = attempt(pickle.loads, data)
            sink.raised(error if problem is None else problem)
        elif kind == "stopped":
            rung, survivors = parts
            if not survivors:
                self._let_go(link)
            sink.stopped(None if rung is None else Rung(rung), tuple(survivors))
        elif kind == "lost":
            self.lost(link, "its lease was over, and it has ended everything")
        elif kind == "refused-start":
            self.refused_start()
            self._let_go(link)
            sink.raised(NodeLost(f"{self.name} was not begun on node {link.node.name}: {parts[0]}"))

    def lost(self, link: "Link", why: str) -> None:
        """It is dead, and nobody knows how it would have ended."""
        self._let_go(link)
        sink = self.sink
        if sink.reason is not None:
            sink.stopped(Rung.KILLED)
        else:
            sink.raised(NodeLost(f"node {link.node.name} was lost with {self.name}: {why}"))

    def _let_go(self, link: "Link") -> None:
        self.link = None
        self.cluster.release(self, link)
