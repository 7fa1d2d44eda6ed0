"""`CancelScope`, `move_on_after`, `move_on_at`."""

import asyncio
import sys
import threading
from math import inf, nan

import pytest
from scopes.steps import cancelling, stubborn, turns

import calloff


async def test_move_on_swallows_its_own_deadline_and_tells() -> None:
    with calloff.move_on_after(0.01) as scope:
        await asyncio.sleep(60)
    assert (scope.cancel_called, scope.cancelled_caught) == (True, True)
    assert scope.reason is not None
    assert scope.reason.kind == "deadline"
    assert scope.reason.text == "within 0.01 s"

    async with calloff.move_on_at(asyncio.get_running_loop().time() + 0.01) as scope:
        await asyncio.sleep(60)
    assert scope.cancelled_caught

    with calloff.move_on_after(60) as scope:
        await asyncio.sleep(0)
    assert (scope.cancel_called, scope.cancelled_caught, scope.reason) == (False, False, None)

    with calloff.move_on_after(0.01) as scope:
        with pytest.raises(asyncio.CancelledError):
            await asyncio.sleep(60)
    assert (scope.cancel_called, scope.cancelled_caught) == (True, False)
    assert cancelling() == 0


async def test_zero_calls_off_at_the_first_await() -> None:
    with calloff.move_on_after(0) as scope:
        await asyncio.sleep(0)
        raise AssertionError
    assert scope.cancelled_caught
    with calloff.move_on_after(0) as scope:
        pass
    assert not scope.cancelled_caught
    await asyncio.sleep(0)


async def test_by_hand_from_inside_is_heard_at_the_next_await() -> None:
    for wait in (lambda: asyncio.sleep(60), lambda: asyncio.sleep(0)):
        with calloff.CancelScope() as scope:
            scope.cancel("enough")
            scope.cancel("too late")
            assert scope.cancel_called
            with pytest.raises(asyncio.CancelledError, match="enough"):
                await wait()
            await asyncio.sleep(0)  # heard once
        assert scope.reason is not None
        assert (scope.reason.kind, scope.reason.text) == ("requested", "enough")
        assert cancelling() == 0


async def test_by_hand_and_left_without_an_await_leaves_nothing_behind() -> None:
    with calloff.CancelScope() as scope:
        scope.cancel()
    assert (scope.cancel_called, scope.cancelled_caught) == (True, False)
    assert cancelling() == 0
    await turns(3)


async def test_by_hand_inside_the_clean_up_of_a_cancelled_task() -> None:
    async def body() -> None:
        try:
            await asyncio.sleep(60)
        finally:
            with calloff.CancelScope() as scope:
                scope.cancel()
            await turns(2)
            with calloff.CancelScope() as scope:
                scope.cancel()
                await asyncio.sleep(60)
            assert scope.cancelled_caught
            await turns(2)
            cleaned.append(cancelling())

    cleaned: list[int] = []
    task = asyncio.create_task(body())
    await asyncio.sleep(0.01)
    task.cancel()
    await asyncio.wait([task])
    assert task.cancelled()
    assert cleaned == [1]


async def test_by_hand_from_another_task_and_before_the_entry() -> None:
    scope = calloff.CancelScope()
    asyncio.get_running_loop().call_later(0.01, scope.cancel)
    with scope:
        await asyncio.sleep(60)
    assert scope.cancelled_caught

    for scope in (calloff.CancelScope(), calloff.move_on_after(60), calloff.move_on_after(0)):
        scope.cancel("before")
        assert scope.cancel_called
        with scope:
            await asyncio.sleep(60)
            raise AssertionError
        assert scope.cancelled_caught
        assert scope.reason is not None
        assert scope.reason.text == "before"
    scope.cancel()  # after its end nothing happens
    await asyncio.sleep(0)


async def test_from_another_thread() -> None:
    with calloff.CancelScope() as scope:
        thread = threading.Thread(target=scope.cancel, args=("from a thread",))
        thread.start()
        await asyncio.sleep(60)
    thread.join()
    assert scope.cancelled_caught


@pytest.mark.skipif(sys.version_info < (3, 12), reason="no eager tasks")
async def test_by_hand_from_an_eager_child_of_the_running_task() -> None:
    async def child(scope: calloff.CancelScope) -> None:
        scope.cancel()

    loop = asyncio.get_running_loop()
    with calloff.CancelScope() as scope:
        await asyncio.Task(child(scope), loop=loop, eager_start=True)  # type: ignore[call-arg]  # since 3.12
    assert cancelling() == 0
    await turns(3)
    with calloff.CancelScope() as scope:
        asyncio.Task(child(scope), loop=loop, eager_start=True)  # type: ignore[call-arg]  # since 3.12
        await asyncio.sleep(60)
    assert scope.cancelled_caught


async def test_a_foreign_cancel_is_not_swallowed() -> None:
    async def body(when: str) -> None:
        with calloff.CancelScope() as scope:
            task = asyncio.current_task()
            assert task is not None
            if when == "before":
                task.cancel()
                scope.cancel()
            elif when == "after":
                scope.cancel()
                task.cancel()
            await asyncio.sleep(60)
        raise AssertionError("swallowed")

    for when in ("before", "after"):
        task = asyncio.create_task(body(when))
        await asyncio.wait([task])
        assert task.cancelled()


async def test_a_cancelled_error_of_the_blocks_own_is_not_swallowed() -> None:
    future = asyncio.get_running_loop().create_future()
    future.cancel()
    with pytest.raises(asyncio.CancelledError):
        with calloff.CancelScope() as scope:
            scope.cancel()
            await future
    assert not scope.cancelled_caught


async def test_deadline_may_be_moved() -> None:
    now = asyncio.get_running_loop().time
    scope = calloff.CancelScope(deadline=now() + 60)
    assert scope.deadline < inf
    scope.deadline = inf
    with scope:
        assert calloff.current_deadline() > now() + 61 or scope.deadline == inf
        scope.deadline = now() + 0.01
        await asyncio.sleep(60)
    assert scope.cancelled_caught

    for make in (calloff.move_on_after(60), calloff.move_on_after(0)):
        make.deadline = inf
        with make:
            await turns(3)
        assert not make.cancel_called
    with calloff.move_on_after(60) as scope:
        scope.deadline = now() - 1
        await asyncio.sleep(0)
    assert scope.cancelled_caught


def test_outside_of_a_loop() -> None:
    with pytest.raises(RuntimeError, match="no running event loop"):
        calloff.CancelScope().__enter__()


async def test_bad_input() -> None:
    for bad in (nan, -1):
        with pytest.raises(ValueError, match="deadline must be 0 or more"):
            calloff.CancelScope(deadline=bad)
    with pytest.raises(TypeError, match="deadline must be a point"):
        calloff.CancelScope(deadline="soon")  # type: ignore[arg-type]
    for bad in (-1, nan):
        with pytest.raises(ValueError, match="delay must be 0 or more seconds"):
            calloff.move_on_after(bad)
    with pytest.raises(TypeError, match="delay must be a number of seconds"):
        calloff.move_on_after("3")  # type: ignore[arg-type]
    with calloff.CancelScope() as scope:
        with pytest.raises(RuntimeError, match="CancelScope has already been entered"), scope:
            pass


async def test_nested_scopes_the_outer_one_wins() -> None:
    with calloff.CancelScope() as outer:
        with calloff.CancelScope() as inner:
            inner.cancel()
            outer.cancel()
            await asyncio.sleep(60)
        raise AssertionError("the inner one swallowed what was for the outer one")
    assert (outer.cancelled_caught, inner.cancelled_caught) == (True, False)
    assert cancelling() == 0


async def test_grace() -> None:
    with calloff.CancelScope(grace=0.02) as scope:
        asyncio.get_running_loop().call_soon(scope.cancel)
        await stubborn(refusals=3)
    assert scope.cancelled_caught
    assert cancelling() == 0
