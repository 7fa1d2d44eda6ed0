"""What is remembered of endings that come too thick and fast to be read by anybody."""

import asyncio
from itertools import pairwise

import pytest

import calloff
from calloff._operation.history import recorder
from calloff._operation.snapshot import History

from .virtual_time import block, run


@pytest.fixture
def history():
    kept = History(100_000)
    kept.open()
    yield kept
    kept.close()


async def lasts(seconds=0.0):
    block(seconds)


def names(history):
    return [each.name for each in history.facts()]


def test_ten_thousand_a_second_are_all_remembered(history):
    async def main():
        for _ in range(5000):
            await calloff.start(lasts(100e-6))

    run(main)
    assert len(history.facts()) == 5000


def test_a_rest_from_before_it_was_opened_is_over(history):
    """It was by a clock that is far ahead of this one, which has just begun."""
    history.close()
    recorder._resting_until, recorder._long_since = 1e6 + 0.1, 1e6 - 1
    history.open()
    test_ten_thousand_a_second_are_all_remembered(history)


def test_of_a_hundred_thousand_a_second_samples_are(history):
    async def main():
        for _ in range(12_000):
            await calloff.start(lasts(20e-6))

    run(main)
    ended = [each.ended_at for each in history.facts()]
    assert 1024 <= len(ended) <= 1024 * 5  # the first ones, until there are too many, and some of each spell
    assert max(later - earlier for earlier, later in pairwise(ended)) < 0.1 + 0.001


def test_also_of_many_that_were_started_at_once(history):
    async def main():
        await asyncio.gather(*(calloff.start(lasts(20e-6)) for _ in range(10_000)))

    run(main)
    assert 1024 <= len(history.facts()) <= 1024 * 5


def test_what_has_a_story_is_always_remembered(history):
    async def fails():
        raise KeyError

    async def waits():
        await asyncio.sleep(3600)

    async def refuses():
        try:
            await asyncio.sleep(3600)
        except asyncio.CancelledError:
            return "no"

    async def main():
        slow = calloff.start(asyncio.sleep(2), name="slow")
        await asyncio.sleep(1.9999)
        for _ in range(3000):
            await calloff.start(lasts(5e-9))
        await calloff.start(lasts(), name="quick")
        await calloff.start(fails(), name="fails").outcome()
        for name, body in (("stopped", waits), ("refuses", refuses)):
            operation = calloff.start(body(), name=name)
            await asyncio.sleep(0)
            await operation.stop()
        await calloff.start(waits(), name="late", timeout=0.00001).outcome()
        await slow
        await calloff.start(lasts(), name="quick, too")

    run(main)
    assert [name for name in names(history) if name != "lasts"] == ["fails", "stopped", "refuses", "late", "slow"]


@pytest.mark.parametrize("fail", [False, True], ids=["completed", "failed"])
def test_the_rest_is_short(history, fail):
    async def ends():
        block(5e-6)
        if fail:
            raise KeyError

    async def main():
        for _ in range(5000):
            await calloff.start(ends()).outcome()
        await calloff.start(lasts(), name="at once")
        block(0.1)
        await calloff.start(lasts(), name="later")

    run(main)
    kept = names(history)
    assert "at once" not in kept
    assert "later" in kept
