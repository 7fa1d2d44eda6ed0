"""Agents on one small Dask cluster; skipped where that is not installed."""

import asyncio
import os
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from cluster import bodies
from cluster.nodes import Tree, run, until
from cluster.places import OnCluster

import calloff
import calloff.cluster
from calloff.cluster import Cluster, NodeLost

TESTS = str(Path(__file__).parent.parent)
#: engines leave files and warnings of their own
pytestmark = pytest.mark.filterwarnings("ignore")


class Engine(OnCluster):
    """What is the same for all engines."""

    @pytest.fixture(scope="class", autouse=True)
    @classmethod
    def runner(cls, engine: Any) -> Iterator[asyncio.Runner]:
        cls.engine = engine
        yield from cls.runs()

    def test_an_agent_is_killed_in_an_engine(self, run_async: Any, tmp_path: Path) -> None:
        async def main() -> None:
            cluster = self.cluster
            tree = Tree(cluster, tmp_path, f"84{os.getpid()}.1")
            await tree.begun()
            link = tree.op.body.link  # type: ignore[union-attr]
            os.kill(link.facts["pid"], signal.SIGKILL)
            outcome = await asyncio.wait_for(tree.op.outcome(), 30)
            assert tree.is_dead()
            assert isinstance(outcome, calloff.Failed)
            assert isinstance(outcome.error, NodeLost)
            await until(lambda: all(node.state == "up" for node in cluster.nodes()), "it is connected again")

        run_async(main)


class TestDask(Engine):
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
        return calloff.cluster.dask(cls.engine.scheduler_address)

    def test_a_worker_is_killed(self, tmp_path: Path) -> None:
        async def main() -> None:
            async with calloff.cluster.dask(self.engine.scheduler_address, lease=2) as cluster:
                tree = Tree(cluster, tmp_path, f"84{os.getpid()}.2")
                await tree.begun()
                name = tree.op.body.node  # type: ignore[union-attr]
                os.kill(self.engine.workers[int(name)].pid, signal.SIGKILL)
                outcome = await asyncio.wait_for(tree.op.outcome(), 30)
                assert tree.is_dead()
                assert isinstance(outcome, calloff.Failed)
                assert isinstance(outcome.error, NodeLost)
                assert await calloff.call(cluster.process(bodies.add, 1, 2)) == 3

        run(main())
