"""The suite that every place passes, over a cluster: one for all tests of a class."""

import asyncio
import os
import signal
from collections.abc import Callable, Coroutine, Iterator
from pathlib import Path
from typing import Any

import pytest
from cluster.nodes import Tree, new_seconds, until
from conformance.functions import OfFunctions

import calloff
import calloff.cluster
from calloff import Rung
from calloff.cluster import NodeLost

Main = Callable[[], Coroutine[Any, Any, None]]


class OnCluster(OfFunctions):
    place = "cluster"
    at_once = 2
    forced = Rung.KILLED
    cluster: calloff.cluster.Cluster

    @classmethod
    def made(cls) -> calloff.cluster.Cluster:
        raise NotImplementedError

    @pytest.fixture(scope="class", autouse=True)
    @classmethod
    def runner(cls) -> Iterator[asyncio.Runner]:
        yield from cls.runs()

    @classmethod
    def runs(cls) -> Iterator[asyncio.Runner]:
        """One cluster for all tests, and so one loop: agents take longer to start than all of a test."""
        with asyncio.Runner() as runner:
            cls.cluster = cls.made()
            runner.run(cls.cluster.__aenter__())
            yield runner
            runner.run(cls.cluster.__aexit__(None, None, None))

    @pytest.fixture
    def run_async(self, runner: asyncio.Runner) -> Callable[[Main], None]:
        def run(main: Main) -> None:
            async def bounded() -> None:
                async with asyncio.timeout(60):
                    await main()

            runner.run(bounded())

        return run

    def at(self, function: Callable[..., Any], *args: Any) -> Any:
        return self.cluster.process(function, *args)


class OnEngine(OnCluster):
    """What is the same for all engines; their tests have a fixture `engine`."""

    made_on: Any

    @pytest.fixture(scope="class", autouse=True)
    @classmethod
    def runner(cls, engine: Any) -> Iterator[asyncio.Runner]:
        cls.made_on = engine
        yield from cls.runs()

    def test_an_agent_is_killed(self, run_async: Callable[[Main], None], tmp_path: Path) -> None:
        async def main() -> None:
            tree = Tree(self.cluster, tmp_path, new_seconds())
            await tree.begun()
            os.kill(tree.op.body.link.facts["pid"], signal.SIGKILL)
            outcome = await asyncio.wait_for(tree.op.outcome(), 30)
            assert tree.is_dead()
            assert isinstance(outcome, calloff.Failed)
            assert isinstance(outcome.error, NodeLost)
            await until(lambda: all(node.state == "up" for node in self.cluster.nodes()), "it is connected again")

        run_async(main)
