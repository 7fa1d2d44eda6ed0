"""Several items in one call of a thread: limits, culprits and results of each are kept."""

import asyncio
import collections
import contextlib
import contextvars
import threading
import time
from typing import Any

import pytest

import calloff
from calloff import Cancelled, Completed, Failed
from calloff._places.process.pool import SETTINGS
from calloff._places.thread.pool import POOL
from calloff._words.state import State

BAD = 23


def raises(error):
    raise error


async def nothing():
    pass


def swallows():
    """Refuses until it is forced, and returns a value all the same."""
    try:
        while True:
            with contextlib.suppress(asyncio.CancelledError):
                calloff.checkpoint(0.01)
    except BaseException:  # wherever in the loop it comes
        return "all the same"


def spins():
    while True:
        pass


KINDS = {
    "raises": (lambda: raises(ValueError(1)), Failed, "ValueError"),
    "raises StopIteration": (lambda: raises(StopIteration(1)), Failed, "raised StopIteration"),
    "exits": (lambda: raises(SystemExit(3)), Failed, "SystemExit"),
    "obeys": (lambda: calloff.checkpoint(3600), Cancelled, "within 1 s"),
    "is forced": (spins, Cancelled, "FORCED"),
    "swallows": (swallows, Completed, "all the same"),
    "cancels itself": (lambda: raises(asyncio.CancelledError()), Cancelled, "raised CancelledError itself"),
    "is no blocking function": (nothing, Failed, "returned a coroutine"),
}


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.usefixtures("patient")
def test_nothing_else_of_its_batch_is_lost_or_runs_twice(kind):
    bad, ending, text = KINDS[kind]
    ran: collections.deque[Any] = collections.deque()

    def work(item):
        ran.append(item)
        return bad() if item == BAD else item

    options: dict[str, Any] = {"place": calloff.thread, "jobs": 2, "batch": 40, "timeout": 1, "grace": 0.1}
    outcomes = calloff.run(calloff.map(work, range(100), **options))
    assert isinstance(outcomes[BAD], ending)
    assert text in str(outcomes[BAD])
    innocent = [outcome for item, outcome in enumerate(outcomes) if item != BAD and outcome != Completed(item)]
    # the machine may be so busy that a limit passes; nobody is told so who did not run that long
    assert all(outcome.report.ended_at - outcome.report.requested_at < 30 for outcome in innocent)
    assert len(innocent) <= 1
    assert collections.Counter(ran) == dict.fromkeys(range(100), 1)


@pytest.mark.parametrize("place", [calloff.thread, calloff.process])
def test_nobody_waits_behind_a_slow_item(place):
    """All others are told while it runs, though it was given to a thread or process with many of them behind it."""

    async def main():
        async with calloff.map(slow_at_3, range(60), jobs=2, batch=30, place=place, grace=0) as results:
            told = [(await anext(results))[0] for _ in range(59)]
            assert sorted(told) == [item for item in range(60) if item != 3]

    calloff.run(main())


def slow_at_3(item):
    end = time.monotonic() + (60 if item == 3 else 0)
    while time.monotonic() < end:
        time.sleep(0.01)


def test_items_that_wait_for_one_another():
    """Which no two of one batch could, if those behind were not taken back."""
    met = threading.Event()

    def work(item):
        if item == 20:
            assert met.wait(60)
        if item == 25:
            met.set()

    outcomes = calloff.run(calloff.map(work, range(60), jobs=2, batch=30, place=calloff.thread))
    assert all(isinstance(outcome, Completed) for outcome in outcomes)


def test_each_has_its_own_limit_inside_and_its_own_context():
    seen = contextvars.ContextVar("seen", default=0)

    def work(item):
        before = seen.get()
        seen.set(1)
        return before, calloff.remaining()

    outcomes = calloff.run(calloff.map(work, range(50), place=calloff.thread, jobs=1, batch=50, timeout=30))
    assert [outcome.unwrap()[0] for outcome in outcomes] == [0] * 50
    assert all(20 < outcome.unwrap()[1] <= 30 for outcome in outcomes)


def test_where_it_was_is_the_line_of_the_function():
    inside = threading.Event()

    def blocks(item):
        inside.set()
        slow_at_3(item)

    async def main():
        async with calloff.map(blocks, [3], place=calloff.thread, batch=2, timeout=0.2, grace=0) as results:
            while not any(operation.state is State.RUNNING for operation in results.running()):
                await asyncio.sleep(0)
            assert inside.wait(30)  # no timer is called before
            return [outcome async for _, outcome in results]

    (outcome,) = calloff.run(main())
    assert [frame.function for frame in outcome.report.where][:1] == ["blocks"]


def test_the_traceback_of_an_error_begins_in_the_function():
    (outcome,) = calloff.run(calloff.map(lambda _: raises(ValueError(1)), [3], place=calloff.thread, batch=2))
    assert outcome.error.__traceback__.tb_frame.f_code.co_filename == __file__


def test_leaving_the_block_stops_what_runs_and_begins_nothing_more():
    ran: collections.deque[Any] = collections.deque()

    def work(item):
        ran.append(item)
        time.sleep(0.001)

    async def main():
        async with calloff.map(work, range(10_000), place=calloff.thread, jobs=3) as results:
            async for item, _ in results:
                if item > 100:
                    break
        after = len(ran)
        await asyncio.sleep(0.05)
        assert len(ran) == after
        assert calloff.operations() == (calloff.current(),)

    calloff.run(main())
    assert max(collections.Counter(ran).values()) == 1


@pytest.mark.parametrize("place", [calloff.thread, calloff.process])
def test_patience_ends_the_wait_of_all_that_wait_together(place):

    async def main():
        size = (SETTINGS if place is calloff.process else POOL).size
        place.configure(size=1)
        try:
            async with calloff.group() as group:
                hog = group.start(place(slow_at_3, 3), grace=0)
                while hog.state is not State.RUNNING:
                    await asyncio.sleep(0.01)
                outcomes = await calloff.map(slow_at_3, range(10, 16), place=place, jobs=2, batch=3, patience=0.2)
                assert all(isinstance(outcome, Cancelled) and not outcome.report.started for outcome in outcomes)
                await hog.stop()
        finally:
            place.configure(size=size)

    calloff.run(main())
