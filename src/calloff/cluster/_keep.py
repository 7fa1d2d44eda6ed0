"""Keeps one node: connects, connects again after a loss, and finds out when nothing of a lost agent lives any more.

In the thread of `_io`. Never is it believed that something has ended because a stream has: a fresh agent on the same node
sees whether anything of the lost one lives (`Link.witness`), or the lease is waited out.
"""

import asyncio
import logging
import time
from typing import TYPE_CHECKING, Any

from .._words.errors import CalloffError
from ._link import Link
from ._words import Carrier, Node

if TYPE_CHECKING:
    from ._cluster import Cluster

__all__ = ["Keep"]

_logger = logging.getLogger("calloff")
#: seconds between two attempts to reach a node, at first and at most
_PAUSE, _LONG_PAUSE = 0.1, 5.0


class Keep:
    """One node, for as long as the cluster is open."""

    def __init__(
        self, cluster: "Cluster", node: Node, carrier: Carrier, lease: float, path: list[str] | None, cwd: str | None
    ) -> None:
        self._cluster, self._carrier, self._lease = cluster, carrier, lease
        self._path, self._cwd = path, cwd
        self.node = node
        self.words: frozenset[str] = frozenset((node.name, *node.labels))
        self.link: Link | None = None
        self.state: str = "unreachable"
        self.why: str = ""
        self.since: float = time.monotonic()
        self._changed = asyncio.Event()
        self._verdicts: set[asyncio.Task[None]] = set()
        self._task: asyncio.Task[None] | None = None
        self._closing = False

    async def begin(self) -> CalloffError | None:
        """Connect for the first time; the error when that failed, and it is tried again from then on."""
        error = await self._connect()
        if error is not None:
            self._tell_of_reach()
        self._task = asyncio.get_running_loop().create_task(self._go_on())
        return error

    async def _connect(self) -> CalloffError | None:
        link = Link(self.node, self._lease, self._up, self._saw, self._awake)
        try:
            await link.open(self._carrier, self._path, self._cwd, self._cluster.connect)
        except CalloffError as error:
            self.why = str(error)
            return error
        if self.is_closing():
            link.close()
            return None
        self.link, self.why = link, ""
        self._cluster.tell(self._cluster.up, link)
        self._tell_of_reach()
        changed, self._changed = self._changed, asyncio.Event()
        changed.set()
        return None

    async def _go_on(self) -> None:
        pause = _PAUSE
        while not self._closing:
            if self.link is None:
                await asyncio.sleep(pause)
                pause = min(2 * pause, _LONG_PAUSE)
                await self._try()
                continue
            link = self.link
            await link.ended
            if self.is_closing():
                return
            pause = _PAUSE
            self.link, self.state, self.why, self.since = None, "lost", link.lost, link.heard_at
            _logger.warning("node %s was lost: %s", self.node.name, link.lost)
            self._cluster.tell(self._cluster.down, link)
            self._tell_of_reach()
            self._judge(link)
            await self._try()

    async def _try(self) -> None:
        try:
            await self._connect()
        except Exception as error:  # a carrier of the program's own
            self.why = f"{type(error).__name__}: {error}"
        self._tell_of_reach()

    def _tell_of_reach(self) -> None:
        self._cluster.tell(self._cluster.outages.told, self)

    def give_up(self) -> None:
        """Try no more to reach it."""
        if self.link is None and self._task is not None:
            self._task.cancel()
            self.why = f"given up: {self.why}"

    def _judge(self, link: Link) -> None:
        task = asyncio.get_running_loop().create_task(self._verdict(link))
        self._verdicts.add(task)
        task.add_done_callback(self._verdicts.discard)

    async def _verdict(self, link: Link) -> None:
        """Wait until it is certain that nothing of it lives."""
        why = "" if not link.over else link.lost
        while not why:
            left = link.certain_at() - time.monotonic()
            if left <= 0:
                why = f"nothing came from it for {link.silent():.1f} s, so its lease is over"
                break
            other = self.link
            try:
                async with asyncio.timeout(left):
                    if other is None or not await other.witness(link, left):
                        changed = self._changed
                        if self.link is other:
                            await changed.wait()
                    else:
                        why = f"{link.lost}; a fresh agent there has seen that all its work is dead"
            except TimeoutError:
                pass
        link.settled = True
        self._cluster.tell(self._cluster.settle, link, why)

    def _up(self, link: Link, frames: list[Any]) -> None:
        self._cluster.tell(self._cluster.hear, link, frames)

    def _saw(self, link: Link, token: int, stack: Any) -> None:
        self._cluster.saw(link, token, stack)

    def _awake(self) -> None:
        self._cluster.tell(self._cluster.feed)

    def close(self) -> None:
        """The cluster is left."""
        self._closing = True
        if self._task is not None:
            self._task.cancel()
        link = self.link
        if link is not None:
            link.close()
            self._judge(link)

    def is_closing(self) -> bool:
        """Whether the cluster is left meanwhile."""
        return self._closing

    async def settled(self) -> None:
        """Wait until everything is certain."""
        while self._verdicts:
            await asyncio.wait(tuple(self._verdicts))
