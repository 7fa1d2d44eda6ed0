"""`timeout` and `timeout_at`: what CPython's own tests of `asyncio.timeout` do not ask."""

import asyncio
import pickle
import time
from math import inf, nan
from typing import Any

import pytest
from scopes.steps import cancelling, stubborn

import calloff


async def test_with_and_async_with_are_the_same() -> None:
    for how in ("with", "async with"):
        scope = calloff.timeout(0.01)
        with pytest.raises(calloff.TimedOut) as caught:
            if how == "with":
                with scope as entered:
                    await asyncio.sleep(60)
            else:
                async with scope as entered:
                    await asyncio.sleep(60)
        assert entered is scope
        assert scope.expired()
        assert isinstance(caught.value, TimeoutError)
        assert cancelling() == 0


@pytest.mark.usefixtures("begins_first")
async def test_the_error_names_the_limit_and_the_line() -> None:
    async def inner() -> None:
        await asyncio.sleep(60)  # it hangs here

    with pytest.raises(calloff.TimedOut) as caught:
        with calloff.timeout(0.02):
            await asyncio.create_task(inner())
    error = caught.value
    text = str(error)
    assert text.startswith("the block did not end within 0.02 s: at inner (")
    assert "test_timeout.py:" in text
    assert text.endswith("await asyncio.sleep(60)  # it hangs here")
    assert error.operation is None
    assert error.reason.kind == "deadline"
    assert [frame.function for frame in error.where][:1] == ["test_the_error_names_the_limit_and_the_line"]
    again = pickle.loads(pickle.dumps(error))
    assert str(again) == text
    assert again.where == error.where


async def test_a_point_is_named_as_such() -> None:
    with pytest.raises(calloff.TimedOut, match="the block did not end by its deadline: at test_a_point_is_named"):
        with calloff.timeout_at(asyncio.get_running_loop().time() + 0.01):
            await asyncio.sleep(60)


async def test_no_limit_and_infinity() -> None:
    for scope in (
        calloff.timeout(None),
        calloff.timeout(inf),
        calloff.timeout_at(None),
        calloff.timeout_at(inf),
        calloff.timeout(1e300),
    ):
        with scope:
            await asyncio.sleep(0)
        assert not scope.expired()


@pytest.mark.parametrize("bad", [nan, "3", [3]])
async def test_bad_durations(bad: Any) -> None:
    with pytest.raises((ValueError, TypeError), match=r"delay must be a number"):
        calloff.timeout(bad)


@pytest.mark.parametrize("bad", [nan, "3", [3]])
async def test_bad_points(bad: Any) -> None:
    with pytest.raises((ValueError, TypeError), match="when must be a"):
        calloff.timeout_at(bad)
    with calloff.timeout(None) as scope, pytest.raises((ValueError, TypeError), match="when must be a"):
        scope.reschedule(bad)


@pytest.mark.parametrize("bad", [nan, -1, "3"])
async def test_bad_grace(bad: Any) -> None:
    for make in (calloff.timeout, calloff.timeout_at, calloff.move_on_after, calloff.move_on_at):
        with pytest.raises((ValueError, TypeError), match="grace must be"):
            make(1, grace=bad)


def test_timeout_needs_a_running_loop_and_timeout_at_does_not() -> None:
    with pytest.raises(RuntimeError, match="no running event loop"):
        calloff.timeout(1)
    assert repr(calloff.timeout_at(5.0)) == "<Timeout [created]>"


@pytest.mark.parametrize("delay", [0, -1])
async def test_zero_does_not_eat_an_earlier_cancel(delay: float) -> None:
    async def body() -> str:
        task = asyncio.current_task()
        assert task is not None
        task.cancel()
        try:
            with calloff.timeout(delay):
                await asyncio.sleep(60)
        except TimeoutError:
            return "the cancel was eaten"
        return "nothing was raised"

    task = asyncio.create_task(body())
    with pytest.raises(asyncio.CancelledError):
        await task
    assert task.cancelled()


async def test_a_foreign_cancel_at_the_same_time_wins() -> None:
    task: Any = None

    async def body() -> None:
        with calloff.timeout(0.01):
            try:
                await asyncio.sleep(60)
            except asyncio.CancelledError:
                assert cancelling() == 1
                task.cancel()
                raise

    task = asyncio.create_task(body())
    with pytest.raises(asyncio.CancelledError):
        await task
    assert task.cancelling() == 1


async def test_it_works_in_the_clean_up_of_a_cancelled_task() -> None:
    seen: list[str] = []

    async def body() -> None:
        try:
            await asyncio.sleep(60)
        finally:
            assert cancelling() == 1
            try:
                with calloff.timeout(0.01):
                    await asyncio.sleep(60)
            except TimeoutError:
                seen.append("timeout")
            with calloff.move_on_after(0.01) as scope:
                await asyncio.sleep(60)
            seen.append(f"caught {scope.cancelled_caught}")
            try:
                async with calloff.TaskGroup(timeout=0.01) as group:
                    group.create_task(asyncio.sleep(60))
            except TimeoutError:
                seen.append("group")
            assert cancelling() == 1
            await asyncio.sleep(0)  # nothing is left that could arrive here
            seen.append("done")

    task = asyncio.create_task(body())
    await asyncio.sleep(0.01)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert seen == ["timeout", "caught True", "group", "done"]


async def test_counts_balance_when_the_block_swallows_or_fails() -> None:
    with calloff.timeout(0.01) as scope:
        try:
            await asyncio.sleep(60)
        except asyncio.CancelledError:
            pass
    assert scope.expired()
    assert cancelling() == 0

    with pytest.raises(ZeroDivisionError) as caught, calloff.timeout(0.01):
        try:
            await asyncio.sleep(60)
        finally:
            1 / 0  # noqa: B018
    assert isinstance(caught.value.__context__, calloff.TimedOut)
    assert cancelling() == 0

    with pytest.raises(calloff.TimedOut), calloff.timeout(0.02):
        with calloff.timeout(10), calloff.timeout(0.02):
            await asyncio.sleep(60)
    assert cancelling() == 0
    await asyncio.sleep(0)


async def test_reschedule() -> None:
    now = asyncio.get_running_loop().time
    with calloff.timeout(3600) as scope:
        scope.reschedule(None)
        assert scope.when() is None
        scope.reschedule(now() + 3600)
    with pytest.raises(TimeoutError):
        with calloff.timeout(3600) as scope:
            scope.reschedule(now() + 0.01)
            await asyncio.sleep(60)
    with pytest.raises(TimeoutError):
        with calloff.timeout(3600) as scope:
            scope.reschedule(now() - 1)
            await asyncio.sleep(0)
    with calloff.timeout(3600) as scope:
        scope.reschedule(now() - 1)
        scope.reschedule(now() + 3600)
        await asyncio.sleep(0)
    with calloff.timeout(5) as scope:
        with pytest.raises(ValueError, match="NaN"):
            scope.reschedule(nan)


async def test_grace_asks_again_with_pauses_and_gives_all_back() -> None:
    loop = asyncio.get_running_loop()
    began = loop.time()
    with pytest.raises(TimeoutError):
        with calloff.timeout(0.02, grace=0.05):
            await stubborn(refusals=4)
    assert loop.time() - began < 5
    assert cancelling() == 0

    # within the grace it is left alone
    cleaned = False
    with pytest.raises(TimeoutError):
        with calloff.timeout(0.02, grace=30):
            try:
                await asyncio.sleep(60)
            finally:
                await asyncio.sleep(0.1)
                cleaned = True
    assert cleaned


async def test_without_grace_it_is_cancelled_once() -> None:
    with calloff.timeout(0.01) as scope:
        assert await stubborn(refusals=1, seconds=0.1) == "ended"
    assert scope.expired()


async def test_left_in_another_context_or_task() -> None:
    async def limited() -> Any:
        with calloff.timeout(30):
            yield 1
            yield 2

    steps = limited()
    assert await anext(steps) == 1
    with calloff.timeout(20):
        await asyncio.create_task(steps.aclose())
        assert calloff.remaining() < 21
    assert cancelling() == 0


async def test_hundreds_of_near_deadlines_come_in_time() -> None:
    async def one(delay: float) -> tuple[float, float]:
        loop = asyncio.get_running_loop()
        began = loop.time()
        called: list[float] = []
        loop.call_later(delay, lambda: called.append(loop.time()))  # what the loop itself is late by is not ours
        with pytest.raises(TimeoutError):
            with calloff.timeout(delay):
                await asyncio.sleep(60)
        ended = loop.time()
        return ended - began - delay, ended - (called or [ended])[0]

    found = await asyncio.gather(*(one(0.05 + (index * 7 % 300) / 100) for index in range(300)))
    assert all(lateness > -0.01 and behind < 1 for lateness, behind in found), found


async def test_zero_is_heard_at_once_although_the_loop_is_late() -> None:
    with calloff.move_on_after(0.01):
        pass
    time.sleep(0.03)  # the timer is overdue, and will only run after a task that yields
    with pytest.raises(TimeoutError), calloff.timeout(0):
        await asyncio.sleep(0)


BEYOND = 10**400  # an integer that no float can hold


async def test_an_integer_beyond_every_clock_is_no_limit_and_before_it_one_that_has_passed():
    scopes = [calloff.timeout(BEYOND), calloff.timeout_at(BEYOND), calloff.move_on_after(BEYOND)]
    scopes += [calloff.move_on_at(BEYOND), calloff.CancelScope(deadline=BEYOND, grace=BEYOND)]
    for scope in scopes:
        async with scope:
            await asyncio.sleep(0)
    async with calloff.timeout(60) as limit:
        limit.reschedule(BEYOND)
        assert limit.when() is None
    with pytest.raises(calloff.TimedOut, match="within 0 s"):
        async with calloff.timeout(-BEYOND):
            await asyncio.sleep(60)
    with pytest.raises(ValueError, match=r"^delay must be 0 or more"):
        calloff.move_on_after(-BEYOND)
    with pytest.raises(ValueError, match=r"^deadline must be 0 or more"):
        calloff.CancelScope(deadline=-BEYOND)
