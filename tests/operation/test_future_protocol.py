"""An operation is a future to all of asyncio: what holds for a task holds for it."""

import asyncio
import contextvars
import gc
import time
import traceback
from typing import Any

import pytest

import calloff


async def value(result, turns=1):
    for _ in range(turns):
        await asyncio.sleep(0)
    return result


async def failing(error, turns=1):
    for _ in range(turns):
        await asyncio.sleep(0)
    raise error


async def waits():
    await asyncio.sleep(3600)


class Mine(Exception):
    pass


# --- its states


async def test_before_the_end():
    op = calloff.start(waits())
    assert not op.done()
    assert not op.cancelled()
    with pytest.raises(asyncio.InvalidStateError):
        op.result()
    with pytest.raises(asyncio.InvalidStateError):
        op.exception()
    assert (op.reason, op.report) == (None, None)
    assert asyncio.isfuture(op)
    assert asyncio.ensure_future(op) is op
    assert op.get_loop() is asyncio.get_running_loop()
    await op.stop()


async def test_a_value():
    op = calloff.start(value(3))
    assert await op == 3
    assert (await op, await op) == (3, 3), "awaited any number of times"
    assert op.done()
    assert not op.cancelled()
    assert op.result() == 3
    assert op.exception() is None
    assert op.state.value == "completed"
    assert await op.outcome() == calloff.Completed(3)


async def test_an_error():
    error = Mine("x")
    op = calloff.start(failing(error))
    for _ in range(2):
        with pytest.raises(Mine) as caught:
            await op
        assert caught.value is error
    with pytest.raises(Mine):
        op.result()
    assert op.exception() is error
    assert not op.cancelled()
    assert op.state.value == "failed"
    assert await op.outcome() == calloff.Failed(error)


async def test_cancelled():
    op = calloff.start(waits())
    assert op.cancel("enough") is True
    for _ in range(2):
        with pytest.raises(calloff.OperationCancelled, match="enough"):
            await op
    assert op.cancelled()
    assert op.done()
    for read in (op.result, op.exception):
        with pytest.raises(calloff.OperationCancelled, match="enough"):
            read()
    assert op.state.value == "cancelled"
    assert isinstance(await op.outcome(), calloff.Cancelled)


async def test_timed_out_is_an_error_and_not_a_cancel():
    op = calloff.start(waits(), timeout=0)
    with pytest.raises(calloff.TimedOut):
        await op
    assert not op.cancelled()
    assert isinstance(op.exception(), calloff.TimedOut)
    with pytest.raises(TimeoutError):
        op.result()
    assert op.state.value == "cancelled"
    assert isinstance(await op.outcome(), calloff.Cancelled)


async def test_only_the_body_ends_it():
    op = calloff.start(value(3))
    with pytest.raises(RuntimeError, match="ended by its body"):
        op.set_result(4)
    with pytest.raises(RuntimeError, match="ended by its body"):
        op.set_exception(ValueError())
    assert await op == 3


async def test_cancel_takes_asyncios_message_too():
    op, other = calloff.start(waits()), calloff.start(waits())
    op.cancel(msg="as asyncio says it")
    other.cancel("positional")
    assert (op.reason.text, other.reason.text) == ("as asyncio says it", "positional")
    await asyncio.wait([op, other])


async def test_the_future_protocol_of_a_cancel_of_something_done():
    op = calloff.start(value(3))
    await op
    assert op.cancel() is False
    assert await op.stop() == calloff.Completed(3)


# --- callbacks


async def test_callbacks():
    marker = contextvars.ContextVar("marker", default="outside")
    calls: list[object] = []
    op = calloff.start(value(3))
    op.add_done_callback(lambda done: calls.append((done, marker.get())))
    context = contextvars.copy_context()
    context.run(marker.set, "inside")
    op.add_done_callback(lambda done: calls.append((done, marker.get())), context=context)

    def gone(done):
        calls.append("never")

    op.add_done_callback(gone)
    op.add_done_callback(gone)
    assert op.remove_done_callback(gone) == 2
    assert op.remove_done_callback(gone) == 0
    await op
    await asyncio.sleep(0)
    assert calls == [(op, "outside"), (op, "inside")]
    op.add_done_callback(lambda done: calls.append("late"))
    assert "late" not in calls, "never called at once"
    await asyncio.sleep(0)
    assert calls[-1] == "late"


# --- asyncio's functions


async def test_wait():
    quick, slow = calloff.start(value(1)), calloff.start(waits())
    done, pending = await asyncio.wait([quick, slow], return_when=asyncio.FIRST_COMPLETED)
    assert (done, pending) == ({quick}, {slow})
    slow.cancel()
    done, pending = await asyncio.wait([quick, slow])
    assert (done, pending) == ({quick, slow}, set())


async def test_gather():
    assert await asyncio.gather(calloff.start(value(1)), calloff.start(value(2, turns=5)), value(3)) == [1, 2, 3]


async def test_gather_with_an_error_leaves_the_others_running():
    slow = calloff.start(waits())
    with pytest.raises(Mine):
        await asyncio.gather(calloff.start(failing(Mine())), slow)
    assert not slow.done()
    await slow.stop()


async def test_gather_of_a_cancelled_operation():
    op = calloff.start(waits(), name="called-off")
    both = asyncio.gather(op, value(2))
    await asyncio.sleep(0)
    op.cancel("enough")
    with pytest.raises(asyncio.CancelledError) as caught:
        await both
    assert isinstance(caught.value, calloff.OperationCancelled)
    assert caught.value.reason.text == "enough"

    op, late = calloff.start(waits()), calloff.start(waits(), timeout=0)
    op.cancel("again")
    found: Any = await asyncio.gather(op, late, value(3), return_exceptions=True)
    first, second, third = found
    assert isinstance(first, asyncio.CancelledError)  # gather makes one of its own, from the words
    assert first.args == ("again",)
    assert isinstance(second, calloff.TimedOut)
    assert third == 3


async def test_a_gather_that_is_cancelled_calls_off_its_operations():
    ops = [calloff.start(waits()) for _ in range(3)]
    gathering = asyncio.gather(*ops)
    await asyncio.sleep(0)
    assert gathering.cancel()
    with pytest.raises(asyncio.CancelledError):
        await gathering
    assert all(op.cancelled() for op in ops)


async def test_the_own_cancel_of_who_gathers_operations_is_a_plain_one():
    def gathering():
        return asyncio.gather(*(calloff.start(waits()) for _ in range(2)))

    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.001):
            await gathering()
    assert asyncio.current_task().cancelling() == 0

    with pytest.raises(TimeoutError):
        await asyncio.wait_for(gathering(), 0.001)

    with pytest.raises(ExceptionGroup) as caught:
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(failing(Mine()))
            await gathering()
    assert [type(error) for error in caught.value.exceptions] == [Mine]


@pytest.mark.parametrize("turns", [0, 1], ids=["on its way", "just ended"])
async def test_so_it_is_where_somebody_else_has_called_off_an_operation_before(turns):
    async def caller():
        await gathering

    op = calloff.start(waits())
    gathering = asyncio.gather(op, calloff.start(waits()))
    task = asyncio.create_task(caller())
    await value(None)
    op.cancel("enough")
    await value(None, turns)
    assert (op.done(), gathering.done()) == (bool(turns), False)
    task.cancel()
    with pytest.raises(asyncio.CancelledError) as caught:
        await task
    assert type(caught.value) is asyncio.CancelledError
    with pytest.raises(calloff.OperationCancelled, match="enough"):
        await op


async def test_wait_for():
    assert await asyncio.wait_for(calloff.start(value(3)), 10) == 3
    op = calloff.start(waits())
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(op, 0.01)
    assert op.cancelled()
    with pytest.raises(Mine):
        await asyncio.wait_for(calloff.start(failing(Mine())), 10)
    op = calloff.start(waits())
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(op, 0)
    assert op.cancelled()


async def test_asyncio_timeout_around_await():
    op = calloff.start(waits())
    with pytest.raises(TimeoutError) as caught:
        async with asyncio.timeout(0.01):
            await op
    assert not isinstance(caught.value, calloff.TimedOut)
    assert op.cancelled()
    assert asyncio.current_task().cancelling() == 0


async def test_as_completed():
    ops = [calloff.start(value(n, turns=3 * n + 1)) for n in (2, 0, 1)]
    assert [await next_one for next_one in asyncio.as_completed(ops)] == [0, 1, 2]


async def test_asyncio_shield():
    op = calloff.start(value(3, turns=5))

    async def shielded():
        return await asyncio.shield(op)

    caller = asyncio.create_task(shielded())
    await asyncio.sleep(0)
    caller.cancel()
    with pytest.raises(asyncio.CancelledError):
        await caller
    assert not op.done()
    assert await op == 3

    op = calloff.start(waits())
    inner = asyncio.shield(op)
    await asyncio.sleep(0)
    op.cancel("seen through the shield")
    with pytest.raises(asyncio.CancelledError):  # the outer future knows no more than that
        await inner


async def test_in_an_asyncio_task_group():
    async with asyncio.TaskGroup() as tasks:
        first = tasks.create_task(calloff.call(value(1)))
        second = tasks.create_task(calloff.call(value(2)))
    assert (first.result(), second.result()) == (1, 2)
    op = calloff.start(waits())

    async def waiting():
        await op

    with pytest.raises(ExceptionGroup):
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(waiting())
            tasks.create_task(failing(Mine(), turns=3))
    assert op.cancelled(), "the group called off the one who awaited it"


async def test_many_can_await_one():
    op = calloff.start(value(3, turns=5))
    assert await asyncio.gather(*(asyncio.shield(op) for _ in range(10)), op, op.outcome()) == [3] * 11 + [
        calloff.Completed(3)
    ]

    async def waiting():
        return await op

    op = calloff.start(value(4, turns=5))
    assert await asyncio.gather(*(waiting() for _ in range(10))) == [4] * 10


def test_run_until_complete_takes_it():
    loop = asyncio.new_event_loop()
    try:
        ops = []

        async def begin():
            ops.append(calloff.start(value(3)))

        loop.run_until_complete(begin())
        assert loop.run_until_complete(ops[0]) == 3
    finally:
        loop.close()


# --- what nobody looks at


async def test_an_error_that_nobody_fetched_is_told_as_asyncio_tells_it():
    told = []
    asyncio.get_running_loop().set_exception_handler(lambda loop, context: told.append(context))
    op = calloff.start(failing(Mine("unseen")))
    await asyncio.wait([op])
    ref = op.id
    del op
    gc.collect()
    assert len(told) == 1
    assert "never retrieved" in told[0]["message"]
    assert isinstance(told[0]["exception"], Mine)
    return ref


@pytest.mark.parametrize("look", ["await", "outcome", "exception", "stop"])
async def test_an_ending_that_somebody_looked_at_is_not_complained_about(look):
    told = []
    asyncio.get_running_loop().set_exception_handler(lambda loop, context: told.append(context))
    for work in (failing(Mine()), waits()):
        op = calloff.start(work, timeout=0.01)
        await asyncio.wait([op])
        match look:
            case "await":
                with pytest.raises((Mine, calloff.TimedOut)):
                    await op
            case "outcome":
                await op.outcome()
            case "exception":
                op.exception()
            case "stop":
                await op.stop()
        del op
    gc.collect()
    assert told == []


async def test_a_cancelled_operation_that_nobody_awaits_is_not_complained_about():
    told = []
    asyncio.get_running_loop().set_exception_handler(lambda loop, context: told.append(context))
    op = calloff.start(waits())
    await asyncio.sleep(0)
    op.cancel()
    while not op.done():
        await asyncio.sleep(0)
    del op
    gc.collect()
    assert told == []


async def test_its_repr_names_it():
    op = calloff.start(waits(), name="call-api")
    assert repr(op) == f"<Operation {op.id} 'call-api' {op.state}>"
    await op.stop()
    assert repr(op) == f"<Operation {op.id} 'call-api' cancelled>"


async def _fail(after: float) -> None:
    await asyncio.sleep(after)
    raise LookupError("of the body")


def _fail_in_a_thread(after: float) -> None:
    time.sleep(after)
    raise LookupError("of the body")


@pytest.mark.parametrize("way", ["start", "call", "after its end"])
@pytest.mark.parametrize("place", ["task", "thread"])
async def test_the_traceback_of_an_awaited_error_shows_the_line_that_raised_it(place: str, way: str) -> None:
    work = _fail(0.01) if place == "task" else calloff.thread(_fail_in_a_thread, 0.01)
    with pytest.raises(LookupError) as caught:
        if way == "call":
            await calloff.call(work)
        op = calloff.start(work)
        if way == "after its end":
            await op.outcome()
        await op
    lines = traceback.extract_tb(caught.value.__traceback__)
    assert lines[-1].line == 'raise LookupError("of the body")'


@pytest.mark.parametrize("ended", [False, True], ids=["still runs", "has just ended"])
async def test_what_is_thrown_into_who_awaits_arrives_as_it_is(ended: bool) -> None:
    """Whoever steps a coroutine may throw into it or close it where it awaits an operation."""

    async def awaiting() -> Any:
        return await op

    op = calloff.start(value(3, 2 if ended else 10**9))
    thrown, closed = awaiting(), awaiting()
    for coroutine in (thrown, closed):
        assert coroutine.send(None) is not None
    while ended and not op.done():
        await asyncio.sleep(0)
    error = Mine("thrown")
    with pytest.raises(Mine) as caught:
        thrown.throw(error)
    assert caught.value is error
    closed.close()
    await op.stop()
