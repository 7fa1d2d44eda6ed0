"""What breaks between an owner and its nodes: what the caller is told, when, and that nothing is left.

The wire is cut here in the carrier, in both directions and without a word, as a network does it.
"""

import asyncio
import os
import signal
import subprocess
import sys
import textwrap
import time
from collections.abc import Callable, Coroutine, Sequence
from itertools import count
from pathlib import Path
from typing import Any

import pytest
from cluster import bodies

import calloff
import calloff.cluster
from calloff.cluster import Cluster, Node, NodeLost, Wire
from calloff.cluster._local import _Local

LEASE = 1.0
#: how much later than the lease and a second something may be on a busy machine
SLACK = 8.0
_numbers = count(1)


class _Line:
    """A wire that can be cut."""

    def __init__(self, cuts: "Cuts", node: Node) -> None:
        self.cuts, self.node = cuts, node

    def write(self, parts: Sequence[bytes | memoryview]) -> None:
        if self.node.name not in self.cuts.cut:
            self.real.write(parts)

    def close(self) -> None:
        self.real.close()


class Cuts(_Local):
    """Local agents; the names in `cut` can't be reached, and what is sent meanwhile is lost."""

    def __init__(self, *names: str, slots: int = 4) -> None:
        super().__init__([Node(name, slots) for name in names])
        self.cut: set[str] = set()

    async def open(self, node: Node, heard: Callable[[bytes], None], ended: Callable[[str], None]) -> Wire:
        if node.name in self.cut:
            raise OSError("no way there")
        line = _Line(self, node)
        line.real = await super().open(node, lambda data: node.name in self.cut or heard(data), ended)
        return line


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


@pytest.fixture
def seconds() -> str:
    return f"8{os.getpid()}.{next(_numbers)}"


class Tree:
    """A deaf tree of processes on a node."""

    def __init__(self, cluster: Cluster, tmp_path: Path, seconds: str, **options: Any) -> None:
        self.path, self.seconds = tmp_path / seconds, seconds
        self.op: calloff.Operation[None] = calloff.start(
            cluster.process(bodies.tree, self.path, seconds), name="tree", **options
        )

    async def begun(self) -> None:
        await until(lambda: self.path.exists() and len(bodies.sleepers(self.seconds)) == 3, "the tree has begun")
        self.pid = int(self.path.read_text())

    def is_dead(self) -> bool:
        return not bodies.alive(self.pid) and not bodies.sleepers(self.seconds)


def test_an_agent_is_killed(tmp_path: Path, seconds: str) -> None:
    async def main() -> None:
        async with opened(Cuts("a"), lease=20) as cluster:
            tree = Tree(cluster, tmp_path, seconds)
            await tree.begun()
            os.kill(agent(cluster), signal.SIGKILL)
            outcome = await asyncio.wait_for(tree.op.outcome(), 15)
            assert tree.is_dead()
            assert isinstance(outcome, calloff.Failed)
            assert isinstance(outcome.error, NodeLost)
            assert "a fresh agent there has seen" in str(outcome.error), "a witness is quicker than the lease"
            assert await calloff.call(cluster.process(bodies.add, 1, 2)) == 3, "the node is used again"

    run(main())


@pytest.mark.parametrize("how", ["agent stopped", "wire cut"])
def test_nothing_is_heard_of_a_node(tmp_path: Path, seconds: str, how: str) -> None:
    async def main() -> None:
        cuts = Cuts("a", "b")
        async with opened(cuts) as cluster:
            told: list[tuple[str, bool]] = []
            trees = [Tree(cluster.on("a"), tmp_path, seconds + end) for end in "12"]  # type: ignore[arg-type]
            for tree in trees:
                await tree.begun()
                tree.op.add_done_callback(lambda op, tree=tree: told.append((str(op.state), tree.is_dead())))
            pid = agent(cluster)
            if how == "wire cut":
                cuts.cut.add("a")
            else:
                os.kill(pid, signal.SIGSTOP)
            cut_at = time.monotonic()
            try:
                stopped = await trees[1].op.stop(grace=0)
                if isinstance(stopped, calloff.Abandoned):  # on a busy machine the lease may be over by then
                    assert "it is certain to have ended in" in stopped.report.survivors[0]
                    assert "node a" in stopped.report.survivors[0]
                outcome = await asyncio.wait_for(trees[0].op.outcome(), LEASE + 1 + SLACK)
                assert time.monotonic() - cut_at > 0.7 * LEASE
                assert trees[0].is_dead()
                assert isinstance(outcome, calloff.Failed)
                assert isinstance(outcome.error, NodeLost)
                await until(lambda: any(state == "failed" for state, _ in told), "it is told of")
                assert ("failed", True) in told
                assert ("failed", False) not in told, "it was called ended while it lived"
                await until(lambda: trees[1].op not in calloff.operations(), "the abandoned one has ended, too")
                assert trees[1].is_dead()
                assert await calloff.call(cluster.process(bodies.add, 1, 2)) == 3, "there is another node"
                assert cluster.nodes()[0].state in ("lost", "unreachable", "up")
            finally:
                cuts.cut.clear()
                if bodies.alive(pid):
                    os.kill(pid, signal.SIGCONT)
            await until(lambda: cluster.nodes()[0].state == "up", "the node is back")
            assert await calloff.call(cluster.on("a").process(bodies.add, 1, 2)) == 3
            assert agent(cluster) != pid
            await until(lambda: not bodies.alive(pid), "the former agent has ended")

    run(main())


def test_what_was_sent_before_the_lease_ended_is_read_after_it(tmp_path: Path) -> None:
    """The verdict is given; then the agent, which was stopped, reads a start and beats that were on their way."""

    async def main() -> None:
        async with opened(Cuts("a")) as cluster:
            pid = agent(cluster)
            path = tmp_path / "late"
            link = cluster._keeps[0].link
            assert link is not None
            link.silent = lambda: 0.0  # type: ignore[method-assign]  # it is chosen, however slow this machine is
            os.kill(pid, signal.SIGSTOP)
            try:
                op = calloff.start(cluster.process(bodies.sleeper, path))
                outcome = await asyncio.wait_for(op.outcome(), LEASE + 1 + SLACK)
                assert isinstance(outcome, calloff.Failed)
                assert isinstance(outcome.error, NodeLost)
            finally:
                os.kill(pid, signal.SIGCONT)
            await until(lambda: not bodies.alive(pid), "the former agent has ended")
            assert not path.exists(), "it was called ended, and began"

    run(main())


def test_an_owner_is_killed(tmp_path: Path, seconds: str) -> None:
    program = textwrap.dedent(f"""
        import asyncio, sys, calloff, calloff.cluster
        from pathlib import Path
        sys.path.insert(0, {str(Path(__file__).parent.parent)!r})
        from cluster import bodies
        async def main():
            async with calloff.cluster.local(1, lease={LEASE}) as cluster:
                await calloff.call(cluster.process(bodies.tree, Path({str(tmp_path / "tree")!r}), {seconds!r}))
        asyncio.run(main())
    """)

    async def main() -> None:
        owner = subprocess.Popen([sys.executable, "-c", program])
        try:
            await until(lambda: (tmp_path / "tree").exists(), "the tree has begun")
            pid = int((tmp_path / "tree").read_text())
        finally:
            owner.kill()
            owner.wait()
        await until(
            lambda: not bodies.alive(pid) and not bodies.sleepers(seconds), "nothing is left", LEASE + 1 + SLACK
        )

    run(main())


def _stand_still(seconds: float) -> None:
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        pass


def test_an_owner_whose_machine_sleeps(tmp_path: Path, seconds: str) -> None:
    """All of the owner stands still for longer than the lease; here its streams, and then it goes on."""

    async def main() -> None:
        async with opened(Cuts("a")) as cluster:
            tree = Tree(cluster, tmp_path, seconds)
            await tree.begun()
            assert cluster._io is not None
            cluster._io.post(_stand_still, 2.5 * LEASE)
            outcome = await asyncio.wait_for(tree.op.outcome(), 2.5 * LEASE + 1 + SLACK)
            assert isinstance(outcome, calloff.Failed)
            assert isinstance(outcome.error, NodeLost)
            assert tree.is_dead()
            assert await calloff.call(cluster.process(bodies.add, 1, 2)) == 3

    run(main())


def test_a_loop_that_is_held_up_loses_nothing() -> None:
    async def main() -> None:
        async with opened(Cuts("a")) as cluster:
            op = calloff.start(cluster.process(time.sleep, 2.5 * LEASE))
            await until(lambda: str(op.state) == "running", "it runs")
            time.sleep(2 * LEASE)  # beats go out all the same
            await op

    run(main())


def test_a_cancel_before_the_start_and_a_second_start() -> None:
    """Frames as a wire may bring them that does not keep the order, or brings them twice."""

    async def main() -> None:
        async with opened(Cuts("a")) as cluster:
            link = cluster._keeps[0].link
            assert link is not None
            heard: list[Any] = []
            link._up = lambda _, frames: heard.extend(frame[0] for frame in frames)
            from calloff._child.wire import frame
            from calloff._places.process.packing import pack

            def start(token: int) -> list[Any]:
                data, buffers = pack(bodies.add, (1, 2), {}, "add")
                return frame(("start", token, ("id", "name"), link.valid(), None, None, None), data, buffers)

            first, second = 10**9, 10**9 + 1
            for _ in range(2):
                cluster.post(link.send, "ask", first, "requested", "early", None, 0.0, None, None)
            cluster.post(link.write, start(first))
            for _ in range(2):
                cluster.post(link.write, start(second))
            await until(lambda: len(heard) >= 3, "three answers")
            assert ("stopped", first, int(calloff.Rung.ASKED), ()) in heard
            assert ("refused-start", second, "this attempt was started here before") in heard
            assert [meta[2] for meta in heard if meta[0] == "done"] == ["value"]

    run(main())


@pytest.mark.parametrize("fact", ["calloff", "python"])
def test_a_version_that_differs(fact: str, monkeypatch: pytest.MonkeyPatch) -> None:
    name = {"calloff": "__version__", "python": "python_version"}[fact]
    monkeypatch.setattr(
        f"calloff.cluster._link.{name}",
        "9.9" if fact == "calloff" else lambda full=True: "3.9.1" if full else "cpython",
    )

    async def main() -> None:
        with pytest.raises(calloff.cluster.NodeRefused, match=r"node a has .*9\."):
            async with opened(Cuts("a")):
                pass

    run(main())


def test_a_full_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """There is no room for the file of the lease: the node works, and a loss of it is certain by its lease alone."""
    (tmp_path / "sitecustomize.py").write_text(
        "import os\ndef full(*_): raise OSError(28, 'No space left on device')\nos.posix_fallocate = full\n"
    )
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))

    async def main() -> None:
        async with opened(Cuts("a")) as cluster:
            assert cluster._keeps[0].link is not None
            assert cluster._keeps[0].link.path == ""
            assert await calloff.call(cluster.process(bodies.add, 1, 2)) == 3
            op = calloff.start(cluster.process(time.sleep, 100))
            await until(lambda: str(op.state) == "running", "it runs")
            os.kill(agent(cluster), signal.SIGKILL)
            outcome = await asyncio.wait_for(op.outcome(), LEASE + 1 + SLACK)
            assert isinstance(outcome, calloff.Failed)
            assert "its lease is over" in str(outcome.error)

    run(main())


def test_an_error_comes_whole() -> None:
    async def main() -> None:
        async with calloff.cluster.local() as cluster:
            with pytest.raises(ValueError, match="second") as caught:
                await calloff.call(cluster.process(bodies.with_notes))
            assert caught.value.__notes__ == ["a note"]
            assert "KeyError: 'first'" in str(caught.value.__cause__)
            data = os.urandom(5_000_000)
            assert await calloff.call(cluster.process(bodies.large, data)) == data + b"!"

    run(main())
