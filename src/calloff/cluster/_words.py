"""What carriers and the rest of the cluster have to say to each other."""

import platform
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol, cast

from .._words.errors import CalloffError, WorkerDied

if TYPE_CHECKING:
    from ._boot import Boot

__all__ = ["Carrier", "Node", "NodeLost", "NodeRefused", "Wire", "python_version"]


class NodeLost(WorkerDied):
    """The node that ran the function was lost, and with it the function: the node's fault or the wire's.

    It is told only when the function is known to be dead: its lease is over, or a fresh agent on that node has seen it.
    """

    __module__ = "calloff.cluster"

    def __reduce__(self) -> tuple[Any, ...]:
        return NodeLost, (str(self),)


class NodeRefused(CalloffError):
    """The Python or the calloff of a node is not that of this program: whoever set up the node is to change that."""

    __module__ = "calloff.cluster"


@dataclass(frozen=True)
class Node:
    """One machine of a cluster, or a part of one.

    Attributes:
        name: what it is called; the carrier finds it by that.
        slots: how many functions may run there at a time; ``None`` for the number of its CPUs.
        labels: words that `Cluster.on` chooses nodes by.
    """

    name: str
    slots: int | None = None
    labels: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        name, slots, labels = cast(tuple[object, object, object], (self.name, self.slots, self.labels))
        if not isinstance(name, str) or not name:
            raise TypeError(f"a node needs a name, not {name!r}")
        if slots is not None and (isinstance(slots, bool) or not isinstance(slots, int) or slots < 1):
            raise ValueError(f"slots must be a whole number from 1 on, not {slots!r}")
        if isinstance(labels, str):
            raise TypeError(f"labels must be a list of words, not {labels!r}")


class Wire(Protocol):
    """A stream of bytes to an agent. Its methods are called in the event loop that it was opened in, and never block."""

    def write(self, parts: Sequence[bytes | memoryview], /) -> None:
        """Send these, in this order, after everything that was sent before."""
        ...

    def close(self) -> None:
        """Let go of it: the agent sees the end of what it reads."""
        ...


class Carrier(Protocol):
    """How to get a stream of bytes to a fresh agent on a node: all that an engine, or a way to reach machines, has to do.

    Its methods run in an event loop of calloff's own, in a thread of its own.
    """

    async def nodes(self) -> Sequence[Node]:
        """Which nodes there are; asked once, when the cluster is entered."""
        ...

    async def open(self, node: Node, heard: Callable[[bytes], None], ended: Callable[[str], None], /) -> Wire:
        """Start a fresh agent on that node and connect to it.

        Args:
            node: one of `nodes`.
            heard: to be called with what the agent has sent, in order.
            ended: to be called once, with the reason in words, when nothing more will come.

        Raises:
            OSError: it can't be reached now; it is tried again later.
        """
        ...

    def boot(self) -> "Boot | None":
        """``None`` when what was opened is an agent; what turns a bare Python into one, where it is that."""
        ...

    async def close(self) -> None:
        """The cluster is left."""
        ...


def python_version(*, full: bool = True) -> str:
    """That of this program; or the name of the implementation."""
    return platform.python_version() if full else sys.implementation.name
