"""Agents on one small Dask cluster; skipped where that is not installed."""

import asyncio
import os
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from cluster import bodies
from cluster.nodes import Tree, new_seconds, run, until
from cluster.places import OnEngine, a_driver_is_killed

import calloff
import calloff.cluster
from calloff.cluster import Cluster, NodeLost

TESTS = str(Path(__file__).parent.parent)
#: Dask leaves files and warnings of its own
pytestmark = pytest.mark.filterwarnings("ignore")


class TestDask(OnEngine):
    @pytest.fixture(scope="class")
    @classmethod
    def engine(cls) -> Iterator[Any]:
        distributed = pytest.importorskip("distributed", reason="distributed is not installed")
        os.environ["PYTHONPATH"] = TESTS
        try:
            with distributed.LocalCluster(
                n_workers=2, threads_per_worker=8, processes=True, dashboard_address=None
            ) as engine:
                yield engine
        finally:
            del os.environ["PYTHONPATH"]

    @classmethod
    def made(cls) -> Cluster:
        return calloff.cluster.dask(cls.made_on.scheduler_address)

    def test_a_worker_is_killed(self, engine: Any, tmp_path: Path) -> None:
        async def main() -> None:
            async with calloff.cluster.dask(engine.scheduler_address, lease=2) as cluster:
                tree = Tree(cluster, tmp_path, new_seconds())
                await tree.begun()
                name = tree.op.body.node
                os.kill(engine.workers[int(name)].pid, signal.SIGKILL)
                outcome = await asyncio.wait_for(tree.op.outcome(), 30)
                assert tree.is_dead()
                assert isinstance(outcome, calloff.Failed)
                assert isinstance(outcome.error, NodeLost)
                assert await calloff.call(cluster.process(bodies.add, 1, 2)) == 3
                await until(lambda: all(node.state == "up" for node in cluster.nodes()), "Dask has started it again")
                assert await calloff.call(cluster.on(name).process(bodies.add, 1, 2)) == 3

        run(main())

    def test_a_driver_is_killed(self, engine: Any, tmp_path: Path) -> None:
        run(a_driver_is_killed(f"dask({engine.scheduler_address!r}, lease=2)", tmp_path, 30))
