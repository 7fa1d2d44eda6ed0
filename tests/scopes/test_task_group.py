"""`TaskGroup`: what CPython 3.13's own tests do not ask."""

import asyncio
import gc
import sys
import weakref
from math import nan
from typing import Any

import pytest
from scopes.steps import cancelling, stubborn, turns

import calloff


async def fail(after: int = 0, error: type[BaseException] = KeyError) -> None:
    await turns(after)
    raise error("its own")


async def test_cancel_is_an_early_exit_without_an_error() -> None:
    async with calloff.TaskGroup() as group:
        child = group.create_task(asyncio.sleep(60))
        group.create_task(turns(2)).add_done_callback(lambda _: group.cancel("found it"))
        with pytest.raises(asyncio.CancelledError, match="found it"):
            await asyncio.sleep(60)
        with pytest.raises(RuntimeError, match="is shutting down"):
            group.create_task(asyncio.sleep(60))
    assert child.cancelled()
    assert cancelling() == 0
    group.cancel()
    await asyncio.sleep(0)

    async with calloff.TaskGroup() as group:  # by the block itself, at its end
        child = group.create_task(asyncio.sleep(60))
        await asyncio.sleep(0)
        group.cancel()
    assert child.cancelled()

    async with calloff.TaskGroup() as group:  # while only tasks are left
        child = group.create_task(asyncio.sleep(60))
        asyncio.get_running_loop().call_later(0.01, group.cancel)
    assert child.cancelled()
    assert cancelling() == 0
    await turns(3)


async def test_cancel_before_the_entry() -> None:
    group = calloff.TaskGroup(timeout=60)
    group.cancel("before")
    group.cancel("again")
    async with group:
        child = group.create_task(asyncio.sleep(60))
        with pytest.raises(asyncio.CancelledError, match="before"):
            await asyncio.sleep(60)
    assert child.cancelled()

    group = calloff.TaskGroup()
    group.cancel()
    async with group:
        child = group.create_task(asyncio.sleep(60))
    assert child.cancelled()
    assert cancelling() == 0
    await turns(3)


async def test_errors_come_out_of_a_group_that_was_called_off() -> None:
    async def clean_up_badly() -> None:
        try:
            await asyncio.sleep(60)
        finally:
            await fail()

    with pytest.raises(ExceptionGroup) as caught:
        async with calloff.TaskGroup() as group:
            group.create_task(clean_up_badly())
            await asyncio.sleep(0)
            group.cancel()
    assert [type(error) for error in caught.value.exceptions] == [KeyError]


@pytest.mark.usefixtures("begins_first")
@pytest.mark.parametrize("where", ["block", "task", "both"])
async def test_timeout(where: str) -> None:
    async def late() -> None:
        await asyncio.sleep(60)  # too long

    with pytest.raises(calloff.TimedOut, match=r"within 0\.1 s: at late \(.*too long") as caught:
        async with calloff.TaskGroup(timeout=0.1) as group:
            child = group.create_task(asyncio.sleep(0) if where == "block" else late())
            if where != "task":
                await late()
    assert caught.value.reason.kind == "deadline"
    assert child.cancelled() == (where != "block")
    assert cancelling() == 0
    await turns(3)


async def test_errors_of_the_clean_up_are_the_cause() -> None:
    async def clean_up_badly() -> None:
        try:
            await asyncio.sleep(60)
        finally:
            await fail()

    with pytest.raises(calloff.TimedOut) as caught:
        async with calloff.TaskGroup(timeout=0.5) as group:  # within which it surely begins, on a busy uvloop, too
            group.create_task(clean_up_badly())
    assert isinstance(caught.value.__cause__, ExceptionGroup)


async def test_an_error_goes_before_a_deadline_that_comes_later() -> None:
    async def clean_up() -> None:
        try:
            await asyncio.sleep(60)
        finally:
            await asyncio.sleep(0.6)

    with pytest.raises(ExceptionGroup):
        async with calloff.TaskGroup(timeout=0.5) as group:
            group.create_task(clean_up())
            await asyncio.sleep(0)
            group.create_task(fail())


async def test_a_block_that_swallows_the_deadline() -> None:
    with pytest.raises(calloff.TimedOut):
        async with calloff.TaskGroup(timeout=0.02) as group:
            child = group.create_task(asyncio.sleep(60))
            try:
                await asyncio.sleep(60)
            except asyncio.CancelledError:
                pass
            await asyncio.sleep(0)
    assert child.cancelled()


async def test_grace_for_tasks_and_block() -> None:
    with pytest.raises(calloff.TimedOut):
        async with calloff.TaskGroup(timeout=0.02, grace=0.02) as group:
            group.create_task(stubborn(refusals=4))
            group.create_task(stubborn(refusals=2))
            await stubborn(refusals=3)
    assert cancelling() == 0
    with pytest.raises(ExceptionGroup):
        async with calloff.TaskGroup(grace=0.02) as group:
            group.create_task(stubborn(refusals=3))
            await asyncio.sleep(0)
            group.create_task(fail())
    await turns(3)


async def test_error_and_cancel_of_the_parent_together() -> None:
    async def parent(how: str) -> None:
        task = asyncio.current_task()
        assert task is not None
        try:
            async with calloff.TaskGroup() as group:
                group.create_task(fail(1)).add_done_callback(lambda _: task.cancel())
                await asyncio.sleep(60)
        except* KeyError:
            assert cancelling() == 1
        if how == "await":
            await asyncio.sleep(60)
            raise AssertionError("lost")

    for how in ("await", "return"):
        task = asyncio.create_task(parent(how))
        await asyncio.wait([task], timeout=10)
        assert task.cancelled(), how


@pytest.mark.parametrize("outer", ["timeout", "scope", "group"])
@pytest.mark.parametrize("clean_up", [False, True])
async def test_error_and_cancel_by_an_outer_scope_together(outer: str, clean_up: bool) -> None:
    """What the outer one asked for is heard at the next await inside it, and never behind it."""

    async def inside(call_off: Any, goes_on: bool) -> None:
        try:
            async with calloff.TaskGroup() as group:
                group.create_task(fail(1)).add_done_callback(lambda _: call_off())
                await asyncio.sleep(60)
        except* KeyError:
            pass
        if goes_on:
            await asyncio.sleep(60)
            raise AssertionError("lost")

    async def body() -> None:
        loop = asyncio.get_running_loop()
        before = cancelling()
        for goes_on in (True, False):
            if outer == "timeout":
                limit = calloff.timeout(60)
                try:
                    with limit:
                        await inside(lambda: limit.reschedule(loop.time()), goes_on)
                except TimeoutError:
                    assert goes_on
                else:
                    assert not goes_on
            elif outer == "scope":
                with calloff.CancelScope() as scope:
                    await inside(scope.cancel, goes_on)
                assert scope.cancelled_caught == goes_on
            else:
                async with calloff.TaskGroup() as group:
                    await inside(group.cancel, goes_on)
            assert cancelling() == before
            await turns(3)

    async def in_clean_up() -> None:
        try:
            await asyncio.sleep(60)
        finally:
            await body()
            done.append(True)

    done: list[bool] = []
    if not clean_up:
        await body()
        return
    task = asyncio.create_task(in_clean_up())
    await turns(2)
    task.cancel()
    await asyncio.wait([task])
    assert task.cancelled()
    assert done


async def test_a_task_that_fails_at_once_also_an_eager_one() -> None:
    with pytest.raises(ExceptionGroup):
        async with calloff.TaskGroup() as group:
            group.create_task(fail())
    assert cancelling() == 0
    await turns(3)  # nothing leaks
    with pytest.raises(ExceptionGroup):
        async with calloff.TaskGroup() as group:
            group.create_task(fail())
            await asyncio.sleep(60)
    async with calloff.TaskGroup() as group:

        async def call_off() -> None:
            group.cancel()
            await asyncio.sleep(60)

        child = group.create_task(call_off())
    assert child.cancelled()
    await turns(3)


async def test_generator_exit_stays_one() -> None:
    async def steps() -> Any:
        async with calloff.TaskGroup():
            yield 1

    iterator = steps()
    await anext(iterator)
    await iterator.aclose()


async def test_force_does_not_leave_the_tasks_alone() -> None:
    async def refuse_once() -> None:
        await stubborn(refusals=1)

    async def body() -> None:
        async with calloff.TaskGroup() as group:
            tasks.append(group.create_task(refuse_once()))

    tasks: list[asyncio.Task[None]] = []
    op = calloff.start(body())
    await turns(3)
    outcome = await op.stop(grace=0.05)
    assert isinstance(outcome, (calloff.Cancelled, calloff.Abandoned))
    tasks[0].cancel()
    await asyncio.wait(tasks)


async def test_where_looks_into_it() -> None:
    async def child() -> None:
        await asyncio.sleep(60)

    async def body() -> None:
        async with calloff.TaskGroup() as group:
            group.create_task(child())

    op = calloff.start(body())
    await turns(3)
    functions = [frame.function for frame in op.where()]
    await op.stop(grace=0)
    assert functions[:2] == ["body", "child"]


@pytest.mark.parametrize("name", ["timeout", "grace"])
@pytest.mark.parametrize("bad", [-1, nan, "3"])
def test_bad_durations(name: str, bad: Any) -> None:
    with pytest.raises((ValueError, TypeError), match=f"{name} must be"):
        calloff.TaskGroup(**{name: bad})


async def test_eager_start() -> None:
    began: list[str] = []

    async def note() -> None:
        began.append("step")

    async with calloff.TaskGroup() as group:
        if sys.version_info < (3, 14):
            with pytest.raises(TypeError, match=r"eager_start needs Python 3\.14"):
                group.create_task(note(), eager_start=True)
            return
        group.create_task(note(), eager_start=True)
        assert began
        task = group.create_task(note(), eager_start=False, name="late")
        assert len(began) == 1
    assert task.get_name() == "late"
    assert len(began) == 2


@pytest.mark.parametrize("error", [KeyError, KeyboardInterrupt])
async def test_an_error_that_leaves_it_is_not_kept(error: type[BaseException]) -> None:
    class Held:
        pass

    async def leave() -> "weakref.ref[Held]":
        held = Held()
        group = calloff.TaskGroup()
        try:
            async with group:
                raise error
        except (BaseExceptionGroup, KeyboardInterrupt):
            return weakref.ref(held)
        raise AssertionError

    gc.disable()
    try:
        assert (await leave())() is None
    finally:
        gc.enable()
