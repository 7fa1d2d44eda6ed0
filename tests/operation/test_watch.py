"""Looking at an operation again and again: on the point, without drift, on one shared timer."""

import asyncio
from typing import Any

import pytest
from operation import virtual_time
from operation.virtual_time import block, now

import calloff
from calloff._scopes.timers import NEVER, timers_of


async def lasts(seconds):
    await asyncio.sleep(seconds)
    return "value"


def entries():
    """What waits on the timer of this loop."""
    timers = timers_of(asyncio.get_running_loop())
    near = {entry for at, _, entry in timers._near if entry.timer_at == at and entry.timer_bucket is None}
    far = {entry for bucket in timers._far.values() for entry in bucket}
    return [entry for entry in near | far | set(timers.insisting.entries) if entry.timer_at != NEVER]


def test_ticks_are_numbered_and_on_the_point():
    async def main():
        op = calloff.start(lasts(3.5), timeout=10)
        seen = [(tick.number, now(), tick.elapsed, tick.remaining) async for tick in op.watch(every=1)]
        assert await op == "value"
        assert now() == 3.5, "it ends when the operation ends"
        return seen

    assert virtual_time.run(main) == [(1, 1.0, 1.0, 9.0), (2, 2.0, 2.0, 8.0), (3, 3.0, 3.0, 7.0)]


def test_a_tick_tells_state_progress_and_where():
    async def main():
        async def body():
            for step in range(4):
                calloff.progress((step, 4))
                await asyncio.sleep(1)

        op = calloff.start(body())
        ticks = [tick async for tick in op.watch(every=0.9)]
        assert [tick.progress for tick in ticks] == [(0, 4), (1, 4), (2, 4), (3, 4)]
        assert {tick.state.value for tick in ticks} == {"running"}
        assert {tick.remaining for tick in ticks} == {None}
        assert {tick.where[0].source for tick in ticks} == {"await asyncio.sleep(1)"}

    virtual_time.run(main)


def test_it_shows_the_stop_on_its_way():
    async def main():
        async def body():
            try:
                await asyncio.sleep(3600)
            finally:
                await asyncio.sleep(2.5)

        op = calloff.start(body())
        states = []
        async for tick in op.watch():
            states.append((tick.number, tick.state.value))
            if tick.number == 2:
                op.cancel()
        return states

    assert virtual_time.run(main) == [(1, "running"), (2, "running"), (3, "stopping"), (4, "stopping")]


def test_it_does_not_drift():
    async def main():
        op = calloff.start(lasts(2_000.5))
        seen = []
        async for tick in op.watch(every=0.1):
            seen.append(now())
            block(0.03)  # the consumer takes its time
            if tick.number == 2_000:
                break
        await op.stop()
        return seen

    seen = virtual_time.run(main)
    assert seen == pytest.approx([0.1 * number for number in range(1, 2_001)], abs=1e-5)


def test_a_slow_consumer_skips_ticks_and_stays_on_the_grid():
    async def main():
        op = calloff.start(lasts(10.5))
        seen = []
        async for tick in op.watch(every=1):
            seen.append((tick.number, now()))
            if tick.number == 2:
                await asyncio.sleep(3.3)
        return seen

    assert virtual_time.run(main) == [(1, 1.0), (2, 2.0), (3, 5.3), (4, 6.0), (5, 7.0), (6, 8.0), (7, 9.0), (8, 10.0)]


def test_the_first_tick_comes_after_every_seconds_from_the_call():
    async def main():
        op = calloff.start(lasts(10))
        await asyncio.sleep(2.5)
        async for tick in op.watch(every=3):
            assert (tick.number, now(), tick.elapsed) == (1, 5.5, 5.5)
            break
        await op.stop()

    virtual_time.run(main)


async def test_one_that_ended_has_no_ticks():
    op = calloff.start(lasts(0))
    await op
    assert [tick async for tick in op.watch(every=0.001)] == []


def test_many_watchers_share_one_timer():
    async def main():
        loop: Any = asyncio.get_running_loop()
        op = calloff.start(loop.create_future(), timeout=5.05)
        calls = []
        call_at = loop.call_at
        loop.call_at = lambda when, *args, **options: (calls.append(when), call_at(when, *args, **options))[1]  # type: ignore[func-returns-value]

        async def count(every):
            return len([tick async for tick in op.watch(every=every)])

        watchers = [asyncio.create_task(count(every)) for every in [0.5] * 500 + [1.0] * 500]
        await op.outcome()
        assert await asyncio.gather(*watchers) == [10] * 500 + [5] * 500
        assert len(calls) < 60, "a thousand watchers, and the loop is asked to wake us at ten points"

    virtual_time.run(main)


def test_breaking_out_leaves_nothing_on_the_timer():
    async def main():
        op = calloff.start(asyncio.get_running_loop().create_future())
        for _ in range(5):
            async for _ in op.watch(every=0.5):
                break
        assert entries() == []
        assert not op._waiters
        await op.stop()

    virtual_time.run(main)


def test_a_cancelled_watcher_leaves_nothing_on_the_timer_and_stops_nothing():
    async def main():
        op = calloff.start(asyncio.get_running_loop().create_future())

        async def look():
            async for _ in op.watch(every=0.5):
                pass

        looking = asyncio.create_task(look())
        await asyncio.sleep(1.2)
        assert len(entries()) == 1
        looking.cancel()
        await asyncio.wait([looking])
        assert looking.cancelled()
        assert entries() == []
        assert not op._waiters
        assert op.reason is None, "a watcher only looks on"
        await op.stop()

    virtual_time.run(main)


def test_it_may_be_called_off_between_two_ticks():
    async def main():
        op = calloff.start(asyncio.get_running_loop().create_future())
        asyncio.get_running_loop().call_later(1.7, op.cancel)
        seen = [tick.number async for tick in op.watch(every=1)]
        return seen, now()

    assert virtual_time.run(main) == ([1], 1.7)


async def test_in_real_time():
    loop = asyncio.get_running_loop()
    op = calloff.start(asyncio.Event().wait())
    began = loop.time()
    async for tick in op.watch(every=0.02):
        assert loop.time() - began >= 0.02 * tick.number - 0.002
        if tick.number == 5:
            break
    await op.stop()


@pytest.mark.parametrize("every", [0, -1, float("nan"), float("inf"), True, "1", None])
async def test_a_wrong_interval(every):
    op = calloff.start(lasts(0))
    with pytest.raises((ValueError, TypeError), match="^every must be"):
        op.watch(every=every)
    await op
