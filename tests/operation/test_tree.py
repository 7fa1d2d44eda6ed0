"""Operations form a tree: what a parent started ends with it, in whatever way it ends."""

import asyncio
import threading
import time
from typing import Any

import pytest
from operation import virtual_time

import calloff


async def waits():
    await asyncio.sleep(3600)


async def test_parent_and_children():
    children: list[Any] = []

    async def parent():
        me = calloff.current()
        children.extend(calloff.start(waits(), name=name) for name in ("first", "second"))
        assert me.children == tuple(children)
        assert [child.parent for child in children] == [me, me]
        assert me.parent is None
        await asyncio.wait(children[:1], timeout=0)
        await children[0].stop()
        assert me.children == (children[1],), "those that have not ended"
        return me

    assert calloff.current() is None
    me = await calloff.call(parent())
    assert me.children == ()
    assert children[1].parent is me
    await children[1].outcome()


@pytest.mark.parametrize(
    "ending", ["returns", "raises", "cancelled", "timed out", "cancelled from outside", "abandoned"]
)
async def test_children_are_stopped_however_the_parent_ends(ending, short_last):
    children = []

    async def parent():
        children.append(calloff.start(waits(), name="child"))
        await asyncio.sleep(0)
        match ending:
            case "returns":
                return
            case "raises":
                raise ValueError
            case "abandoned":
                while True:
                    try:
                        await asyncio.sleep(3600)
                    except BaseException:  # noqa: B036
                        pass
        await asyncio.sleep(3600)

    op = calloff.start(parent(), name="parent", grace=0.05)
    for _ in range(3):
        await asyncio.sleep(0)
    match ending:
        case "timed out":
            op.reschedule(0.01)
        case "cancelled" | "abandoned":
            op.cancel("enough")
        case "cancelled from outside":
            op.body.task.cancel()
    await asyncio.wait([op])
    (op.done() and op.cancelled()) or op.exception()
    (child,) = children
    outcome = await child.outcome()
    assert isinstance(outcome, calloff.Cancelled)
    assert outcome.reason.kind == "parent"
    assert "'parent'" in (outcome.reason.by or "")
    if ending == "cancelled":
        assert outcome.reason.text == "enough", "the cause is handed down"
    with pytest.raises(calloff.OperationCancelled, match="parent"):
        await child


async def test_detached_ones_go_on():
    started = []

    async def parent():
        started.append(calloff.start(waits(), detached=True))
        await asyncio.sleep(0)

    op = calloff.start(parent())
    await op
    (child,) = started
    assert (child.parent, op.children, child.done()) == (None, (), False)
    assert child.reason is None
    await child.stop()


async def test_through_plain_tasks():
    """The context says whose work it is, not the task."""
    started: list[Any] = []

    async def plain():
        assert calloff.current() is not None
        started.append(calloff.start(waits()))
        await asyncio.sleep(3600)

    async def parent():
        started.append(asyncio.create_task(plain()))
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(asyncio.sleep(0))
        await asyncio.sleep(0)
        return calloff.current()

    op = calloff.start(parent())
    assert await op is op
    task, child = started if isinstance(started[0], asyncio.Task) and hasattr(started[0], "get_coro") else started[::-1]
    assert child.parent is op
    assert (await child.outcome()).reason.kind == "parent"
    assert not task.done(), "plain tasks are asyncio's business"
    task.cancel()
    await asyncio.wait([task])


async def test_what_is_started_after_the_parents_end_has_no_parent():
    started = []

    async def later(op):
        await asyncio.wait([op])
        started.append(calloff.start(waits()))

    async def parent():
        return asyncio.create_task(later(calloff.current()))

    task = await calloff.call(parent())
    await task
    assert started[0].parent is None
    assert not started[0].done()
    await started[0].stop()


async def test_grandchildren():
    ops = []

    async def nest(depth):
        ops.append(calloff.current())
        if depth:
            await calloff.call(nest(depth - 1), name=f"level {depth - 1}")
        await asyncio.sleep(3600)

    op = calloff.start(nest(4), name="level 4")
    while len(ops) < 5:
        await asyncio.sleep(0)
    outcome = await op.stop("top down")
    assert outcome.reason.kind == "requested"
    assert [type(await one.outcome()) for one in ops] == [calloff.Cancelled] * 5
    assert {one.reason.kind for one in ops[1:]} == {"parent"}
    assert {one.reason.text for one in ops} == {"top down"}


async def awaited():
    """An operation, and the task that awaits it."""
    op = calloff.start(asyncio.sleep(3600))

    async def waits():
        await op

    task = asyncio.create_task(waits())
    for _ in range(3):
        await asyncio.sleep(0)
    return op, task


async def test_a_caller_that_is_cancelled_twice_before_it_runs_hands_down_one_request():
    """On a busy machine a body is asked again before it has had a turn."""
    op, task = await awaited()
    task.cancel("first")
    task.cancel("again")
    with pytest.raises(asyncio.CancelledError):
        await task
    assert op.reason.kind == "parent"
    assert task.cancelling() == 2


async def test_a_call_is_called_off_itself_while_its_caller_is_on_its_way():
    """The caller was cancelled and has not run yet: the operation has heard of that, and what came first is told."""
    op, task = await awaited()
    task.cancel("of the caller")
    assert op.reason is not None
    assert op.cancel("by its handle")
    with pytest.raises(asyncio.CancelledError, match="of the caller"):
        await task
    assert (op.reason.kind, op.reason.text) == ("parent", "of the caller")


@pytest.mark.parametrize("depth", [0, 1, 2])
async def test_a_parent_whose_child_has_had_no_turn_since_it_was_asked_has_not_refused(depth):
    """On a busy machine the loop turns late, and uvloop calls timers first."""

    async def parent(depth):
        if depth:
            await calloff.call(parent(depth - 1))
        else:
            await asyncio.sleep(3600)

    op = calloff.start(parent(depth))
    for _ in range(depth + 2):
        await asyncio.sleep(0)
    op.cancel()
    time.sleep(0.05)  # longer than the first pause before it would be asked again
    outcome = await op.outcome()
    assert outcome.report.rung is calloff.Rung.ASKED
    assert outcome.report.refusals == 0


async def test_a_parent_that_waits_for_its_child_when_it_is_stopped():
    """The wait for a child hands the request down, sees the child to its end, and the parent's own cancel goes on."""
    order: list[object] = []

    async def child():
        try:
            await asyncio.sleep(3600)
        finally:
            await asyncio.sleep(0)
            order.append("child")

    async def parent():
        try:
            await calloff.call(child())
        except asyncio.CancelledError as error:
            order.append(type(error))
            raise

    op = calloff.start(parent())
    for _ in range(3):
        await asyncio.sleep(0)
    outcome = await op.stop()
    assert order == ["child", asyncio.CancelledError]
    assert outcome.report.rung is calloff.Rung.ASKED
    assert outcome.report.refusals == 0


def test_a_stubborn_child_is_forced_when_its_parent_is():
    """The parent's bound is its own, and it waits for the child, which has no more time than the parent has."""

    async def main():
        started = []

        async def child():
            while True:
                try:
                    await asyncio.sleep(3600)
                except asyncio.CancelledError:
                    pass

        async def parent():
            started.append(calloff.start(child(), grace=3))
            await started[0]

        op = calloff.start(parent(), grace=1)
        for _ in range(3):
            await asyncio.sleep(0)
        outcome = await op.stop()
        assert outcome.report.rung is calloff.Rung.FORCED
        assert outcome.report.refusals == 0, "it waited for its child, which is no refusal"
        assert outcome.report.seconds == 1.0
        assert started[0].done()
        ending = await started[0].outcome()
        assert ending.report.rung is calloff.Rung.FORCED
        assert ending.report.seconds == 1.0
        assert ending.reason.kind == "parent"

    virtual_time.run(main)


async def test_stops_run_side_by_side():
    async def stubborn():
        while True:
            try:
                await asyncio.sleep(3600)
            except asyncio.CancelledError:
                pass

    ops = [calloff.start(stubborn(), grace=0.3) for _ in range(100)]
    await asyncio.sleep(0)
    loop = asyncio.get_running_loop()
    began = loop.time()
    outcomes = await asyncio.gather(*(op.stop() for op in ops))
    assert {outcome.report.rung for outcome in outcomes} == {calloff.Rung.FORCED}
    assert loop.time() - began < 0.3 + 15  # one after another they would take 30 s


async def test_across_a_thread_with_a_loop_of_its_own():
    """The child lives on another loop: it is stopped there."""
    running = threading.Event()
    seen: list[Any] = []

    async def in_thread():
        child = calloff.start(waits(), name="child")
        seen.append(child)
        running.set()
        seen.append(await asyncio.wait_for(child.outcome(), 10))

    async def parent():
        thread = asyncio.create_task(asyncio.to_thread(asyncio.run, in_thread()))
        while not running.is_set():
            await asyncio.sleep(0.001)
        return thread

    op = calloff.start(parent(), name="parent")
    thread = await op
    await asyncio.wait_for(thread, 10)
    child, outcome = seen
    assert child.parent is op
    assert isinstance(outcome, calloff.Cancelled)
    assert outcome.reason.kind == "parent"
