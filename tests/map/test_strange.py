"""Sources, functions and consumers that behave as nobody expects: nothing hangs, is lost, or goes on behind one's back."""

import asyncio
import contextlib
import itertools
import os
import signal
import threading
import time
from typing import Any

import pytest

import calloff
from calloff import Cancelled, Completed, Failed


async def same(item):
    await asyncio.sleep(0)
    return item


async def refuses(item=None):
    while True:
        with contextlib.suppress(asyncio.CancelledError):
            await asyncio.sleep(3600)


def alive():
    """What runs beside the caller: operations, and tasks."""
    mine = asyncio.current_task()
    tasks = [task for task in asyncio.all_tasks() if task is not mine and "_serve_" not in task.get_coro().__qualname__]
    return [op for op in calloff.operations() if not op.done() and op is not calloff.current()], tasks


@pytest.mark.parametrize("first", [True, False])
@pytest.mark.parametrize("kind", [KeyError, asyncio.CancelledError, GeneratorExit, calloff.StopForced, SystemExit])
@pytest.mark.parametrize("asynchronous", [True, False])
async def test_whatever_a_source_raises_is_heard(kind, first, asynchronous):
    def source():
        if not first:
            yield 1
        raise kind("source")

    async def asource():
        if not first:
            yield 1
        raise kind("source")

    seen = []
    wanted = calloff.CalloffError if kind in (asyncio.CancelledError, calloff.StopForced) else kind
    with pytest.raises(wanted, match="source"):
        async with calloff.map(same, asource() if asynchronous else source(), jobs=1) as results:
            async for item, _ in results:
                seen.append(item)
    assert seen == ([] if first else [1])


async def test_items_run_while_a_slow_source_is_drawn_from():
    ended, seen = [], []

    async def one(item):
        ended.append(item)

    def source():
        for item in range(20):
            until = time.monotonic() + 0.005
            while time.monotonic() < until:  # it is busy
                pass
            seen.append(len(ended))
            yield item

    await calloff.map(one, source(), jobs=100)
    assert seen[-1] > 0


async def test_an_end_that_is_none_is_no_end():
    def source():
        yield 1
        raise StopAsyncIteration

    with pytest.raises(RuntimeError, match="the items raised StopAsyncIteration"):
        async with calloff.map(same, source()) as results:
            async for _ in results:
                pass


async def test_a_function_that_raises_before_it_gives_a_coroutine():
    class Odd:
        async def __call__(self, item):
            return item

    def odd(item):
        if item == 2:
            raise asyncio.CancelledError
        return same(item)

    odd.__wrapped__ = same  # type: ignore[attr-defined]  # as functools.wraps does
    outcomes = await calloff.map(odd, range(5), jobs=1)
    assert [type(outcome) for outcome in outcomes] == [Completed, Completed, Failed, Completed, Completed]


@pytest.mark.parametrize("kind", [KeyError, asyncio.CancelledError])
async def test_whatever_retry_raises_is_heard(kind):
    def retry(outcome, attempt):
        raise kind("retry")

    async def fails(item):
        raise ValueError

    with pytest.raises(kind, match="retry"):
        await calloff.map(fails, range(5), jobs=2, retry=retry)
    with pytest.raises(ValueError, match="at most a year, not inf s"):
        await calloff.map(fails, range(5), jobs=2, retry=lambda outcome, attempt: float("inf"))


async def test_a_source_that_hangs_is_closed_before_the_next_line_runs():
    async def source():
        try:
            yield 1
            await asyncio.sleep(3600)
        finally:
            try:
                await asyncio.sleep(0.01)
            finally:
                closed.append(True)

    closed: list[Any] = []
    async with calloff.map(same, source()) as results:
        async for _ in results:
            break
    assert closed
    assert not any(alive())


async def test_a_source_that_refuses_is_forced():
    async def source():
        yield 1
        await refuses()

    async with calloff.map(same, source(), grace=0.1) as results:
        async for _ in results:
            break
    assert not any(alive())


async def test_a_source_that_somebody_else_calls_off_was_not_all_of_it():
    async def source():
        yield 1
        await asyncio.sleep(3600)

    with pytest.raises(calloff.CalloffError, match="their source was called off"):
        async with calloff.map(same, source(), grace=0.1) as results:
            async for _ in results:
                (pump,) = [op for op in calloff.operations() if op.name == "items of same"]
                pump.cancel()


@pytest.mark.parametrize("where", ["enter", "exit"])
async def test_what_is_held_and_refuses_is_forced(where):
    @contextlib.asynccontextmanager
    async def within(item):
        if item == 2 and where == "enter":
            await refuses()
        yield
        if item == 2:
            await refuses()

    async with calloff.map(same, itertools.count(), jobs=3, grace=0.1, within=within) as results:
        async for item, _ in results:
            if item == 9:
                break
    assert not any(alive())


async def test_what_is_held_is_held_until_its_item_is_gone_whoever_calls_it_off():
    held = []

    @contextlib.asynccontextmanager
    async def within(item):
        held.append(item)
        try:
            yield
        finally:
            held.remove(item)

    async def stubborn(item):
        while item == 1:
            assert item in held
            try:
                await asyncio.sleep(3600)
            except asyncio.CancelledError:
                pass
        return item

    seen = {}
    async with calloff.map(stubborn, range(4), jobs=2, grace=0.1, within=within) as results:
        async for item, outcome in results:
            seen[item] = outcome
            if len(seen) == 3:
                (holder,) = [op for op in calloff.operations() if op.name == "within stubborn"]
                holder.cancel("by hand")
    assert sorted(seen) == [0, 1, 2, 3]
    assert isinstance(seen[1], Cancelled)
    assert seen[1].report.rung == calloff.Rung.FORCED


async def test_several_consumers_share_the_results():
    async def consume(results):
        return [item async for item, _ in results]

    async with calloff.map(same, range(40), jobs=4) as results:
        idle = asyncio.create_task(consume(results))
        await asyncio.sleep(0)
        idle.cancel()  # takes the wait of no other
        seen = await asyncio.gather(*[consume(results) for _ in range(3)])
    assert sorted(itertools.chain(*seen)) == list(range(40))


async def test_whoever_has_less_patience_than_the_map_has_it_for_the_items_too():
    async with calloff.map(refuses, range(5), jobs=5, grace=60) as results:
        await asyncio.sleep(0.01)
        (row,) = [op for op in calloff.operations() if op.name == "map refuses"]
        outcome = await row.stop("now", grace=0)
        assert isinstance(outcome, Cancelled)
        assert not results.running()
    assert not any(alive())


@pytest.mark.parametrize("at", [0, 5])
@pytest.mark.parametrize("how", ["limit", "SIGINT"])
@pytest.mark.parametrize("as_a_whole", [False, True])
def test_a_source_that_blocks_can_be_called_off(at, how, as_a_whole):
    def source():
        for item in range(10):
            if item == at:
                blocks.append(item)
                if how == "SIGINT":
                    timer = threading.Timer(0.1, os.kill, [os.getpid(), signal.SIGINT])
                    timer.start()
                else:
                    mains[0].reschedule(0.2)
                time.sleep(60)
            yield item

    async def main():
        mains.append(calloff.current())
        if as_a_whole:
            await calloff.map(same, source(), jobs=2)
        async with calloff.map(same, source(), jobs=2) as results:
            async for _ in results:
                pass

    blocks: list[Any] = []
    mains: list[Any] = []
    began = time.monotonic()
    with pytest.raises(calloff.TimedOut if how == "limit" else KeyboardInterrupt):
        calloff.run(main())
    assert blocks
    assert time.monotonic() - began < 50


def test_in_blocking_code_a_source_that_blocks_holds_up_no_item_and_not_the_end():
    gate = threading.Event()

    def source():
        yield 1
        gate.wait(60)

    began = time.monotonic()
    with calloff.map(same, source()) as results:
        for _, outcome in results:
            assert outcome == Completed(1)
            break
    assert time.monotonic() - began < 50
    gate.set()


def test_in_blocking_code_too_a_source_is_not_drawn_far_ahead():
    drawn = 0

    def source():
        nonlocal drawn
        while drawn < 100_000:
            drawn += 1
            yield drawn
        raise KeyError("source")

    with calloff.map(same, source()) as results:
        for item, _ in results:
            assert drawn < item + 600
            if item > 3000:
                break
    with calloff.map(same, itertools.chain([1], broken())) as results, pytest.raises(KeyError, match="source"):
        for item, _ in results:
            assert item == 1


def broken():
    raise KeyError("source")
    yield
