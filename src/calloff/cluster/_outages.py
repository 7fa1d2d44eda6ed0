"""A node that is out of reach, as an operation: so ps, top and the page show it, since when, and why.

It ends when the node is reached again. Who calls it off has the cluster try no more.
"""

import asyncio
from typing import TYPE_CHECKING

from .._api.start import start
from .._operation.current import progress
from .._operation.operation import Operation

if TYPE_CHECKING:
    from ._cluster import Cluster
    from ._keep import Keep

__all__ = ["Outages"]


class Outages:
    """Those of the nodes of a cluster; in the loop of the program."""

    def __init__(self, cluster: "Cluster") -> None:
        self._cluster = cluster
        self._news: dict[Keep, asyncio.Event] = {}
        self._operations: set[Operation[None]] = set()
        self._closed = False

    def told(self, keep: "Keep") -> None:
        """Whether it can be reached, or why it can't, has changed."""
        if self._closed:
            return
        if keep in self._news:
            self._news[keep].set()
        elif keep.link is None and keep.why:
            self._news[keep] = asyncio.Event()
            name = f"node {keep.node.name} is out of reach"
            operation = start(self._last(keep), name=name, grace=0.1, detached=True)
            self._operations.add(operation)
            operation.add_done_callback(self._operations.discard)

    async def _last(self, keep: "Keep") -> None:
        news = self._news[keep]
        try:
            while keep.link is None:
                progress(keep.why)
                news.clear()
                await news.wait()
        except asyncio.CancelledError:
            if not self._closed:
                self._cluster.post(keep.give_up)
            raise
        finally:
            del self._news[keep]

    def close(self) -> None:
        """The cluster is left."""
        self._closed = True
        for operation in tuple(self._operations):
            operation.cancel("the cluster was closed")
