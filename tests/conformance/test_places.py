"""Every place of calloff passes the suite that it ships, on every kind of event loop."""

import gc
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from conformance import bodies
from conformance.functions import OfFunctions

import calloff
from calloff import Rung
from calloff.testing.conformance import PlaceConformance

Run = Callable[..., Any]


class OnEveryLoop(PlaceConformance):
    @pytest.fixture
    def run_async(self, arun: Run) -> Run:
        return arun


class TestTask(OnEveryLoop):
    place = "task"
    where_shows = "wait_async"
    traceback_shows = "in fail_async"

    def returns(self, value: str) -> Any:
        return bodies.give_async(value)

    def raises(self, text: str) -> Any:
        return bodies.fail_async(text)

    def waits(self, mark: Path) -> Any:
        return bodies.wait_async(mark)

    def refuses(self, mark: Path) -> Any:
        return bodies.refuse_async(mark)

    def unstoppable(self, mark: Path, release: Path) -> Any:
        return bodies.refuse_force_async(mark, release)

    def declines(self, mark: Path, value: str) -> Any:
        return bodies.decline_async(mark, value)

    def cleans_up(self, mark: Path, done: Path) -> Any:
        return bodies.clean_up_async(mark, done)

    def reports(self, mark: Path) -> Any:
        return bodies.report_async(mark)

    def looks(self) -> Any:
        return bodies.look_async()


class Blocking(OfFunctions, OnEveryLoop):
    """The places that run blocking functions."""


class TestThread(Blocking):
    place = "thread"

    @pytest.fixture(autouse=True)
    def no_garbage(self) -> Iterator[None]:
        """Force in a thread is lost in a destructor and sent again; pytest calls it an error: nobody's is to run there."""
        gc.disable()
        yield
        gc.enable()

    def at(self, function: Callable[..., Any], *args: Any) -> Any:
        return calloff.thread(function, *args)

    def unstoppable(self, mark: Path, release: Path) -> Any:
        return calloff.thread(bodies.refuse_force, mark, release)


class TestProcess(Blocking):
    place = "process"
    at_once = 2
    forced = Rung.KILLED

    def at(self, function: Callable[..., Any], *args: Any) -> Any:
        return calloff.process(function, *args)


class TestProcessWithCoroutines(OnEveryLoop):
    place = "process"
    at_once = 2
    forced = Rung.KILLED
    where_shows = "wait_async"
    traceback_shows = "in fail_async"

    def returns(self, value: str) -> Any:
        return calloff.process(bodies.give_async, value)

    def raises(self, text: str) -> Any:
        return calloff.process(bodies.fail_async, text)

    def waits(self, mark: Path) -> Any:
        return calloff.process(bodies.wait_async, mark)

    def refuses(self, mark: Path) -> Any:
        return calloff.process(bodies.refuse_async, mark)

    def declines(self, mark: Path, value: str) -> Any:
        return calloff.process(bodies.decline_async, mark, value)

    def cleans_up(self, mark: Path, done: Path) -> Any:
        return calloff.process(bodies.clean_up_async, mark, done)

    def reports(self, mark: Path) -> Any:
        return calloff.process(bodies.report_async, mark)

    def looks(self) -> Any:
        return calloff.process(bodies.look_async)


class TestCommand(OnEveryLoop):
    """A command that ends by itself after the signal has obeyed, whatever its status: there is no declining."""

    place = "command"
    error = getattr(calloff, "CommandFailed", RuntimeError)
    polite = Rung.TERMINATED
    forced = Rung.KILLED
    counts_refusals = False

    def returns(self, value: str) -> Any:
        return calloff.command("cat", stdin=value.encode())

    def value_of(self, result: Any) -> Any:
        return result.text

    def raises(self, text: str) -> Any:
        return calloff.command('echo "$1" >&2; exit 3', text, shell=True)

    def waits(self, mark: Path) -> Any:
        return calloff.command('while :; do printf . >> "$1"; sleep 0.01; done', mark, shell=True)

    def refuses(self, mark: Path) -> Any:
        return calloff.command('trap "" TERM; while :; do printf . >> "$1"; sleep 0.01; done', mark, shell=True)

    def cleans_up(self, mark: Path, done: Path) -> Any:
        script = """trap 'sleep 0.2; : > "$2"; trap - TERM; kill $$' TERM
            while :; do printf . >> "$1"; sleep 0.01; done"""
        return calloff.command(script, mark, done, shell=True)
