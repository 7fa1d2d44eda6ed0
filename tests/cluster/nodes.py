"""What the tests of clusters share: agents of this machine behind a wire that can be cut and held up, and work on them."""

import asyncio
import os
import time
from collections.abc import Callable, Coroutine, Sequence
from itertools import count
from pathlib import Path
from typing import Any

import pytest
from cluster import bodies

import calloff
import calloff.cluster
from calloff.cluster import Cluster, Node, Wire
from calloff.cluster._local import _Local

LEASE = 1.0
#: how much later than the lease and a second something may be on a busy machine
SLACK = 8.0
_numbers = count(1)


class _Line:
    """A wire that can be cut, or held up in either direction."""

    real: Wire

    def __init__(self, wires: "Wires", node: Node, heard: Callable[[bytes], None]) -> None:
        self._wires, self._name, self._to_owner = wires, node.name, heard
        self._there: list[bytes] = []
        self._here: list[bytes] = []

    def write(self, parts: Sequence[bytes | memoryview]) -> None:
        if self._name in self._wires.cut:
            return
        if self._name in self._wires.held_there or self._there:
            self._there += map(bytes, parts)
        else:
            self.real.write(parts)

    def heard(self, data: bytes) -> None:
        if self._name in self._wires.cut:
            return
        if self._name in self._wires.held_here or self._here:
            self._here.append(data)
        else:
            self._to_owner(data)

    def go_on(self) -> None:
        """Bring what was held up, in its order; in the thread of the streams."""
        if self._name not in self._wires.held_there:
            there, self._there = self._there, []
            self.real.write(there)
        if self._name not in self._wires.held_here:
            here, self._here = self._here, []
            for data in here:
                self._to_owner(data)

    def close(self) -> None:
        self._wires.lines.discard(self)
        self.real.close()


class Wires(_Local):
    """Local agents; the names in `cut` can't be reached, and what is sent meanwhile is lost.

    What is sent to the names in `held_there`, and what comes from those in `held_here`, is brought by `release`.
    """

    def __init__(self, *names: str, slots: int = 4) -> None:
        super().__init__([Node(name, slots) for name in names])
        self.cut: set[str] = set()
        self.held_there: set[str] = set()
        self.held_here: set[str] = set()
        self.lines: set[_Line] = set()

    async def open(self, node: Node, heard: Callable[[bytes], None], ended: Callable[[str], None]) -> Wire:
        if node.name in self.cut:
            raise OSError("no way there")
        line = _Line(self, node, heard)
        line.real = await super().open(node, line.heard, ended)
        self.lines.add(line)
        return line

    def release(self, cluster: Cluster) -> None:
        """Nothing is held up any more; what was is brought now."""
        self.held_there.clear()
        self.held_here.clear()

        def go_on() -> None:
            for line in tuple(self.lines):
                line.go_on()

        cluster.post(go_on)


def opened(carrier: Any, lease: float = LEASE) -> Cluster:
    return Cluster(carrier, lease=lease, send_path=True)


def agent(cluster: Cluster, node: int = 0) -> int:
    link = cluster._keeps[node].link
    assert link is not None
    return int(link.facts["pid"])


def run(main: Coroutine[Any, Any, None]) -> None:
    async def bounded() -> None:
        async with asyncio.timeout(60):
            await main

    asyncio.run(bounded())


async def until(true: Callable[[], object], what: str, seconds: float = 30) -> None:
    bound = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < bound, f"never came true: {what}"
        await asyncio.sleep(0.01)


def new_seconds() -> str:
    """For how long something is to sleep, which tells it from everything else on this machine."""
    return f"8{os.getpid()}.{next(_numbers)}"


@pytest.fixture
def seconds() -> str:
    return new_seconds()


class Tree:
    """A deaf tree of processes on a node."""

    def __init__(self, cluster: calloff.cluster.Nodes, tmp_path: Path, seconds: str, **options: Any) -> None:
        self._cluster, self._folder, self._options = cluster, tmp_path, options
        self._start(seconds)

    def _start(self, seconds: str) -> None:
        self.path, self.seconds = self._folder / seconds, seconds
        self.op: calloff.Operation[None] = calloff.start(
            self._cluster.process(bodies.tree, self.path, seconds), name="tree", **self._options
        )

    async def begun(self) -> None:
        """Wait until all of it is there; on a busy machine the lease may be over before, and it is started again."""
        bound = time.monotonic() + 30
        while not (self.path.exists() and len(bodies.sleepers(self.seconds)) == 3):
            assert time.monotonic() < bound, "the tree never began"
            if self.op.done():
                error = self.op.exception()
                assert isinstance(error, calloff.cluster.NodeLost), repr(error)
                self._start(new_seconds())
            await asyncio.sleep(0.01)
        self.pid = int(self.path.read_text())

    def is_dead(self) -> bool:
        return not bodies.alive(self.pid) and not bodies.sleepers(self.seconds)
