"""The suite that every place passes, over a cluster: one for all tests of a class."""

import asyncio
import os
import signal
import subprocess
import sys
import textwrap
from collections.abc import Callable, Coroutine, Iterator
from pathlib import Path
from typing import Any

import pytest
from cluster import bodies
from cluster.nodes import SLACK, Tree, new_seconds, until
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


async def a_driver_is_killed(cluster: str, folder: Path, patience: float) -> None:
    """Nothing of its work is left when its lease of two seconds is over.

    Args:
        cluster: the call that makes it, in words.
        folder: for files.
        patience: seconds that the engine may take to connect it.
    """
    seconds, mark = new_seconds(), folder / "tree"
    program = textwrap.dedent(f"""
        import asyncio, sys, calloff, calloff.cluster
        from pathlib import Path
        sys.path.insert(0, {str(Path(__file__).parent.parent)!r})
        from cluster import bodies
        async def main():
            async with calloff.cluster.{cluster} as cluster:
                await calloff.call(cluster.process(bodies.tree, Path({str(mark)!r}), {seconds!r}))
        asyncio.run(main())
    """)
    driver = subprocess.Popen([sys.executable, "-W", "ignore", "-c", program])
    try:
        await until(mark.exists, "the tree has begun", patience)
        pid = int(mark.read_text())
    finally:
        driver.kill()
        driver.wait()
    await until(lambda: not bodies.alive(pid) and not bodies.sleepers(seconds), "nothing is left", 2 + 1 + SLACK)
