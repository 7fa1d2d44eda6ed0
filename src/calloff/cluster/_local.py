"""Agents as processes of this machine: the embedded cluster, and the test bed of the others."""

import asyncio
import os
import socket
import subprocess
import sys
from collections.abc import Callable, Sequence

from .._places.keeper import refuse
from ._boot import Boot
from ._cluster import Cluster
from ._stream import Stream
from ._words import Node, Wire

__all__ = ["local", "start_agent"]

_ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
_CODE = "import sys; sys.path[:0] = [{root!r}]; sys.path += {path!r}; from {home} import begin; begin({file})"


def local(nodes: int = 1, *, slots: int | None = None, lease: float = 10.0) -> Cluster:
    """Run functions with agents that are processes of this machine, named ``local-0``, ``local-1`` and so on.

    Args:
        nodes: how many agents.
        slots: how many functions run at a time at each; by default the CPUs, shared between them.
        lease: seconds without a beat of this program after which an agent's work is killed.

    Raises:
        TypeError, ValueError: an argument is out of range. The caller's fault.
    """
    if isinstance(nodes, bool) or not isinstance(nodes, int):
        raise TypeError(f"nodes must be a whole number, not {nodes!r}")
    if nodes < 1:
        raise ValueError(f"nodes must be 1 or more, not {nodes!r}")
    each = slots or max(1, (os.cpu_count() or 1) // nodes)
    return Cluster(_Local([Node(f"local-{number}", each) for number in range(nodes)]), lease=lease, send_path=True)


def start_agent(path: Sequence[str] = ()) -> int:
    """Start an agent, as nobody's child; our end of the socket to it.

    Args:
        path: where it imports from, too.
    """
    ours, theirs = socket.socketpair()
    with ours, theirs:
        code = _CODE.format(root=_ROOT, path=list(path), home=f"{__package__}._agent", file=theirs.fileno())
        subprocess.run(
            [sys.executable, "-P", "-c", code], stdin=subprocess.DEVNULL, pass_fds=[theirs.fileno()], check=False
        )
        return ours.detach()


class _Local:
    def __init__(self, nodes: list[Node]) -> None:
        refuse()
        self._nodes = nodes

    async def nodes(self) -> Sequence[Node]:
        return self._nodes

    async def open(self, node: Node, heard: Callable[[bytes], None], ended: Callable[[str], None]) -> Wire:
        loop = asyncio.get_running_loop()
        file = await loop.run_in_executor(None, start_agent)
        return Stream(loop, file, file, heard, ended)

    def boot(self) -> Boot | None:
        return None

    async def close(self) -> None:
        """Agents end with their streams."""
