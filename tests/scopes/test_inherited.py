"""The chain of scopes: what `current_deadline` sees, and the hooks for who finds that the loop is blocked."""

import asyncio
import time
from collections.abc import Iterator
from contextvars import copy_context
from math import inf

import pytest

import calloff
from calloff._scopes.scope import innermost, overdue_scope


async def test_the_nearest_of_all_that_enclose() -> None:
    now = asyncio.get_running_loop().time()
    assert calloff.current_deadline() == inf
    with calloff.timeout_at(now + 50):
        assert calloff.current_deadline() == now + 50
        with calloff.timeout_at(now + 60), calloff.timeout(None):
            assert calloff.current_deadline() == now + 50
            with calloff.move_on_at(now + 40):
                assert calloff.current_deadline() == now + 40
            async with calloff.TaskGroup(timeout=10):
                assert calloff.remaining() < 10.001
            assert calloff.current_deadline() == now + 50
    assert calloff.current_deadline() == inf
    with calloff.timeout_at(now + 70):
        assert calloff.current_deadline() == now + 70


async def test_child_tasks_inherit_the_limits_of_their_birth() -> None:
    now = asyncio.get_running_loop().time()

    async def look(start: asyncio.Event) -> float:
        await start.wait()
        with calloff.timeout_at(now + 90):
            return calloff.current_deadline()

    go = asyncio.Event()
    with calloff.timeout_at(now + 50):
        child = asyncio.create_task(look(go))
        with calloff.timeout_at(now + 10):  # not the child's
            go.set()
            assert await child == now + 50
    go.clear()
    with calloff.timeout_at(now + 50):
        child = asyncio.create_task(look(go))
    go.set()
    assert await child == now + 90  # the other one was left meanwhile: it limits nothing any more


async def test_many_scopes_in_a_row_leave_no_chain() -> None:
    with calloff.timeout(50):
        for _ in range(100):
            with calloff.timeout(10), calloff.timeout(5):
                pass
    with calloff.timeout(10) as scope:
        assert scope._outer is None
    left = innermost.get()
    assert left is not None
    assert left._task is None


def _chain() -> int:
    """How many scopes lie outside of each other here, left ones included."""
    scope, count = innermost.get(), 0
    while scope is not None:
        scope, count = scope._outer, count + 1
    return count


async def test_what_starts_its_successor_leaves_no_chain() -> None:
    longest = 0

    async def job(left: int) -> None:
        nonlocal longest
        await asyncio.sleep(0)
        async with calloff.timeout(30):
            longest = max(longest, _chain())
            following = asyncio.create_task(job(left - 1)) if left else None
            await asyncio.sleep(0)
            await asyncio.sleep(0)
        while following is not None and not following.done():
            await asyncio.sleep(0)

    await job(50)
    assert longest < 10


@pytest.mark.parametrize("cancels", [False, True])
async def test_scopes_that_are_left_in_the_order_of_their_entries_leave_no_chain(cancels: bool) -> None:
    def limited() -> Iterator[None]:
        while True:
            with calloff.CancelScope() as scope:
                if cancels:
                    scope.cancel()
                yield

    one, other = limited(), limited()
    for _ in range(50):
        next(one)
        next(other)
        assert _chain() < 10


async def test_overdue_scope_is_the_innermost_of_this_task() -> None:
    now = asyncio.get_running_loop().time
    assert overdue_scope(now() + 1000) is None
    with calloff.timeout(50) as outer, calloff.timeout(60) as inner, calloff.timeout(None):
        assert overdue_scope(now()) is None
        assert overdue_scope(now() + 55) is outer
        assert overdue_scope(now() + 65) is inner

        async def child() -> None:
            assert overdue_scope(now() + 65) is None
            with calloff.timeout(5) as own:
                assert overdue_scope(now() + 65) is own

        await asyncio.create_task(child())
    assert copy_context().run(overdue_scope, now() + 65) is None


async def test_interrupting() -> None:
    """As from a signal handler: the exception is raised in the block, without a cancel of the task."""
    task = asyncio.current_task()
    assert task is not None
    with pytest.raises(calloff.TimedOut, match="within 0.001 s"):
        with calloff.timeout(0.001) as scope:
            time.sleep(0.01)
            assert overdue_scope(asyncio.get_running_loop().time()) is scope
            error = scope.interrupting()
            assert task.cancelling() == 0
            assert overdue_scope(asyncio.get_running_loop().time()) is None
            raise error
    with calloff.move_on_after(0.001) as moved:
        time.sleep(0.01)
        raise moved.interrupting()
    assert moved.cancelled_caught
    with pytest.raises(calloff.TimedOut):
        async with calloff.TaskGroup(timeout=0.001) as group:
            group.create_task(asyncio.sleep(60))
            time.sleep(0.01)
            raise group._scope.interrupting()
    # a block that goes on all the same is cancelled again when its grace is over
    with pytest.raises(calloff.TimedOut):
        with calloff.timeout(0.001, grace=0.01) as scope:
            try:
                time.sleep(0.01)
                raise scope.interrupting()
            except asyncio.CancelledError:
                pass
            await asyncio.sleep(60)
    assert task.cancelling() == 0
    await asyncio.sleep(0)


@pytest.mark.parametrize("delay", [0, 1e-9])
async def test_what_was_overdue_at_its_entry_and_goes_on_when_interrupted_is_asked_again(delay: float) -> None:
    """No timer stands at its deadline: there is only a call in the next turn of the loop."""
    with pytest.raises(calloff.TimedOut):
        scope = calloff.timeout(delay, grace=0.01)
        time.sleep(0.01)
        with scope:
            try:
                raise scope.interrupting()
            except asyncio.CancelledError:
                pass
            async with asyncio.timeout(20):
                await asyncio.sleep(60)


def test_a_blocked_loop_is_interrupted_under_run() -> None:
    async def main() -> float:
        began = time.monotonic()
        with pytest.raises(calloff.TimedOut, match=r"time\.sleep\(9\)"), calloff.timeout(0.2):
            time.sleep(9)
        with calloff.move_on_after(0.2) as scope:
            time.sleep(9)
        assert scope.cancelled_caught
        await asyncio.sleep(0)
        return time.monotonic() - began

    assert calloff.run(main()) < 6
