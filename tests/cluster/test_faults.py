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
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from cluster import bodies
from cluster.nodes import LEASE, SLACK, Tree, Wires, agent, opened, run, seconds, until

import calloff
import calloff.cluster
from calloff.cluster import Node, NodeLost, Wire

__all__ = ["seconds"]


def test_an_agent_is_killed(tmp_path: Path, seconds: str) -> None:
    async def main() -> None:
        async with opened(Wires("a"), lease=20) as cluster:
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
        wires = Wires("a", "b")
        async with opened(wires) as cluster:
            told: list[tuple[str, bool]] = []
            trees = [Tree(cluster.on("a"), tmp_path, seconds + end) for end in "12"]
            for tree in trees:
                await tree.begun()
                tree.op.add_done_callback(lambda op, tree=tree: told.append((str(op.state), tree.is_dead())))  # type: ignore[misc]  # of a default
            pid = agent(cluster)
            if how == "wire cut":
                wires.cut.add("a")
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
                wires.cut.clear()
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
        async with opened(Wires("a")) as cluster:
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
        async with opened(Wires("a")) as cluster:
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


def test_all_of_an_owner_stands_still(tmp_path: Path, seconds: str) -> None:
    """As on a machine that sleeps: its work is killed by the lease meanwhile, and when it goes on it is told so."""
    program = textwrap.dedent(f"""
        import asyncio, sys, calloff, calloff.cluster
        from pathlib import Path
        sys.path.insert(0, {str(Path(__file__).parent.parent)!r})
        from cluster import bodies
        async def main():
            async with calloff.cluster.local(1, lease=2) as cluster:
                tree = cluster.process(bodies.tree, Path({str(tmp_path / "tree")!r}), {seconds!r})
                outcome = await calloff.start(tree).outcome()
                print(type(outcome).__name__, type(outcome.error).__name__, len(bodies.sleepers({seconds!r})))
                print(await calloff.call(cluster.process(bodies.add, 1, 2)))
        asyncio.run(main())
    """)

    async def main() -> None:
        owner = subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE, text=True)
        try:
            await until(lambda: (tmp_path / "tree").exists(), "the tree has begun")
            pid = int((tmp_path / "tree").read_text())
            owner.send_signal(signal.SIGSTOP)
            ended = lambda: not bodies.alive(pid) and not bodies.sleepers(seconds)  # noqa: E731
            await until(ended, "its lease has killed it", 2 + 1 + SLACK)
            assert owner.poll() is None
            owner.send_signal(signal.SIGCONT)
            told, _ = await asyncio.wait_for(asyncio.to_thread(owner.communicate), 30)
            assert told == "Failed NodeLost 0\n3\n"
        finally:
            owner.kill()
            owner.wait()

    run(main())


def test_a_loop_that_is_held_up_loses_nothing() -> None:
    async def main() -> None:
        lease = 3.0  # longer than a busy machine gives a process no turn
        async with opened(Wires("a"), lease) as cluster:
            op = calloff.start(cluster.process(time.sleep, 1.6 * lease))
            await until(lambda: str(op.state) == "running", "it runs")
            time.sleep(1.4 * lease)  # beats go out all the same
            await op

    run(main())


def test_a_cancel_before_the_start_and_a_second_start() -> None:
    """Frames as a wire may bring them that does not keep the order, or brings them twice."""

    async def main() -> None:
        async with opened(Wires("a"), lease=20) as cluster:
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
            for token in (first, second, second):
                cluster.post(link.write, start(token))
            await until(lambda: len(heard) >= 2, "two answers")
            cluster.post(link.write, start(second))
            await until(lambda: len(heard) >= 3, "three answers")
            assert ("stopped", first, int(calloff.Rung.ASKED), ()) in heard
            assert [meta[2] for meta in heard if meta[0] == "done"] == ["value"]
            assert ("refused-start", second, "it came twice, or behind a later one") in heard

    run(main())


class _Twice(Wires):
    """A wire that brings everything twice that begins something."""

    async def open(self, node: Node, heard: Callable[[bytes], None], ended: Callable[[str], None]) -> Wire:
        wire = await super().open(node, heard, ended)
        write = wire.write

        def twice(parts: Any) -> None:
            write(parts)
            if b"start" in bytes(parts[0])[:64]:
                write(parts)

        wire.write = twice  # type: ignore[method-assign]  # the wire is of this test
        return wire


def test_a_start_that_comes_twice_is_one(tmp_path: Path) -> None:
    """Of the second nothing is told: it would be heard of the first, which runs."""

    async def main() -> None:
        async with opened(_Twice("a"), lease=20) as cluster:
            op = calloff.start(cluster.process(bodies.sleeper, tmp_path / "mark"))
            await until(lambda: (tmp_path / "mark").exists(), "it runs")
            assert await calloff.call(cluster.process(bodies.add, 1, 2)) == 3
            assert not op.done(), f"{await op.outcome()} was told, and it runs"
            await op.stop(grace=0)

    run(main())


def test_what_is_held_up_grants_nothing(tmp_path: Path) -> None:
    """The welcome, beats and a start come late, just in time for the start; no answer comes back."""
    lease = 2.4

    async def main() -> None:
        wires = Wires("a")
        wires.held_there.add("a")
        async with opened(wires, lease) as cluster:
            path = tmp_path / "mark"
            op = calloff.start(cluster.process(bodies.sleeper, path))
            await asyncio.sleep(0.8 * lease)
            wires.cut.add("a")
            wires.release(cluster)
            outcome = await asyncio.wait_for(op.outcome(), lease + 1 + SLACK)
            wires.cut.clear()
            assert isinstance(outcome, calloff.Failed)
            assert isinstance(outcome.error, NodeLost)
            assert not path.exists() or not bodies.alive(int(path.read_text())), "it was called ended, and lives"

    run(main())


def test_a_node_that_was_silent_is_given_what_waits() -> None:
    async def main() -> None:
        wires = Wires("a")
        async with opened(wires, lease=4) as cluster:
            link = cluster._keeps[0].link
            assert link is not None
            wires.held_here.add("a")
            await until(link.is_silent, "it is silent")
            assert cluster.nodes()[0].state in ("silent", "lost")
            op = calloff.start(cluster.process(bodies.add, 1, 2))
            await asyncio.sleep(0.01)
            wires.release(cluster)
            assert await asyncio.wait_for(op, 10) == 3

    run(main())


def test_the_file_of_a_lease_is_tidied_away(tmp_path: Path, seconds: str) -> None:
    """A witness finds no file: that is no proof that the agent is gone, which is only stopped."""

    async def main() -> None:
        wires = Wires("a")
        async with opened(wires, lease=2) as cluster:
            tree = Tree(cluster, tmp_path, seconds)
            await tree.begun()
            link = cluster._keeps[0].link
            assert link is not None
            pid = agent(cluster)
            os.kill(pid, signal.SIGSTOP)
            try:
                os.unlink(link.path)
                cluster.post(link._ended, "the connection broke")
                outcome = await asyncio.wait_for(tree.op.outcome(), 2 + 1 + SLACK)
                assert tree.is_dead(), "it was called ended, and lives"
                assert isinstance(outcome, calloff.Failed)
            finally:
                os.kill(pid, signal.SIGCONT)

    run(main())


def test_a_carrier_that_raises_what_it_likes() -> None:
    class Odd(Wires):
        tries = 0

        async def open(self, node: Node, heard: Callable[[bytes], None], ended: Callable[[str], None]) -> Wire:
            self.tries += 1
            if self.tries in (2, 3):
                raise RuntimeError("odd")
            return await super().open(node, heard, ended)

    async def main() -> None:
        odd = Odd("a")
        async with opened(odd, lease=20) as cluster:
            os.kill(agent(cluster), signal.SIGKILL)
            await until(lambda: odd.tries > 3 and cluster.nodes()[0].state == "up", "it is connected again")
            assert await calloff.call(cluster.process(bodies.add, 1, 2)) == 3

    run(main())


def test_the_clocks_of_the_walls_are_set(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """That of the owner by a day ahead, that of the node by a day back, and then a second back at each look."""
    stepping = """
        import time
        def stepped(real, unit):
            looks = 0
            def read():
                nonlocal looks
                looks += 2
                return real() - unit * (86400 + looks)
            return read
        time.time, time.time_ns = stepped(time.time, 1), stepped(time.time_ns, 10**9)
    """
    (tmp_path / "sitecustomize.py").write_text(textwrap.dedent(stepping))
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))

    async def main() -> None:
        async with opened(Wires("a"), lease=20) as cluster:
            real, until = time.time, time.monotonic() + 1.5 * LEASE
            op = calloff.start(cluster.process(time.sleep, 600), timeout=1.5 * LEASE, grace=0.1)
            monkeypatch.setattr(time, "time", lambda: real() + 86400)
            while time.monotonic() < until:
                await asyncio.sleep(0.05)
            with pytest.raises(calloff.TimedOut):
                await op

    run(main())


class _OtherClock(Wires):
    """A node that was started long ago: its clock of leases is far from ours."""

    async def open(self, node: Node, heard: Callable[[bytes], None], ended: Callable[[str], None]) -> Wire:
        import calloff.cluster._local as local

        words = ["unshare", "--time", "--boottime", "5000000", "--monotonic", "5000000", "--fork", "--"]
        real = subprocess.run
        patched = lambda argv, **options: real([*words, *argv], **options)  # noqa: E731
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(local.subprocess, "run", patched)
            return await super().open(node, heard, ended)


def _has_time_namespaces() -> bool:
    try:
        return not subprocess.run(["unshare", "--time", "--boottime", "5", "--fork", "true"], check=False).returncode
    except OSError:
        return False


@pytest.mark.skipif(not _has_time_namespaces(), reason="needs root, and namespaces of time")
def test_a_node_with_another_clock(tmp_path: Path, seconds: str) -> None:
    async def main() -> None:
        wires = _OtherClock("a")
        lease = 3.0  # longer than a busy machine gives a process no turn
        async with opened(wires, lease) as cluster:
            link = cluster._keeps[0].link
            assert link is not None
            assert link._node_clock > 5000000
            tree = Tree(cluster, tmp_path, seconds)
            await tree.begun()
            await asyncio.sleep(1.5 * lease)
            assert not tree.op.done()
            wires.cut.add("a")
            outcome = await asyncio.wait_for(tree.op.outcome(), lease + 1 + SLACK)
            assert tree.is_dead()
            assert isinstance(outcome, calloff.Failed)
            wires.cut.clear()

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
            async with opened(Wires("a")):
                pass

    run(main())


def test_a_full_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """There is no room for the file of the lease: the node works, and a loss of it is certain by its lease alone."""
    (tmp_path / "sitecustomize.py").write_text(
        "import os\ndef full(*_): raise OSError(28, 'No space left on device')\nos.posix_fallocate = full\n"
    )
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))

    async def main() -> None:
        async with opened(Wires("a")) as cluster:
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
