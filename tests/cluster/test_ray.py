"""Agents on a small Ray cluster of two nodes; skipped where Ray is not installed, or does not come up."""

import asyncio
import os
import signal
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from cluster import bodies
from cluster.nodes import SLACK, Tree, new_seconds, run, until
from cluster.places import OnEngine, a_driver_is_killed

import calloff
import calloff.cluster
from calloff.cluster import Cluster, NodeLost

ray: Any = pytest.importorskip("ray", reason="ray is not installed")
#: Ray leaves files and warnings of its own
pytestmark = pytest.mark.filterwarnings("ignore")
TESTS = str(Path(__file__).parent.parent)
#: seconds that are granted to Ray for what it does by itself, and until it has come up: it gives up after 30 each time
_RAY, _UP = 60, 180
#: what is started: two nodes, without what no test needs
_NODES: tuple[dict[str, Any], ...] = (
    {"num_cpus": 8, "include_dashboard": False},
    {"num_cpus": 2, "resources": {"second": 4}},
)
_LEAN: dict[str, Any] = {"object_store_memory": 80 << 20, "include_log_monitor": False, "no_monitor": True}


@pytest.fixture(scope="module")
def engine() -> Iterator[Any]:
    """Two nodes on this machine.

    A raylet aborts when its helper, a Python program, is not up within 15 s, which nobody can set. On a busy machine that
    happens, and Ray is asked again.
    """
    from ray.cluster_utils import Cluster as Nodes

    os.environ.update(PYTHONPATH=TESTS, RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO="0", RAY_USAGE_STATS_ENABLED="0")
    bound = time.monotonic() + _UP
    while time.monotonic() < bound:
        nodes = Nodes()
        try:
            for options in _NODES:
                nodes.add_node(**_LEAN, **options)
            ray.init(address=nodes.address, log_to_driver=False, logging_level="ERROR")
            break
        except (Exception, SystemExit) as error:  # it exits when it has waited for itself for too long
            problem: BaseException = error
            ray.shutdown()
            nodes.shutdown()
    else:
        pytest.skip(f"Ray does not come up here: {problem}")
    yield nodes
    ray.shutdown()
    nodes.shutdown()
    del os.environ["PYTHONPATH"]


class TestRay(OnEngine):
    @classmethod
    def made(cls) -> Cluster:
        return calloff.cluster.ray(num_cpus=0.25, lease=30)


def test_its_work_is_accounted_to_the_engine(engine: Any) -> None:
    async def main() -> None:
        def free(name: str) -> float:
            return float(ray.available_resources().get(name, 0))

        await until(lambda: free("CPU") == 10, "nobody else uses it", _RAY)
        async with calloff.cluster.ray(slots=3, num_cpus=2) as cluster:
            await until(lambda: free("CPU") == 6, "two of each node are taken", _RAY)
            second = cluster.on("second")
            nodes = {await calloff.call(second.process(os.getppid)) for _ in range(2)}
            assert nodes
            assert {node.slots for node in cluster.nodes()} == {3}
        await until(lambda: free("CPU") == 10, "all is given back", _RAY)

    run(main())


def test_no_cpus_are_free(engine: Any) -> None:
    async def main() -> None:
        with pytest.raises(calloff.CalloffError, match="not schedulable"):
            async with calloff.cluster.ray(num_cpus=100):
                pass
        async with calloff.cluster.ray(num_cpus=2) as cluster:
            assert {node.state for node in cluster.nodes()} == {"up"}
            async with calloff.cluster.ray(num_cpus=2, lease=20, connect=10) as other:
                found = [node.why for node in other.nodes() if node.state == "unreachable"]
                assert found
                assert "are 2 CPUs free?" in found[0]

    run(main())


def test_a_task_that_runs_calloff_hears_of_a_cancel(engine: Any, tmp_path: Path) -> None:
    """Ray raises KeyboardInterrupt in its main thread, and does not wake what waits there."""

    seconds = new_seconds()

    @ray.remote(max_retries=0)
    def task(mark: Path) -> None:
        async def main() -> None:
            await calloff.call(calloff.process(bodies.tree, mark, seconds), grace=0.3)

        calloff.run(main())

    waiting = task.remote(tmp_path / "mark")
    bound = time.monotonic() + _RAY
    while not (tmp_path / "mark").exists():
        assert time.monotonic() < bound
        time.sleep(0.01)
    ray.cancel(waiting)
    with pytest.raises(ray.exceptions.RayError):
        ray.get(waiting, timeout=_RAY)
    assert not bodies.sleepers(seconds)


def test_a_driver_is_killed(engine: Any, tmp_path: Path) -> None:
    run(a_driver_is_killed(f"ray({engine.address!r}, num_cpus=0.1, lease=2)", tmp_path, _RAY))


def test_a_worker_of_ray_is_killed(engine: Any, tmp_path: Path) -> None:
    """That of the actor which has the stream: the agent is a process of its own, and ends with that."""

    async def main() -> None:
        async with calloff.cluster.ray(num_cpus=0.1, lease=5) as cluster:
            tree = Tree(cluster, tmp_path, new_seconds())
            await tree.begun()
            workers = bodies.titled("ray::_Actor")
            assert len(workers) >= 2
            for pid in workers:
                os.kill(pid, signal.SIGKILL)
            outcome = await asyncio.wait_for(tree.op.outcome(), 5 + 1 + SLACK)
            assert tree.is_dead(), "it was called ended while it lived"
            assert isinstance(outcome, calloff.Failed)
            assert isinstance(outcome.error, NodeLost)
            assert await calloff.call(cluster.process(bodies.add, 1, 2)) == 3, "the nodes are used again"

    run(main())


def test_a_raylet_is_killed(engine: Any, tmp_path: Path) -> None:
    """The last one: what is started there anew is another node to Ray, and takes the place of the former."""

    async def main() -> None:
        async with calloff.cluster.ray(num_cpus=0.1, lease=2) as cluster:
            tree = Tree(cluster.on("second"), tmp_path, new_seconds())
            await tree.begun()
            engine.worker_nodes.copy().pop().kill_raylet()
            outcome = await asyncio.wait_for(tree.op.outcome(), 2 + 1 + SLACK)
            assert tree.is_dead()
            assert isinstance(outcome, calloff.Failed)
            assert isinstance(outcome.error, NodeLost)
            assert await calloff.call(cluster.process(bodies.add, 1, 2)) == 3
            engine.add_node(**_LEAN, **_NODES[1])
            await until(lambda: all(node.state == "up" for node in cluster.nodes()), "its place is taken", _RAY)
            assert await calloff.call(cluster.on("second").process(bodies.add, 1, 2)) == 3

    asyncio.run(main())


@pytest.mark.parametrize(
    ("options", "error", "words"),
    [
        ({"num_cpus": -1}, ValueError, "num_cpus must be 0 or more"),
        ({"resources": {"special": -1}}, ValueError, "special must be 0 or more"),
        ({"slots": 0}, ValueError, "slots must be"),
    ],
)
def test_bad_input(options: dict[str, Any], error: type[Exception], words: str) -> None:
    with pytest.raises(error, match=words):
        calloff.cluster.ray(**options)
