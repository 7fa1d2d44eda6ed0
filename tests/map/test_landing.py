"""A map over coroutines: the next item begins in the last step of the one that made room for it."""

import asyncio
import contextvars
import sys

import pytest

import calloff
from calloff import Completed, Failed

at_once = pytest.mark.skipif(
    sys.version_info < (3, 12), reason="a first step that is taken at once came with Python 3.12"
)


@at_once
async def test_of_many_that_end_together_each_makes_room_at_once():
    opened, seen = asyncio.Event(), []

    async def one(item):
        seen.append(f"begin {item}")
        if item < 3:
            await opened.wait()
        else:
            await asyncio.sleep(0)
        seen.append(f"end {item}")

    async def opens():
        while len(seen) < 3:
            await asyncio.sleep(0)
        opened.set()

    outcomes, _ = await asyncio.gather(calloff.map(one, range(6), jobs=3), opens())
    assert outcomes == [Completed(None)] * 6
    assert seen[3:9] == ["end 0", "begin 3", "end 1", "begin 4", "end 2", "begin 5"]


@pytest.mark.parametrize("streams", [True, False])
async def test_items_that_never_wait_leave_the_loop_its_turns(streams):
    turns = 0

    async def others():
        nonlocal turns
        while True:
            turns += 1
            await asyncio.sleep(0)

    async def one(item):
        return item

    other = asyncio.create_task(others())
    if streams:
        async with calloff.map(one, range(400), jobs=2) as results:
            async for _ in results:
                pass
    else:
        await calloff.map(one, range(400), jobs=2)
    other.cancel()
    assert turns > 50


async def test_an_item_sees_nothing_of_the_context_of_the_one_that_made_room_for_it():
    seen = contextvars.ContextVar("seen", default="nobody")

    async def one(item):
        found = seen.get()
        seen.set(str(item))
        await asyncio.sleep(0)
        return found

    outcomes = await calloff.map(one, range(6), jobs=1)
    assert outcomes == [Completed("nobody")] * 6


async def test_items_belong_to_the_map_not_to_the_item_that_made_room_for_them():
    async def one(item):
        mine = next(op for op in calloff.operations() if op.name == "one" and not op.done())
        await asyncio.sleep(0)
        return mine.parent.name

    assert await calloff.map(one, range(4), jobs=1) == [Completed("map one")] * 4


async def test_the_error_of_one_item_is_no_context_of_that_of_the_next():
    async def one(item):
        if item % 2:
            raise KeyError(item)
        await asyncio.sleep(0)
        raise ValueError(item)

    for outcome in await calloff.map(one, range(6), jobs=1):
        assert isinstance(outcome, Failed)
        assert outcome.error.__context__ is None


@pytest.mark.parametrize("kind", [KeyboardInterrupt, SystemExit])
def test_what_ends_the_program_does_so_in_a_first_step_too(kind):
    async def one(item):
        if item:
            raise kind
        await asyncio.sleep(0)

    async def main():
        await calloff.map(one, range(2), jobs=1)

    with pytest.raises(kind), asyncio.Runner() as runner:
        runner.run(main())


@at_once  # else it may find none, and waits for its own
async def test_an_item_may_take_results_of_its_own_map_in_its_first_step():
    taken = []

    async def one(item):
        if item == 3:
            results.jobs = 5
            taken.append(await anext(results))
        await asyncio.sleep(0)
        return item

    async with calloff.map(one, range(5), jobs=3) as results:
        while results.counts.completed < 3:
            await asyncio.sleep(0)
        taken += [pair async for pair in results]
    assert sorted((item, outcome.unwrap()) for item, outcome in taken) == [(item, item) for item in range(5)]
