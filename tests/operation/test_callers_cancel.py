"""The caller's own cancel is never lost: whatever it waits for, and at whichever tick the cancel comes.

Each scenario is run again and again, with the cancel one turn of the loop later each time: before the wait, in the middle
of it, in the very turn in which the awaited thing ends, and after.
"""

import asyncio
import contextlib
import gc
import itertools
import signal
from typing import Any

import pytest
from operation import virtual_time

import calloff

TURNS = 4
MOST = 80


class Mine(Exception):
    pass


async def turns(count=TURNS):
    for _ in range(count):
        await asyncio.sleep(0)


async def rolls_back():
    try:
        await asyncio.sleep(3600)
    finally:
        raise Mine("the rollback failed")


async def returns():
    await turns()
    return "value"


async def fails():
    await turns()
    raise Mine


async def is_called_off():
    await turns()
    calloff.current().cancel("by itself")
    await asyncio.sleep(3600)


async def ends_by_force():
    await turns()
    calloff.current().cancel("by itself", grace=0)
    while True:
        try:
            await asyncio.sleep(3600)
        except asyncio.CancelledError:
            pass


async def cleans_up():
    try:
        await asyncio.sleep(3600)
    finally:
        await turns()


async def refuses_once():
    try:
        await asyncio.sleep(3600)
    except asyncio.CancelledError:
        await turns()
    return "late value"


BODIES = [returns, fails, is_called_off, ends_by_force]
STOPPED = [cleans_up, refuses_once]


# --- what a caller may do; each is run in a task of its own


def awaits(body):
    async def caller():
        await calloff.start(body())

    return caller


def calls(body):
    async def caller():
        await calloff.call(body(), timeout=60)

    return caller


def looks_at_the_outcome(body):
    async def caller():
        op = calloff.start(body())
        try:
            await op.outcome()
        finally:
            op.cancel()

    return caller


def watches(body):
    async def caller():
        op = calloff.start(body())
        try:
            async for _ in op.watch(every=0.001):
                pass
        finally:
            op.cancel()

    return caller


def stops(body):
    async def caller():
        op = calloff.start(body())
        try:
            await asyncio.sleep(0)
            await op.stop()
        finally:
            op.cancel()

    return caller


def awaits_after_cancel(body):
    async def caller():
        op = calloff.start(body())
        try:
            await asyncio.sleep(0)
        finally:
            op.cancel("enough")
        await op

    return caller


def leaves_a_group(body):
    async def caller():
        async with calloff.group() as g:
            g.start(body())
            g.start(returns())

    return caller


def leaves_a_collecting_group(body):
    async def caller():
        async with calloff.group(on_error="collect") as g:
            g.start(body())
            g.start(returns())

    return caller


def waits_inside_a_group(body):
    async def caller():
        async with calloff.group() as g:
            await g.start(body())

    return caller


def raises_inside_a_group(body):
    async def caller():
        async with calloff.group() as g:
            g.start(body())
            await turns(2)
            raise Mine

    return caller


def cancels_its_group(body):
    async def caller():
        async with calloff.group() as g:
            g.start(body())
            await turns(2)
            g.cancel("enough")

    return caller


def cancels_its_group_and_goes_on(body):
    async def caller():
        async with calloff.group() as g:
            g.start(body())
            await turns(2)
            g.cancel("enough")
            await turns(2)

    return caller


def is_cancelled_by_its_group(body):
    async def caller():
        async with calloff.group() as g:
            g.start(body())
            asyncio.get_running_loop().call_soon(g.cancel, "enough")
            await asyncio.sleep(3600)

    return caller


def nests_groups(body):
    async def caller():
        async with calloff.group() as outer:
            outer.start(returns())
            async with calloff.group() as inner:
                inner.start(body())
                await turns(2)
                inner.cancel()
            await turns(1)

    return caller


def races(body):
    async def caller():
        await calloff.race(body(), cleans_up(), refuses_once(), returns())

    return caller


def races_with_a_stagger(body):
    async def caller():
        await calloff.race(body(), cleans_up(), returns(), stagger=0.0001)

    return caller


def races_and_nobody_wins(body):
    async def caller():
        await calloff.race(fails(), is_called_off(), fails())

    return caller


CALLERS = [
    *itertools.product(
        [
            awaits,
            calls,
            looks_at_the_outcome,
            watches,
            leaves_a_group,
            leaves_a_collecting_group,
            waits_inside_a_group,
            raises_inside_a_group,
            cancels_its_group,
            cancels_its_group_and_goes_on,
            is_cancelled_by_its_group,
            nests_groups,
            races,
            races_with_a_stagger,
        ],
        BODIES,
    ),
    *itertools.product([stops, awaits_after_cancel, cancels_its_group, nests_groups, races], STOPPED),
    (races_and_nobody_wins, None),
]
IDS = [f"{caller.__name__} {body.__name__ if body else ''}".strip().replace("_", " ") for caller, body in CALLERS]


async def cancelled_at(turn, caller):
    """Run the caller and cancel it after so many turns of the loop: whether the cancel came before its end."""
    counts = []

    async def watched():
        me = asyncio.current_task()
        counts.append(me.cancelling())
        try:
            await caller()
        finally:
            counts.append(me.cancelling())

    task = asyncio.create_task(watched())
    await turns(turn)
    requested = task.cancel("mine alone")
    await asyncio.wait([task])
    if not requested:
        if not task.cancelled():
            task.exception()
        assert counts == [0, 0]
        return False
    assert task.cancelled(), f"cancelled at turn {turn}, it ended with {task.exception()!r}"
    with pytest.raises(asyncio.CancelledError) as caught:
        task.result()
    assert not isinstance(caught.value, calloff.OperationCancelled), f"at turn {turn}"
    assert counts in ([], [0, 1]), f"at turn {turn}"
    return True


async def at_every_turn(caller):
    before = set(calloff.operations())
    for turn in range(MOST):
        if not await cancelled_at(turn, caller):
            for op in set(calloff.operations()) - before:
                await op.outcome()
            return turn
    raise AssertionError("it never ends")


@pytest.mark.parametrize(("caller", "body"), CALLERS, ids=IDS)
def test_at_every_turn(arun, caller, body):
    taken = arun(at_every_turn, caller(body))
    assert taken >= 2, "the cancel has come before, in the middle of, and after it all"


# --- together with a deadline, in the same turn


def a_group_with_a_deadline(body):
    async def caller():
        async with calloff.group(timeout=1) as g:
            g.start(body())
            await asyncio.sleep(3600)

    return caller


def a_group_with_a_deadline_at_its_end(body):
    async def caller():
        async with calloff.group(timeout=1) as g:
            g.start(body())

    return caller


def a_call_with_a_deadline(body):
    async def caller():
        await calloff.call(body(), timeout=1)

    return caller


def a_race_with_a_deadline(body):
    async def caller():
        await calloff.race(body(), body(), timeout=1)

    return caller


@pytest.mark.parametrize("first", [True, False], ids=["cancel first", "deadline first"])
@pytest.mark.parametrize("body", STOPPED)
@pytest.mark.parametrize(
    "caller",
    [a_group_with_a_deadline, a_group_with_a_deadline_at_its_end, a_call_with_a_deadline, a_race_with_a_deadline],
)
def test_in_the_turn_of_a_deadline_and_those_after(caller, body, first):
    """The cancel comes at the point of the deadline, before or behind it, and then later and later."""

    async def main():
        for turn in range(MOST):
            loop = asyncio.get_running_loop()
            outcome: list[Any] = []

            async def watched(outcome=outcome):
                me = asyncio.current_task()
                try:
                    await caller(body)()
                except BaseException as error:
                    outcome.append(type(error))
                    raise
                finally:
                    outcome.append(me.cancelling())

            def cancel(left, outcome=outcome):
                if left:
                    loop.call_soon(cancel, left - 1)
                else:
                    outcome.append(task.cancel("mine alone"))

            at = loop.time() + 1
            if first:
                loop.call_at(at, cancel, turn)
                task = asyncio.create_task(watched())
            else:
                task = asyncio.create_task(watched())
                await asyncio.sleep(0)
                loop.call_at(at, cancel, turn)
            await asyncio.wait([task])
            while True not in outcome[:1] and not any(isinstance(part, bool) for part in outcome):
                await asyncio.sleep(0)
            requested = next(part for part in outcome if isinstance(part, bool))
            rest = [part for part in outcome if not isinstance(part, bool)]
            if not requested:
                if not task.cancelled():
                    task.exception()
                assert rest[-1] == 0, f"at turn {turn}"
                return turn
            assert rest == [asyncio.CancelledError, 1], f"at turn {turn}: {outcome}"
        raise AssertionError("it never ends")

    assert virtual_time.run(main) > 1


async def test_a_cancel_that_was_on_its_way_before_the_group_began():
    """The group's deadline comes in the turn in which the earlier cancel arrives."""

    async def caller():
        asyncio.current_task().cancel("mine alone")
        async with calloff.group(timeout=0):
            await asyncio.sleep(3600)

    for _ in range(20):
        task = asyncio.create_task(caller())
        await asyncio.wait([task])
        assert task.cancelled(), task.exception()


async def test_two_cancels_of_the_caller():
    """The second does not shorten the stop, and both are counted."""

    async def caller():
        try:
            await calloff.call(cleans_up())
        finally:
            counts.append(asyncio.current_task().cancelling())

    for verb in (caller,):
        counts: list[Any] = []
        task = asyncio.create_task(verb())
        await turns(3)
        task.cancel("one")
        await turns(2)
        task.cancel("two")
        with pytest.raises(asyncio.CancelledError, match="one"):
            await task
        assert counts == [2]


async def test_the_caller_can_tell_its_own_cancel_from_the_operations():
    told = []

    async def caller(op):
        try:
            await op
        except calloff.OperationCancelled as error:
            told.append(f"operation: {error.reason.text}")
        except asyncio.CancelledError as error:
            told.append(f"me: {error.args[0]}")

    op = calloff.start(cleans_up())
    task = asyncio.create_task(caller(op))
    await turns(2)
    op.cancel("enough")
    await task

    op = calloff.start(cleans_up())
    task = asyncio.create_task(caller(op))
    await turns(2)
    task.cancel("home time")
    await task
    assert told == ["operation: enough", "me: home time"]
    assert op.reason.kind == "parent"
    assert op.reason.text == "home time"


async def test_a_cancelled_waiter_of_an_outcome_stops_nothing():
    op = calloff.start(cleans_up())

    async def caller():
        await op.outcome()

    task = asyncio.create_task(caller())
    await turns(2)
    task.cancel()
    await asyncio.wait([task])
    assert task.cancelled()
    assert op.reason is None
    assert not op._waiters, "and leaves nothing behind"
    await op.stop()


# --- what comes in the very turn of the cancel is left where it is


async def awaited_by_asyncio(work):
    return await asyncio.wait_for(calloff.start(work), 60)


async def calls_a_caller(work):
    return await calloff.call(calloff.call(awaited(work)))


async def awaited(work):
    return await calloff.start(work)


async def awaited_by_a_task(work):
    return await asyncio.create_task(awaited(work))


WAYS = [calloff.call, awaited, awaited_by_a_task, awaited_by_asyncio, calls_a_caller]


@pytest.mark.parametrize("first", ["item", "cancel"])
@pytest.mark.parametrize("way", WAYS, ids=lambda way: way.__name__)
async def test_an_item_of_a_queue_that_comes_with_the_cancel_stays_there(way, first):
    queue: asyncio.Queue[int] = asyncio.Queue()
    got = []

    async def caller():
        got.append(await way(queue.get()))

    task = asyncio.create_task(caller())
    while not queue._getters:  # type: ignore[attr-defined]  # whether somebody waits for an item
        await asyncio.sleep(0)
    if first == "item":
        queue.put_nowait(1)
        task.cancel()
    else:
        task.cancel()
        queue.put_nowait(1)
    await asyncio.wait([task])
    assert len(got) + queue.qsize() == 1, "lost"
    assert task.cancelled() or got, task


@pytest.mark.parametrize("way", WAYS, ids=lambda way: way.__name__)
async def test_so_does_a_permit(way):
    semaphore = asyncio.Semaphore(0)
    task = asyncio.create_task(way(semaphore.acquire()))
    while not semaphore._waiters:
        await asyncio.sleep(0)
    semaphore.release()
    task.cancel()
    await asyncio.wait([task])
    assert semaphore.locked() != task.cancelled()


@pytest.mark.parametrize("by_signal", [False, True], ids=["by itself", "in a signal handler"])
async def test_a_caller_that_is_cancelled_in_the_middle_of_a_step_of_what_it_awaits(by_signal):
    """The cancel comes to the next line that waits."""
    passed: list[str] = []

    async def body():
        await asyncio.sleep(0)
        if by_signal:
            signal.raise_signal(signal.SIGUSR1)
        else:
            task.cancel("home time")
        passed.append("the rest of the step")
        await asyncio.sleep(0)
        passed.append("a further one")

    former = signal.signal(signal.SIGUSR1, lambda *_: task.cancel("home time"))
    try:
        op = calloff.start(body())
        task = asyncio.create_task(awaits_it(op))
        with pytest.raises(asyncio.CancelledError, match="home time"):
            await task
    finally:
        signal.signal(signal.SIGUSR1, former)
    assert passed == ["the rest of the step"]
    assert (op.state, op.reason.kind, op.reason.text) == ("cancelled", "parent", "home time")


async def awaits_it(op):
    return await op


async def test_in_a_long_line_of_callers_the_first_ones_hear_of_it_at_once_and_all_end(caplog):
    ops: list[Any] = []

    async def waits_for_another(further):
        ops.append(calloff.current())
        await asyncio.sleep(0)  # eager tasks would begin inside each other
        if further:
            await calloff.call(waits_for_another(further - 1), grace=60)
        else:
            await asyncio.sleep(3600)

    task = asyncio.create_task(calloff.call(waits_for_another(119), grace=60))
    while len(ops) < 120:
        await asyncio.sleep(0)
    await turns()
    task.cancel("home time")
    asked = sum(op.reason is not None for op in ops)
    assert 20 < asked < 80, "neither one alone, nor all of them while the loop stands still"
    with pytest.raises(asyncio.CancelledError, match="home time"):
        await task
    assert {(op.state, op.reason.text, op.report.rung) for op in ops} == {
        ("cancelled", "home time", calloff.Rung.ASKED)
    }
    assert not caplog.records


async def test_what_somebody_else_has_started_goes_on_when_a_caller_is_forced():
    """Asked alone it would be called off with it; but that comes only with the step in which force is raised."""

    async def refuses():
        with contextlib.suppress(asyncio.CancelledError):
            await asyncio.sleep(3600)
        await other

    other = calloff.start(asyncio.sleep(3600))
    caller = calloff.start(refuses(), grace=0.005)
    await asyncio.sleep(0)
    outcome = await caller.stop()
    assert outcome.report.rung is calloff.Rung.FORCED
    assert other.reason is None
    await other.stop()


def test_whoever_closes_the_loop_is_told_as_the_one_who_asked():
    """Also of an operation whose caller is asked just before."""

    async def main():
        op = calloff.start(asyncio.sleep(3600))
        calloff.start(awaits_it(op), detached=True)
        tasks.append(asyncio.create_task(calloff.call(awaits_another())))
        await turns()
        return calloff.operations()

    async def awaits_another():
        await calloff.call(asyncio.sleep(3600))

    tasks: list[Any] = []
    loop = asyncio.new_event_loop()
    ops = loop.run_until_complete(main())
    loop.close()
    assert [str(op.reason.kind) for op in ops] == ["shutdown"] * 4


async def _await_op():
    await calloff.start(rolls_back())


async def _call():
    await calloff.call(rolls_back())


@pytest.mark.parametrize("waits", [_await_op, _call])
async def test_what_fails_in_the_clean_up_is_the_cause_of_the_callers_cancel(waits):
    task = asyncio.create_task(waits())
    await turns()
    task.cancel()
    with pytest.raises(asyncio.CancelledError) as caught:
        await task
    assert str(caught.value.__cause__) == "the rollback failed"


@pytest.mark.usefixtures("begins_first")
@pytest.mark.parametrize("waits", [_await_op, _call])
async def test_what_fails_in_the_clean_up_is_told_with_the_limit_that_has_called_it_off(waits):
    with pytest.raises(calloff.TimedOut) as timed_out:
        async with calloff.timeout(0.01):
            await waits()
    assert timed_out.value.__cause__ is not None
    assert isinstance(timed_out.value.__cause__.__cause__, Mine)


@pytest.mark.usefixtures("begins_first")
@pytest.mark.parametrize("waits", [_await_op, _call])
async def test_what_fails_in_the_clean_up_is_raised_where_the_cancel_is_swallowed(waits):
    """As it would be if the block ran the work itself."""
    with pytest.raises(Mine) as caught:
        async with calloff.move_on_after(0.01) as scope:
            await waits()
    assert isinstance(caught.value.__context__, asyncio.CancelledError)  # which it was raised under
    assert scope.cancelled_caught
    assert asyncio.current_task().cancelling() == 0
    async with calloff.move_on_after(60):
        await asyncio.sleep(0)


@pytest.mark.usefixtures("begins_first")
async def test_what_a_cancel_was_raised_from_by_the_program_is_swallowed_with_it():
    async with calloff.move_on_after(0.01) as scope:
        try:
            await asyncio.sleep(3600)
        except asyncio.CancelledError as cancel:
            raise cancel from Mine("no concern of anybody")
    assert scope.cancelled_caught


async def test_an_error_that_goes_behind_a_cancel_with_a_cause_is_no_complaint(caplog):
    """What the caller was cancelled from stays the cause, and asyncio does not tell that nobody has seen the error."""
    cause = KeyError("why")

    async def main():
        op = calloff.start(rolls_back())
        await turns()
        waiting = op.__await__()
        next(waiting)
        cancel = asyncio.CancelledError()
        cancel.__cause__ = cause
        with contextlib.suppress(asyncio.CancelledError):
            while True:
                waiting.throw(cancel)
                await asyncio.sleep(0)
        assert cancel.__cause__ is cause

    await main()
    gc.collect()
    assert not caplog.records
