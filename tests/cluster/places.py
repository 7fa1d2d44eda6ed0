"""The suite that every place passes, over a cluster: one for all tests of a class."""

import asyncio
from collections.abc import Callable, Coroutine, Iterator
from typing import Any

import pytest
from conformance.functions import OfFunctions

import calloff.cluster
from calloff import Rung

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
