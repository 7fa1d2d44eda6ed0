"""Agents behind a program: a stand-in for ``kubectl exec -i POD -- python3``."""

import asyncio
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from cluster import bodies
from cluster.nodes import SLACK, Tree, agent, new_seconds, run

import calloff
import calloff.cluster
from calloff.cluster import Node, NodeLost


def pod(tmp_path: Path) -> list[str]:
    """A program that takes kubectl's words, and runs what stands behind the ``--``."""
    script = tmp_path / "kubectl"
    script.write_text('#!/bin/sh\nwhile [ "$1" != -- ]; do shift; done\nshift\nexec "$@"\n')
    script.chmod(0o755)
    tests = Path(__file__).parent.parent
    environment = [f"PYTHONPATH={tests}", f"XDG_CACHE_HOME={tmp_path}/cache"]
    return [str(script), "exec", "-i", "pod", "--", "env", *environment, os.path.realpath(sys.executable), "-s"]


def test_a_program_carries_the_stream(tmp_path: Path) -> None:
    async def main() -> None:
        nodes = {Node("pod-0", 2, ("gpu",)): pod(tmp_path), Node("pod-1", 2): pod(tmp_path)}
        async with calloff.cluster.commands(nodes, lease=20) as cluster:
            assert await calloff.call(cluster.process(bodies.add, 1, 2)) == 3
            pids = {await calloff.call(cluster.on(label).process(os.getppid)) for label in ("gpu", "pod-0")}
            assert len(pids | {await calloff.call(cluster.on("pod-1").process(os.getppid))}) >= 2
            with pytest.raises(ValueError, match="no node has the labels tpu; there are: gpu, pod-0, pod-1"):
                calloff.start(cluster.on("tpu").process(bodies.add, 1, 2))
            tree = Tree(cluster.on("gpu"), tmp_path, f"83{os.getpid()}.1")
            await tree.begun()
            os.kill(agent(cluster), signal.SIGKILL)
            outcome = await asyncio.wait_for(tree.op.outcome(), 15)
            assert tree.is_dead()
            assert isinstance(outcome, calloff.Failed)
            assert isinstance(outcome.error, NodeLost)

    run(main())


def test_one_of_two_is_not_there(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    async def main() -> None:
        nodes = {"there": pod(tmp_path), "gone": ["sh", "-c", "echo pods not found >&2; exit 1"]}
        async with calloff.cluster.commands(nodes) as cluster:
            assert await calloff.call(cluster.process(bodies.add, 1, 2)) == 3
            there, gone = cluster.nodes()
            assert (there.state, gone.state) == ("up", "unreachable")
            assert "pods not found" in gone.why

    run(main())
    assert "pods not found; it is tried again" in caplog.text


@pytest.mark.parametrize(
    ("make", "error", "words"),
    [
        (lambda: calloff.cluster.local(0), ValueError, "nodes must be 1 or more"),
        (lambda: calloff.cluster.local(True), TypeError, "nodes must be a whole number"),
        (lambda: calloff.cluster.local(1, slots=-1), ValueError, "slots must be"),
        (lambda: calloff.cluster.local(1, lease=0.01), ValueError, "lease must be from"),
        (lambda: calloff.cluster.local(1, lease=-1), ValueError, "lease"),
        (lambda: calloff.cluster.commands({}), ValueError, "at least one node"),
        (lambda: calloff.cluster.commands({"a": "kubectl exec"}), TypeError, "a list of words"),
        (lambda: calloff.cluster.commands({"a": ["sh"]}, modules=["json", "_socket"]), ValueError, "'_socket'"),
        (lambda: Node("", 1), TypeError, "needs a name"),
        (lambda: Node("a", 1, "gpu"), TypeError, "list of words"),  # type: ignore[arg-type]  # on purpose
    ],
)
def test_bad_input(make: object, error: type[Exception], words: str) -> None:
    with pytest.raises(error, match=words):
        make()  # type: ignore[operator]


def test_outside_of_it() -> None:
    async def main() -> None:
        cluster = calloff.cluster.local()
        with pytest.raises(RuntimeError, match="inside `async with cluster:`"):
            calloff.start(cluster.process(bodies.add, 1, 2))
        async with cluster:
            running = calloff.start(cluster.process(bodies.sleeper, Path(os.devnull)), grace=0.1)
            waiting = [calloff.start(cluster.process(bodies.add, 1, 2)) for _ in range(100)]
        assert running.done()
        assert all(op.done() for op in waiting)
        with pytest.raises(RuntimeError, match="entered once"):
            await cluster.__aenter__()

    run(main())


_FULL = """
mkdir -p "$0/cache" "$0/tmp"
for each in /dev/shm "$0/cache" "$0/tmp"; do
    mount -t tmpfs -o size=16k none "$each" && head -c 16384 /dev/zero > "$each/full" || exit 9
done
exec "$@"
"""


def _can_mount() -> bool:
    try:
        return not subprocess.run(["unshare", "-m", "mount", "-t", "tmpfs", "none", "/mnt"], check=False).returncode
    except OSError:
        return False


@pytest.mark.skipif(not _can_mount(), reason="needs root, to have a disk that is full")
def test_the_disks_of_a_node_are_full(tmp_path: Path) -> None:
    """What is brought along finds no room but at the last place that is tried, and the file of a lease finds none."""
    disks = ["unshare", "-m", "sh", "-c", _FULL, str(tmp_path), "env", f"TMPDIR={tmp_path}/tmp"]

    async def main() -> None:
        async with calloff.cluster.commands({"full": [*disks, *pod(tmp_path)]}, lease=2) as cluster:
            assert await calloff.call(cluster.on("full").process(bodies.add, 1, 2)) == 3
            tree = Tree(cluster.on("full"), tmp_path, new_seconds())
            await tree.begun()
            os.kill(agent(cluster), signal.SIGKILL)
            outcome = await asyncio.wait_for(tree.op.outcome(), 2 + 1 + SLACK)
            assert tree.is_dead()
            assert isinstance(outcome, calloff.Failed)
            assert "its lease is over" in str(outcome.error)

    run(main())
