"""The cancel of the caller is never lost: asked for at every turn of the loop, before, while and as the awaited ends.

A cancel that the caller was asked for in time has to arrive, at the latest at the await behind the scope; and after the
scope the count is that of the requests, no more and no less.
"""

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any

import pytest
from scopes.steps import cancelled_at, cancelling, turns

import calloff

TURNS = 30
AWAITED = 5


async def fail() -> None:
    await turns(AWAITED)
    raise KeyError("its own")


async def wait_for() -> None:
    await calloff.wait_for(turns(AWAITED), 60)


async def wait_for_task() -> None:
    await calloff.wait_for(asyncio.ensure_future(turns(AWAITED)), 60)


async def wait_for_failing() -> None:
    await calloff.wait_for(fail(), 60)


async def wait_for_nothing() -> None:
    try:
        await calloff.wait_for(turns(AWAITED), 0)
    except TimeoutError:
        pass


async def wait_for_a_refusal() -> None:
    async def refuse() -> None:
        try:
            await turns(AWAITED)
        except asyncio.CancelledError:
            await turns(2)

    work = asyncio.ensure_future(refuse())
    await asyncio.sleep(0)
    try:
        await calloff.wait_for(work, 0)
    except TimeoutError:
        pass


async def shield() -> None:
    await calloff.shield(turns(AWAITED))


async def shield_failing() -> None:
    await calloff.shield(fail())


async def shield_without_a_step() -> None:
    async def at_once() -> None:
        pass

    await calloff.shield(at_once())


async def group() -> None:
    async with calloff.TaskGroup() as members:
        members.create_task(turns(AWAITED))
        await turns(2)


async def group_in_its_block() -> None:
    async with calloff.TaskGroup() as members:
        members.create_task(turns(2))
        await turns(AWAITED)


async def group_failing() -> None:
    async with calloff.TaskGroup() as members:
        members.create_task(fail())
        members.create_task(asyncio.sleep(60))
        await turns(AWAITED + 2)


async def group_failing_late() -> None:
    async with calloff.TaskGroup() as members:
        members.create_task(fail())
        members.create_task(asyncio.sleep(60))


async def group_called_off() -> None:
    async with calloff.TaskGroup() as members:
        members.create_task(asyncio.sleep(60))
        await turns(AWAITED - 2)
        members.cancel()


async def group_called_off_from_outside() -> None:
    async with calloff.TaskGroup() as members:
        asyncio.get_running_loop().call_later(0, members.cancel)
        await asyncio.sleep(60)


async def group_out_of_time() -> None:
    try:
        async with calloff.TaskGroup(timeout=0) as members:
            members.create_task(turns(AWAITED))
            await turns(AWAITED)
    except TimeoutError:
        pass


async def group_in_a_group() -> None:
    async with calloff.TaskGroup() as outer:
        outer.create_task(fail())
        async with calloff.TaskGroup() as inner:
            inner.create_task(fail())
            await asyncio.sleep(60)


async def timeout() -> None:
    with calloff.timeout(60):
        await turns(AWAITED)


async def timeout_zero() -> None:
    try:
        with calloff.timeout(0):
            await turns(AWAITED)
    except TimeoutError:
        pass


async def move_on_by_hand() -> None:
    with calloff.CancelScope() as scope:
        await turns(AWAITED - 2)
        scope.cancel()
        await turns(AWAITED)


async def move_on_from_outside() -> None:
    with calloff.CancelScope() as scope:
        hand = asyncio.ensure_future(turns(AWAITED - 1))
        hand.add_done_callback(lambda _: scope.cancel())
        await turns(60)


async def nested() -> None:
    with calloff.move_on_after(60), calloff.CancelScope() as outer:
        with calloff.CancelScope() as inner:
            await turns(3)
            inner.cancel()
            outer.cancel()
            await turns(AWAITED)


CASES = [
    wait_for,
    wait_for_task,
    wait_for_failing,
    wait_for_nothing,
    wait_for_a_refusal,
    shield,
    shield_failing,
    shield_without_a_step,
    group,
    group_in_its_block,
    group_failing,
    group_failing_late,
    group_called_off,
    group_called_off_from_outside,
    group_out_of_time,
    group_in_a_group,
    timeout,
    timeout_zero,
    move_on_by_hand,
    move_on_from_outside,
    nested,
]


@pytest.mark.parametrize("work", CASES, ids=lambda work: work.__name__)
async def test_at_every_turn(work: Callable[[], Coroutine[Any, Any, None]]) -> None:
    async def body() -> None:
        before = cancelling()
        try:
            await work()
        except* KeyError:
            pass
        finally:
            counts.append(cancelling() - before)
        # asked in time and not heard by now: it has to be heard here
        await turns(3)

    counts: list[int] = []
    for turn in range(TURNS):
        counts.clear()
        task, asked = await cancelled_at(turn, body)
        if not asked:
            assert not task.cancelled()
            break
        assert task.cancelled(), f"the cancel at turn {turn} was lost"
        assert task.cancelling() == 1
        assert all(count in (0, 1) for count in counts), counts
    else:
        raise AssertionError("the work is longer than the test: nothing was cancelled as it ended")


@pytest.mark.parametrize("work", CASES, ids=lambda work: work.__name__)
async def test_counts_balance_without_a_cancel(work: Callable[[], Coroutine[Any, Any, None]]) -> None:
    async def body(before: int) -> None:
        try:
            await (asyncio.sleep(60) if before else turns(3))
        finally:
            assert cancelling() == before
            try:
                await work()
            except* KeyError:
                pass
            assert cancelling() == before
            await turns(3)
            heard.append(cancelling())

    heard: list[int] = []
    for before in (0, 1):  # the second time in the clean-up of a cancelled task
        task = asyncio.create_task(body(before))
        await turns(2)
        if before:
            task.cancel()
        await asyncio.wait([task])
        assert task.cancelled() == bool(before), task
        assert not task.cancelled() or heard[-1] == before


async def test_a_cancel_before_the_first_step_of_the_work() -> None:
    async def body(work: Callable[[], Coroutine[Any, Any, None]]) -> None:
        task = asyncio.current_task()
        assert task is not None
        task.cancel()
        try:
            await work()
        except* KeyError:
            pass
        await asyncio.sleep(0)
        raise AssertionError("lost")

    for work in CASES:
        task = asyncio.create_task(body(work))
        await asyncio.wait([task], timeout=30)
        assert task.cancelled(), work.__name__
