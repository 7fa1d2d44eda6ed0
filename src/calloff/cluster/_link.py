"""The owner's end of the stream to one agent: the handshake, the beats, and what is certain of that agent.

All of it runs in the thread of `_io`, so that a program which holds up its own event loop loses no work by it.

What makes a verdict certain: an agent is believed to be granted life until ``its clock at the last answer that we have +
lease``, never more; so a beat that arrives late grants nothing that we do not know of. When nothing has come for the
lease, the drift of the clocks and the time that killing takes, all its work is dead (`Link.certain_at`).
"""

import asyncio
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from .._child.wire import frame
from .._version import __version__
from .._words.errors import CalloffError
from ._boot import Boot
from ._frames import Frames
from ._words import Node, NodeRefused, Wire, python_version

if TYPE_CHECKING:
    from ._words import Carrier

__all__ = ["SKEW", "Link"]

#: seconds beyond the lease until its work is called ended: for waking up and killing
SKEW = 1.0
#: how much faster our clock may go than that of the node
_DRIFT = 0.01
#: beats in the time of a lease
_BEATS = 5


class Link:
    """One agent, from the connection to the verdict.

    Args:
        node: where it is.
        lease: seconds.
        up: called with the frames that are for others.
        saw: called with answers to a look: a token and a stack.
        awake: called when it is heard of after it had gone silent.
    """

    def __init__(
        self,
        node: Node,
        lease: float,
        up: Callable[["Link", list[Any]], None],
        saw: Callable[["Link", int, Any], None],
        awake: Callable[[], None],
    ) -> None:
        self.node: Node = node
        self.lease: float = lease
        self._up, self._saw, self._awake = up, saw, awake
        self.words: frozenset[str] = frozenset((node.name, *node.labels))
        self._frames = Frames()
        self._boot: Boot | None = None
        self._wire: Wire | None = None
        self.facts: dict[str, Any] = {}
        self.path: str = ""
        #: when the last answer came, and the clock of the agent in it
        self.heard_at: float = 0.0
        self._node_clock = 0.0
        self._number = 0
        #: the agent said that its lease was over and everything is dead
        self.over: bool = False
        #: nothing is to be sent any more, in words
        self.lost: str = ""
        self.closing: bool = False
        #: whether what ran there has been told of
        self.settled: bool = False
        loop = asyncio.get_running_loop()
        self._hello: asyncio.Future[None] = loop.create_future()
        self.ended: asyncio.Future[None] = loop.create_future()
        self._witnessed: dict[str, asyncio.Future[bool]] = {}

    async def open(self, carrier: "Carrier", path: list[str] | None, cwd: str | None, connect: float) -> "Link":
        """Connect, and agree; within `connect` seconds the agent has to say hello.

        Raises:
            NodeRefused: its Python or calloff is another one.
            CalloffError: there is no agent to be had.
        """
        try:
            async with asyncio.timeout(connect):
                self._boot = carrier.boot()
                self._wire = await carrier.open(self.node, self._heard, self._ended)
                if self._boot is not None:
                    self._wire.write([self._boot.first])
                await self._hello
        except TimeoutError:
            self.close()
            raise CalloffError(f"node {self.node.name}: no agent answered within {connect:g} s") from None
        except OSError as error:
            self.close()
            raise CalloffError(f"node {self.node.name}: {error}") from error
        except BaseException:
            self.close()
            raise
        self._check()
        self.send("welcome", self.valid(), self.slots, path, cwd)
        self._task = asyncio.get_running_loop().create_task(self._beats())
        return self

    def _check(self) -> None:
        facts = self.facts
        theirs, ours = facts["python"], python_version()
        if (theirs.rsplit(".", 1)[0], facts["implementation"]) != (ours.rsplit(".", 1)[0], python_version(full=False)):
            self.close()
            raise NodeRefused(
                f"node {self.node.name} has {facts['implementation']} {theirs}, this program runs on "
                f"{python_version(full=False)} {ours}: functions and results can't cross over"
            )
        if facts["calloff"] != __version__:
            self.close()
            raise NodeRefused(
                f"node {self.node.name} has calloff {facts['calloff']}, this program has {__version__}: they "
                "don't understand each other"
            )

    @property
    def slots(self) -> int:
        """How many functions run there at a time."""
        return self.node.slots or int(self.facts["cpus"])

    # --- sending, from the thread of `_io`

    def send(self, *meta: Any) -> None:
        """Send a frame without data."""
        self.write(frame(meta, b""))

    def write(self, parts: list[Any]) -> None:
        """Send a frame that is ready."""
        if self._wire is not None and not self.lost:
            self._wire.write(parts)

    async def _beats(self) -> None:
        while not self.lost:
            self._number += 1
            self.send("beat", self._number, self._node_clock + self.lease)
            await asyncio.sleep(max(0.001, min(self.lease / _BEATS, self.certain_at() - time.monotonic())))
            if time.monotonic() >= self.certain_at():
                self._ended(f"nothing came from it for {self.silent():.1f} s")

    def valid(self) -> float:
        """Until when, on the clock of the node, a start that is sent now may be taken up there."""
        return self._node_clock + self.lease

    # --- hearing

    def _heard(self, data: bytes) -> None:
        if self._boot is not None:
            rest = self._boot.feed(data)
            if self._boot.reply is not None and self._wire is not None:
                self._wire.write(self._boot.reply)
                self._boot.reply = None
            if rest is None:
                return
            self._boot = None
            data = rest
            if not data:
                return
        try:
            frames = self._frames.feed(data)
        except Exception as error:
            self._ended(f"it sent what is no frame: {error}")
            return
        others: list[Any] = []
        for found in frames:
            kind, *parts = found[0]
            if kind == "hello":
                self.facts, self.path, clock = parts
                self._answered(clock)
                if not self._hello.done():
                    self._hello.set_result(None)
            elif kind == "beat":
                self._answered(parts[1])
            elif kind == "seen":
                self._saw(self, *parts)
            elif kind == "over":
                self.over = True
                others.append(found)
                self._ended("its lease was over, and it has ended everything")
            elif kind == "witnessed":
                path, gone = parts
                future = self._witnessed.pop(path, None)
                if future is not None and not future.done():
                    future.set_result(gone)
            else:
                others.append(found)
        if others:
            self._up(self, others)

    def _answered(self, clock: float) -> None:
        was_silent = self.is_silent()
        self.heard_at, self._node_clock = time.monotonic(), max(self._node_clock, clock)
        if was_silent:
            self._awake()

    def _ended(self, why: str) -> None:
        """No more of it."""
        if self.lost:
            return
        self.lost = why
        if self._wire is not None:
            self._wire.close()
        if not self._hello.done():
            said = self._boot.said() if self._boot is not None else ""
            self._hello.set_exception(CalloffError(f"node {self.node.name}: its agent did not come up: {said or why}"))
            self._hello.exception()
        for future in self._witnessed.values():
            if not future.done():
                future.set_result(False)
        if not self.ended.done():
            self.ended.set_result(None)

    def close(self) -> None:
        """End it in peace: the agent kills what is left there, and goes."""
        self.closing = True
        if not self.lost:
            self.send("bye")
        self._ended("it was closed")

    # --- what is certain

    def silent(self) -> float:
        """Seconds since anything was heard that counts."""
        return time.monotonic() - self.heard_at

    def is_silent(self) -> bool:
        """Whether so much of the lease is over that nothing new is sent there."""
        return self.silent() >= self.lease / 2

    def certain_at(self) -> float:
        """When all its work is dead for certain if nothing comes any more, on the monotonic clock."""
        return self.heard_at + self.lease * (1 + _DRIFT) + SKEW

    async def witness(self, other: "Link", patience: float) -> bool:
        """Whether this agent sees that nothing of that one lives any more."""
        if not other.path or not self.facts["machine"] or self.facts["machine"] != other.facts["machine"]:
            return False
        future: asyncio.Future[bool] = asyncio.get_running_loop().create_future()
        self._witnessed[other.path] = future
        self.send("witness", other.path, patience)
        return await future
