"""The cluster as a program has it: nodes, their slots, and who gets one."""

import asyncio
import logging
import os
import sys
import time
from collections import deque
from collections.abc import Callable, Coroutine
from contextlib import suppress
from types import TracebackType
from typing import Any, NamedTuple, ParamSpec, TypeVar, overload

from .._words.duration import delay
from .._words.errors import CalloffError
from .._words.given import name_of
from ._body import ClusterBody, ClusterWork
from ._io import Io
from ._keep import Keep
from ._link import Link
from ._outages import Outages
from ._words import Carrier, NodeRefused

__all__ = ["Cluster", "NodeState", "Nodes"]

P = ParamSpec("P")
T = TypeVar("T")
_logger = logging.getLogger("calloff")


class NodeState(NamedTuple):
    """What is known of a node.

    Attributes:
        name: of the node.
        state: ``up``, ``silent`` (nothing came for half a lease), ``lost`` or ``unreachable``.
        seconds: for how long it has not answered; 0 when nothing is due.
        slots: how many functions may run there at a time; 0 as long as that is not known.
        busy: how many slots are taken.
        why: why it can't be reached, in words; or the empty string.
    """

    name: str
    state: str
    seconds: float
    slots: int
    busy: int
    why: str = ""


class Nodes:
    """Some of the nodes of a cluster: a place for functions."""

    def __init__(self, cluster: "Cluster | None", labels: tuple[str, ...]) -> None:
        self._cluster = cluster
        self._labels = labels

    @overload
    def process(
        self, fn: Callable[P, Coroutine[Any, Any, T]], /, *args: P.args, **kwargs: P.kwargs
    ) -> ClusterWork[T]: ...
    @overload
    def process(self, fn: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> ClusterWork[T]: ...
    def process(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> ClusterWork[Any]:
        """Work that calls a function in a worker process of a node: ``calloff.start(cluster.process(fn, 1))``.

        Args:
            fn: a blocking or an async function. Its module is imported on the node; functions of the main script, nested
                ones and lambdas are sent by value.
            *args: its arguments, as they are when the operation is started.
            **kwargs: its keyword arguments.

        Returns:
            Work for `start` and `call`. It waits, in state `pending`, for a node with a free slot; its limits count from
            then on. Errors arrive as from `calloff.process`; `NodeLost` says that the node was lost and the function with
            it.

        Raises:
            TypeError: `fn` can't be called. The caller's fault.

        When the operation is asked to stop, `asyncio.CancelledError` is raised in the function where it is. After its
        grace the process there and everything below it is killed. A node that does not answer kills by itself when its
        lease is over; an operation that can't wait for that is `Abandoned`, and tells when it will be certain.
        """
        if not callable(fn):
            raise TypeError(f"process() needs a function, not {fn!r}")
        cluster = self._cluster
        assert cluster is not None
        return ClusterWork(cluster, self._labels, (fn, args, kwargs), name_of(fn))

    def _lane(self, window: Any, start: Callable[..., Any]) -> Any:
        """How a map gives several items at a time to a node."""
        from ._batches import OnNodes

        assert self._cluster is not None
        return OnNodes(window, start, self._cluster, self._labels)

    def on(self, *labels: str) -> "Nodes":
        """Those of these nodes that have all the labels; the name of a node is a label, too."""
        return Nodes(self._cluster, (*self._labels, *labels))


class Cluster(Nodes):
    """Machines that run functions for this program: ``async with cluster: await calloff.call(cluster.process(fn))``.

    Made by `local`, `ssh`, `commands`, `ray`, `dask`, or from a carrier of your own. It is entered once, in an event loop;
    when it is left, what still runs on its nodes is stopped, and the agents end.

    Args:
        carrier: how to reach the nodes.
        lease: seconds without a beat of this program after which a node kills all that runs there for it; also how long
            it takes at most until a node that is lost is told of.
        connect: seconds that an agent may take until it answers; a node that takes longer is tried again.
        send_path: whether the nodes import from where this program does; for nodes on this very machine.
    """

    def __init__(
        self, carrier: Carrier, *, lease: float = 10.0, connect: float = 30.0, send_path: bool = False
    ) -> None:
        super().__init__(self, ())
        self._carrier = carrier
        self._lease = delay(lease, "lease")
        if not 0.2 <= self._lease <= 86400:
            raise ValueError(f"lease must be from 0.2 to 86400 seconds, not {lease!r}")
        self.connect: float = delay(connect, "connect")
        self._send_path = send_path
        self._io: Io | None = None
        self._keeps: list[Keep] = []
        self._links: list[Link] = []
        self._busy: dict[Link, dict[int, ClusterBody]] = {}
        self._waiting: dict[tuple[str, ...], deque[ClusterBody]] = {}
        self._closing = False
        self.outages: Outages = Outages(self)
        self.loop: asyncio.AbstractEventLoop

    # --- its life

    async def __aenter__(self) -> "Cluster":
        if self._io is not None:
            raise RuntimeError("a cluster is entered once: make another one")
        self.loop = asyncio.get_running_loop()
        io = self._io = Io()
        try:
            nodes = await io.run(_nodes(self._carrier))
            known: dict[str, str] = {}
            path = [str(each) for each in sys.path] if self._send_path else None
            for node in nodes:
                if known.setdefault(node.name, "once") != "once":
                    raise ValueError(f"there are two nodes with the name {node.name!r}")
                known[node.name] = "twice"
                self._keeps.append(Keep(self, node, self._carrier, self._lease, path, os.getcwd() if path else None))
            errors = await asyncio.gather(*(io.run(keep.begin()) for keep in self._keeps))
            problems = [error for error in errors if error is not None]
            for error in problems:
                if isinstance(error, NodeRefused):
                    raise error
            if problems and len(problems) == len(self._keeps):
                raise problems[0]
            for error in problems:
                _logger.warning("%s; it is tried again", error)
            await asyncio.sleep(0)  # what was posted here meanwhile
        except BaseException:
            self._closing = True
            self.outages.close()
            await self._end(io)
            raise
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Stop what runs and waits, within the grace of each, and let the agents end."""
        assert self._io is not None
        self._closing = True
        self.outages.close()
        bodies = [body for those in self._busy.values() for body in those.values()]
        bodies += [body for those in self._waiting.values() for body in those]
        try:
            operations: list[Any] = [body.sink for body in bodies]
            await asyncio.gather(*(operation.stop("the cluster was closed") for operation in operations))
        finally:
            await self._end(self._io)

    async def _end(self, io: Io) -> None:
        closed = io.run(self._close())
        try:
            await asyncio.shield(asyncio.ensure_future(closed))
        finally:
            if any(self._busy.values()):  # the thread goes on until what became of them is certain
                io.spawn(self._outlive(io))
            else:
                io.stop()

    async def _close(self) -> None:
        for keep in self._keeps:
            keep.close()
        with suppress(TimeoutError):
            await asyncio.wait_for(self._carrier.close(), 2.0)

    async def _outlive(self, io: Io) -> None:
        await asyncio.gather(*(keep.settled() for keep in self._keeps))
        io.stop()

    # --- for the bodies

    def submit(self, body: ClusterBody) -> None:
        """Send it to a node, or have it wait its turn."""
        if self._io is None or self._closing:
            raise RuntimeError("the cluster is not open: start operations inside `async with cluster:`")
        if asyncio.get_running_loop() is not self.loop:
            raise RuntimeError("this cluster was entered in another event loop")
        if body.labels and not any(set(body.labels) <= keep.words for keep in self._keeps):
            names = ", ".join(sorted({word for keep in self._keeps for word in keep.words}))
            raise ValueError(f"no node has the labels {', '.join(body.labels)}; there are: {names}")
        queue = self._waiting.get(body.labels)
        link = None if queue else self._free(body.labels)
        if link is None:
            self._waiting.setdefault(body.labels, deque()).append(body)
        else:
            self._go(body, link)

    def withdraw(self, body: ClusterBody) -> None:
        """It shall not run."""
        with suppress(KeyError, ValueError):
            self._waiting[body.labels].remove(body)

    def release(self, body: ClusterBody, link: Link) -> None:
        """Its slot is free again."""
        busy = self._busy.get(link)
        if busy is not None:
            busy.pop(body.token, None)
        self.feed()

    def post(self, act: Callable[..., object], *args: Any) -> None:
        """Have it called in the thread of the streams."""
        assert self._io is not None
        self._io.post(act, *args)

    def _go(self, body: ClusterBody, link: Link) -> None:
        body.go(link)
        self._busy[link][body.token] = body

    def _free(self, labels: tuple[str, ...]) -> Link | None:
        """The node with the most free slots, among those with the labels; none that has gone silent."""
        best, most = None, 0
        for link in self._links:
            free = link.slots - len(self._busy[link])
            if free > most and (not labels or set(labels) <= link.words) and not link.is_silent():
                best, most = link, free
        return best

    def feed(self) -> None:
        """Send what waits to the nodes with free slots."""
        if self._closing:
            return
        for labels in tuple(self._waiting):
            queue = self._waiting[labels]
            while queue and (link := self._free(labels)) is not None:
                self._go(queue.popleft(), link)
            if not queue:
                del self._waiting[labels]

    # --- what the thread of the streams tells, in the loop of the program

    def up(self, link: Link) -> None:
        """A node can be used."""
        if not self._closing:
            self._links.append(link)
            self._busy[link] = {}
            self.feed()

    def down(self, link: Link) -> None:
        """A node can't be used any more; what runs there is not settled yet."""
        with suppress(ValueError):
            self._links.remove(link)
        if not self._busy.get(link):
            self._busy.pop(link, None)

    def settle(self, link: Link, why: str) -> None:
        """Nothing of it lives any more."""
        for body in tuple(self._busy.pop(link, {}).values()):
            body.lost(link, why)

    def hear(self, link: Link, frames: list[Any]) -> None:
        """Frames about bodies."""
        busy = self._busy.get(link)
        for meta, data, buffers in frames:
            body = None if busy is None else busy.get(meta[1]) if len(meta) > 1 else None
            if body is not None:
                try:
                    body.hear(link, meta, data, buffers)
                except Exception:
                    _logger.exception("what node %s told of %s could not be understood", link.node.name, body.name)

    def tell(self, act: Callable[..., object], *args: Any) -> None:
        """From the thread of the streams: have it called in the loop of the program."""
        with suppress(RuntimeError):  # that was closed
            self.loop.call_soon_threadsafe(act, *args)

    def saw(self, link: Link, token: int, stack: Any) -> None:
        """An answer to a look; in the thread of the streams."""
        body = self._busy.get(link, {}).get(token)
        if body is not None:
            body.saw(stack)

    # --- seen

    def nodes(self) -> tuple[NodeState, ...]:
        """What is known of each node now."""
        found: list[NodeState] = []
        for keep in self._keeps:
            link = keep.link
            if link is None:
                since = time.monotonic() - keep.since
                found.append(NodeState(keep.node.name, keep.state, since, 0, 0, keep.why))
                continue
            busy = len(self._busy.get(link, ()))
            silent = link.silent()
            state = "silent" if link.is_silent() else "up"
            found.append(NodeState(link.node.name, state, 0.0 if state == "up" else silent, link.slots, busy))
        return tuple(found)

    def __repr__(self) -> str:
        return f"<calloff.cluster of {len(self._keeps)} nodes>"


async def _nodes(carrier: Carrier) -> Any:
    nodes = await carrier.nodes()
    if not nodes:
        raise CalloffError("a cluster needs at least one node")
    return nodes
