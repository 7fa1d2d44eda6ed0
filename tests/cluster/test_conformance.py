"""The agents of this machine pass the suite that every place passes."""

import asyncio
from collections.abc import Callable, Coroutine, Iterator
from pathlib import Path
from typing import Any

import pytest
from conformance import bodies

import calloff.cluster
from calloff import Rung
from calloff.testing.conformance import PlaceConformance

Main = Callable[[], Coroutine[Any, Any, None]]


class OnCluster(PlaceConformance):
    place = "cluster"
    at_once = 2
    forced = Rung.KILLED
    where_shows = "wait"
    traceback_shows = "in fail"
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

    def returns(self, value: str) -> Any:
        return self.at(bodies.give, value)

    def raises(self, text: str) -> Any:
        return self.at(bodies.fail, text)

    def waits(self, mark: Path) -> Any:
        return self.at(bodies.wait, mark)

    def refuses(self, mark: Path) -> Any:
        return self.at(bodies.refuse, mark)

    def declines(self, mark: Path, value: str) -> Any:
        return self.at(bodies.decline, mark, value)

    def cleans_up(self, mark: Path, done: Path) -> Any:
        return self.at(bodies.clean_up, mark, done)

    def reports(self, mark: Path) -> Any:
        return self.at(bodies.report, mark)

    def looks(self) -> Any:
        return self.at(bodies.look)


class TestLocal(OnCluster):
    @classmethod
    def made(cls) -> calloff.cluster.Cluster:
        return calloff.cluster.local(2, slots=8)
