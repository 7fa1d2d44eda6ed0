"""What a place tells the conformance suite of itself, and the tools its tests have in common.

A body under test shows that it runs by *beats*: bytes that it appends to a file. So a test sees from outside, in
whatever thread, process or machine the body is, that it has begun, and that it is really gone when its operation says
so.
"""

import asyncio
import os
import time
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any

import pytest

import calloff
from calloff import Operation, Rung

from .._words.policy import DEFAULT

__all__ = ["Place", "Run", "beat"]

#: runs a test's async function
Run = Callable[[Any], None]

#: how much later than promised something may be on a busy machine, in seconds
SLACK = 10.0


def beat(mark: Path) -> None:
    """Show that the body is alive."""
    number = os.open(mark, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
    try:  # not a file object: force may cut a ``with`` short, and it would complain that nobody closed it
        os.write(number, b".")
    finally:
        os.close(number)


def _beats(mark: Path) -> int:
    return mark.stat().st_size


class Place:
    """What the tests need to know of a place: its name, and how to make work there.

    A hook that returns ``None`` says that the place has no such work; its tests are skipped.

    Attributes:
        place: the word for it, as in `Operation.place`.
        error: the type of error that the work of `raises` ends with.
        polite: the rung that ends the work of `waits`.
        forced: the rung that ends the work of `refuses`.
        counts_refusals: whether the place can tell that work was asked and went on.
        where_shows: the name of a function in `Operation.where()` of `waits`; ``None`` if the place can't tell.
        traceback_shows: a text in the printed traceback of the error of `raises`.
        at_once: how many may run side by side at the place.
    """

    place: str
    error: type[BaseException] = RuntimeError
    polite: Rung = Rung.ASKED
    forced: Rung = Rung.FORCED
    counts_refusals: bool = True
    where_shows: str | None = None
    traceback_shows: str = ""
    at_once: int = 16

    # --- hooks: work of several kinds

    def returns(self, value: str) -> Any:
        """Work that returns `value`, or something that `value_of` makes it from."""
        raise NotImplementedError

    def value_of(self, result: Any) -> Any:
        """What `returns` was given, from the result of its work."""
        return result

    def raises(self, text: str) -> Any:
        """Work that fails with an `error` whose text contains `text`."""
        raise NotImplementedError

    def waits(self, mark: Path) -> Any:
        """Work that beats every 10 ms or so until it is asked to stop; then it ends at once."""
        raise NotImplementedError

    def refuses(self, mark: Path) -> Any:
        """Work that beats every 10 ms or so, whatever it is asked: only force ends it."""
        raise NotImplementedError

    def unstoppable(self, mark: Path, release: Path) -> Any:
        """Work that beats and that not even force ends, until the file `release` exists."""
        return None

    def declines(self, mark: Path, value: str) -> Any:
        """Work that beats until it is asked to stop, and then returns `value` all the same."""
        return None

    def cleans_up(self, mark: Path, done: Path) -> Any:
        """Work that beats until it is asked to stop, cleans up for 0.2 s, makes the file `done` and ends as asked."""
        return None

    def reports(self, mark: Path) -> Any:
        """Work that beats every 10 ms or so and reports progress with it, 1, 2, 3, ..., until it is asked to stop."""
        return None

    def looks(self) -> Any:
        """Work that returns what it sees: ``(calloff.current().name, calloff.remaining())``."""
        return None

    # --- where the tests run

    @pytest.fixture
    def run_async(self) -> Callable[[Callable[[], Coroutine[Any, Any, None]]], None]:
        """How a test runs its async function; override it to use other event loops."""

        def run(main: Callable[[], Coroutine[Any, Any, None]]) -> None:
            asyncio.run(main())

        return run

    @pytest.fixture
    def patience(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """What can be forced has half a minute for it, not a second: a busy machine may give it no turn for that long."""
        monkeypatch.setattr(Operation, "policy", DEFAULT._replace(last=30.0))

    # --- tools

    @staticmethod
    def needed(work: Any) -> Any:
        """The work, or the test is skipped."""
        if work is None:
            pytest.skip("this place has no such work")
        return work

    @staticmethod
    async def until(true: Callable[[], object], what: str) -> None:
        """Wait until it is true, with a bound."""
        bound = time.monotonic() + 60
        while not true():
            assert time.monotonic() < bound, f"never came true: {what}"
            await asyncio.sleep(0.005)

    async def begun(self, mark: Path) -> None:
        """Wait for the first beat."""
        await self.until(mark.exists, "the body beats")

    async def goes_on(self, op: Operation[Any], mark: Path) -> None:
        """Wait until the body has heard a request and gone on, as far as the place can tell."""
        before = _beats(mark)
        await self.until(lambda: _beats(mark) >= before + 3, "the body beats on")
        if self.counts_refusals:
            await self.until(lambda: op.report and op.report.refusals, "its refusal is counted")

    async def gone(self, *marks: Path) -> None:
        """The bodies that had begun beat no more, from now on."""
        beats = {mark: _beats(mark) for mark in marks if mark.exists()}
        await asyncio.sleep(0.06)
        for mark in beats:
            assert _beats(mark) == beats[mark], "the operation was called ended while its body went on"

    async def started(self, work: Any, mark: Path, **options: Any) -> Operation[Any]:
        """An operation whose body runs."""
        op: Operation[Any] = calloff.start(self.needed(work), **options)
        await self.begun(mark)
        return op
