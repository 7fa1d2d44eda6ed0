"""From the start to the ending: references, states, ends that nobody asked for."""

import asyncio
import gc
import logging
import re
import threading
import weakref
from typing import Any, cast

import pytest

import calloff


async def waits():
    await asyncio.sleep(3600)


async def waits_for_good():
    await asyncio.get_running_loop().create_future()  # asyncio's timers would hold on to its context


async def value(result):
    return result


# --- being there


async def test_a_running_operation_is_never_collected():
    """Nothing but calloff holds it: what it waits for is held by itself alone."""
    reached = []

    async def body():
        future = asyncio.get_running_loop().create_future()
        reached.append(weakref.ref(future))
        await future
        return "done"

    ref = weakref.ref(calloff.start(body(), name="held"))
    for _ in range(3):
        await asyncio.sleep(0)
        gc.collect()
    assert ref() is not None
    assert ref() in calloff.operations()
    reached[0]().set_result(None)
    assert await cast(Any, ref()) == "done"
    assert ref() not in calloff.operations()
    await asyncio.sleep(0)
    gc.collect()
    assert ref() is None, "and an ended one is"


async def test_an_ended_operation_needs_no_garbage_collector():
    gc.collect()
    gc.disable()
    try:
        for work in (value(1), waits_for_good()):
            op = calloff.start(work)
            await asyncio.sleep(0)
            await op.stop()
            await asyncio.sleep(0)
            ref = weakref.ref(op)
            del op, work
            for _ in range(3):
                await asyncio.sleep(0)
            assert ref() is None
    finally:
        gc.enable()


async def test_ids_are_short_unique_and_stable():
    ops = [calloff.start(value(n)) for n in range(50)]
    ids = [op.id for op in ops]
    assert len(set(ids)) == 50
    await asyncio.wait(ops)
    assert [op.id for op in ops] == ids
    assert all(re.fullmatch(r"\w{1,12}", one) for one in ids)
    assert ops[0].ref == (ids[0], "value")
    assert ops[0].place == "task"


async def test_operations_are_listed_oldest_first_until_they_end():
    ops = [calloff.start(waits()) for _ in range(3)]
    assert [op for op in calloff.operations() if op in ops] == ops
    await ops[1].stop()
    assert [op for op in calloff.operations() if op in ops] == [ops[0], ops[2]]
    await asyncio.gather(ops[0].stop(), ops[2].stop())
    assert not set(calloff.operations()) & set(ops)


async def test_states(loop_kind):
    go_on = asyncio.Event()

    async def body():
        try:
            await asyncio.sleep(3600)
        finally:
            await go_on.wait()

    op = calloff.start(body())
    assert op.state.value == ("running" if loop_kind == "eager" else "pending")
    await asyncio.sleep(0)
    assert op.state.value == "running"
    op.cancel()
    assert op.state.value == "stopping"
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    assert op.state.value == "stopping"
    assert op.report.ended_at >= op.report.requested_at, "the report grows until the end"
    go_on.set()
    await asyncio.wait([op])
    assert op.state.value == "cancelled"


# --- before the first step


@pytest.mark.filterwarnings("error")
async def test_called_off_before_its_first_step_the_body_never_runs(loop_kind, recwarn):
    steps = []

    async def body():
        steps.append("ran")
        await asyncio.sleep(3600)

    op = calloff.start(body())
    op.cancel("never mind")
    with pytest.raises(calloff.OperationCancelled, match="never mind"):
        await op
    if loop_kind == "eager":
        assert (steps, op.report.started) == (["ran"], True)
    else:
        assert (steps, op.report.started) == ([], False)
        assert op.report.where == ()
        assert op.report.rung is calloff.Rung.ASKED
    assert op.report.refusals == 0
    gc.collect()
    assert not [warning for warning in recwarn if "never awaited" in str(warning.message)]


async def test_called_off_by_force_before_its_first_step(loop_kind):
    steps = []

    async def body():
        steps.append("ran")
        await asyncio.sleep(3600)

    op = calloff.start(body())
    outcome = await op.stop(grace=0)
    assert isinstance(outcome, calloff.Cancelled)
    assert outcome.report.started is (loop_kind == "eager")
    assert bool(steps) is (loop_kind == "eager")


# --- ends that nobody asked for


async def test_a_body_that_raises_cancelled_error_itself():
    async def body():
        raise asyncio.CancelledError("mine")

    op = calloff.start(body())
    with pytest.raises(calloff.OperationCancelled, match=r"itself: mine: at body \(.*: raise asyncio\.Cancelled"):
        await op
    assert op.cancelled()
    assert op.reason.kind == "external"
    assert op.report.rung is calloff.Rung.ASKED
    assert [frame.function for frame in op.report.where] == ["body"]


class _Named(asyncio.CancelledError):
    args = "lost"  # type: ignore[assignment]


class _Raising(asyncio.CancelledError):
    @property
    def args(self):  # type: ignore[override]
        raise ValueError

    __cause__ = __traceback__ = __context__ = args


class _Opaque(asyncio.CancelledError):
    def __getattribute__(self, name):
        raise ValueError(name)


@pytest.mark.parametrize("error", [_Named, _Raising, _Opaque])
@pytest.mark.parametrize("place", ["task", "thread", "group"])
async def test_an_error_with_attributes_of_its_own_ends_it_all_the_same(error, place):
    def fails():
        raise error("mine")

    async def body():
        fails()

    async def limited():
        async with calloff.group(timeout=0.01):
            try:
                await waits()
            except asyncio.CancelledError:
                fails()

    if place == "group":
        assert isinstance((await calloff.start(limited()).outcome()).error, calloff.TimedOut)
        return
    outcome = await calloff.start(body() if place == "task" else calloff.thread(fails)).outcome()
    assert isinstance(outcome, calloff.Cancelled)
    assert outcome.reason.kind == "external"
    assert outcome.report.where[-1].function == "fails"


@pytest.mark.parametrize("place", [calloff.thread, calloff.process])
async def test_a_function_that_raises_cancelled_error_itself(place):
    outcome = await calloff.start(place(_raises_cancel)).outcome()
    assert isinstance(outcome, calloff.Cancelled)
    assert outcome.reason.text.endswith("raised CancelledError itself: mine")
    if place is calloff.thread:
        assert [frame.function for frame in outcome.report.where] == ["_raises_cancel"]


def _raises_cancel():
    raise asyncio.CancelledError("mine")


async def test_a_body_whose_inner_task_was_cancelled():
    inner = []

    async def body():
        inner.append(asyncio.create_task(waits()))
        await inner[0]

    op = calloff.start(body())
    await asyncio.sleep(0)
    inner[0].cancel()
    outcome = await op.outcome()
    assert isinstance(outcome, calloff.Cancelled)
    assert outcome.reason.kind == "external"
    assert outcome.report.where[0].function == "body"


async def test_a_native_cancel_of_its_task_from_outside():
    op = calloff.start(waits(), name="shot at")
    await asyncio.sleep(0)
    (task,) = [task for task in asyncio.all_tasks() if "waits" in repr(task)]
    task.cancel("from outside")
    with pytest.raises(calloff.OperationCancelled, match=r"external.*: from outside: at waits \("):
        await op
    assert op.reason.kind == "external"
    assert op.report.started is True


async def test_a_native_cancel_that_is_swallowed_stops_nothing():
    async def body():
        try:
            await asyncio.sleep(3600)
        except asyncio.CancelledError:
            pass
        await asyncio.sleep(0)
        return 3

    op = calloff.start(body())
    await asyncio.sleep(0)
    op.body.task.cancel()
    assert await op.outcome() == calloff.Completed(3, None)


async def test_a_native_cancel_after_the_request_belongs_to_the_stop():
    op = calloff.start(waits())
    await asyncio.sleep(0)
    op.cancel("mine")
    op.body.task.cancel("theirs")
    outcome = await op.outcome()
    assert (outcome.reason.kind, outcome.reason.text) == ("requested", "mine")


@pytest.mark.parametrize("error", [KeyboardInterrupt, SystemExit])
def test_what_ends_programs_ends_the_program(loop_kind, error, caplog):
    """As with a plain task: the loop is left by it, and the operation knows what happened."""
    from conftest import loop_factory

    ops = []

    async def body():
        await asyncio.sleep(0)
        raise error(3)

    async def main():
        ops.append(calloff.start(body()))
        await asyncio.sleep(3600)

    with pytest.raises(error), asyncio.Runner(loop_factory=loop_factory(loop_kind)) as runner:
        runner.run(main())
    (op,) = ops
    assert isinstance(op.exception(), error)
    assert op.state.value == "failed"
    del op, ops[:]
    gc.collect()
    assert "never retrieved" not in caplog.text


async def test_errors_that_are_no_exceptions_fail_the_operation():
    class Odd(BaseException):
        pass

    async def body():
        raise Odd("odd")

    op = calloff.start(body())
    with pytest.raises(Odd):
        await op
    assert isinstance(await op.outcome(), calloff.Failed)


async def test_stop_iteration_can_not_escape_as_a_value():
    async def body():
        raise StopIteration(3)

    with pytest.raises(RuntimeError):
        await calloff.call(body())


# --- calling it off


async def test_cancel_from_another_thread():
    op = calloff.start(waits())
    await asyncio.sleep(0)
    answers = []
    thread = threading.Thread(target=lambda: answers.append(op.cancel("from afar", grace=1)))
    thread.start()
    with pytest.raises(calloff.OperationCancelled, match="from afar"):
        await op
    thread.join()
    assert answers == [True]
    assert op.cancel() is False


async def test_the_first_request_gives_the_reason():
    op = calloff.start(waits())
    assert op.cancel("first")
    assert op.cancel("second")
    assert (await op.stop("third")).reason.text == "first"


async def test_who_asked_is_told():
    op = calloff.start(waits(), detached=True)

    async def boss():
        op.cancel("enough")

    await calloff.call(boss(), name="boss")
    outcome = await op.outcome()
    assert "'boss'" in (outcome.reason.by or "")
    op = calloff.start(waits())
    op.cancel()
    assert (op.reason.by, op.reason.text) == (None, "")
    assert op.reason.at == op.report.requested_at
    await op.outcome()


async def test_a_reason_can_be_handed_on():
    first, second = calloff.start(waits()), calloff.start(waits())
    first.cancel("disk full")
    second.cancel(first.reason)
    assert second.reason.text == "disk full"
    assert second.reason.kind == first.reason.kind
    await asyncio.wait([first, second])


@pytest.mark.parametrize("bad", [-1, float("nan"), True, "1"])
async def test_a_wrong_grace_stops_nothing(bad):
    op = calloff.start(waits())
    await asyncio.sleep(0)
    with pytest.raises((TypeError, ValueError), match="^grace must be"):
        op.cancel(grace=bad)
    with pytest.raises((TypeError, ValueError), match="^grace must be"):
        await op.stop(grace=bad)
    assert op.reason is None
    await op.stop()


async def test_it_can_not_wait_for_itself():
    async def body():
        me: Any = calloff.current()
        for wait in (me.outcome, me.stop, me.watch().__anext__, lambda: me):
            with pytest.raises(RuntimeError, match="^'body' can't wait for its own end$"):
                await wait()
        return "still here"

    op = calloff.start(body())
    assert await op == "still here"


async def test_a_task_that_it_made_can_wait_for_it():
    seen = []

    async def onlooker(op):
        seen.append(await op.outcome())

    async def body():
        looking = asyncio.create_task(onlooker(calloff.current()))
        await asyncio.sleep(0)
        return looking

    looking = await calloff.call(body())
    await looking
    assert seen == [calloff.Completed(looking)]


async def test_stop_inside_itself_asks_for_nothing():
    async def body():
        with pytest.raises(RuntimeError):
            await calloff.current().stop()
        return calloff.current().reason

    assert await calloff.call(body()) is None


async def test_it_can_call_itself_off():
    async def body():
        calloff.current().cancel("I have enough")
        await asyncio.sleep(3600)

    op = calloff.start(body(), name="self-made")
    with pytest.raises(calloff.OperationCancelled, match="I have enough"):
        await op
    assert "'self-made'" in (op.reason.by or "")


# --- values that come all the same


async def test_a_late_value_is_kept_and_the_refusal_told():
    async def body():
        try:
            await asyncio.sleep(3600)
        except asyncio.CancelledError:
            return "all the same"

    op = calloff.start(body())
    await asyncio.sleep(0)
    outcome = await op.stop("enough")
    assert outcome == calloff.Completed("all the same", op.report)
    assert outcome.report.refusals == 1
    assert outcome.report.reason.text == "enough"
    assert await op == "all the same"
    assert op.state.value == "completed"


async def test_an_error_after_the_request_is_its_own():
    async def body():
        try:
            await asyncio.sleep(3600)
        finally:
            raise ValueError("clean-up failed")

    op = calloff.start(body())
    await asyncio.sleep(0)
    outcome = await op.stop("enough")
    assert isinstance(outcome, calloff.Failed)
    assert outcome.report.reason.text == "enough"
    assert isinstance(outcome.error.__context__, asyncio.CancelledError)
    with pytest.raises(ValueError, match="clean-up failed"):
        await op


async def test_a_value_in_the_tick_of_the_request_refused_nothing():
    """The request never reached the body."""
    future = asyncio.get_running_loop().create_future()

    async def body():
        await future
        calloff.current().cancel()
        return 3

    op = calloff.start(body())
    await asyncio.sleep(0)
    future.set_result(None)
    outcome = await op.outcome()
    assert outcome.value == 3
    assert outcome.report.refusals == 0


# --- abandoned


async def never_ends(release):
    while not release.is_set():
        try:
            await release.wait()
        except BaseException:  # noqa: B036
            pass
    return "late"


async def test_abandoned_it_stays_listed_with_its_line_until_it_ends(caplog, short_last):
    release = asyncio.Event()
    op = calloff.start(never_ends(release), name="stubborn")
    await asyncio.sleep(0)
    outcome = await op.stop("enough", grace=0.05)
    assert isinstance(outcome, calloff.Abandoned)
    assert op.state.value == "abandoned"
    assert op in calloff.operations()
    assert op.where()[0].source == "await release.wait()"
    assert outcome.report.stuck_at[0].source == "await release.wait()"
    assert outcome.report.rung is calloff.Rung.ABANDONED
    assert f"operation {op.id} 'stubborn' could not be stopped and was abandoned: stuck at never_ends (" in caplog.text
    caplog.clear()
    report = op.report

    release.set()
    await asyncio.sleep(0)
    while op in calloff.operations():
        await asyncio.sleep(0)
    (record,) = [record for record in caplog.records if record.name == "calloff"]
    assert record.levelno == logging.WARNING
    assert re.fullmatch(
        rf"operation {op.id} 'stubborn', abandoned [\d.e-]+ s ago, ended: it returned 'late'", record.getMessage()
    )
    assert op.report == report, "an ending is final"
    assert op.where() == ()
    assert await op.outcome() == outcome
    with pytest.raises(calloff.OperationCancelled, match="could not be stopped: stuck at never_ends"):
        await op


async def test_an_abandoned_one_that_raises_in_the_end(caplog, short_last):
    release = asyncio.Event()

    async def body():
        await never_ends(release)
        raise ValueError("after all")

    op = calloff.start(body())
    await asyncio.sleep(0)
    await op.stop(grace=0)
    release.set()
    while op in calloff.operations():
        await asyncio.sleep(0)
    assert "ended: it raised ValueError('after all')" in caplog.text


def test_an_abandoned_one_does_not_keep_the_loop_from_closing(arun, short_last):
    """`asyncio.run` cancels what is left and waits for it: the body is let go of then."""

    async def main():
        release = asyncio.Event()
        ops = [calloff.start(never_ends(release)) for _ in range(3)]

        async def answers_with_an_error():
            try:
                await never_ends(release)
            except GeneratorExit:
                raise ValueError("to the very end") from None

        ops.append(calloff.start(answers_with_an_error()))
        await asyncio.sleep(0)
        outcomes = await asyncio.gather(*(op.stop(grace=0.02) for op in ops))
        assert {type(outcome) for outcome in outcomes} == {calloff.Abandoned}
        return ops

    ops = arun(main)
    assert not set(ops) & set(calloff.operations())


async def test_a_body_that_answers_its_burial_with_an_error_is_not_lost(caplog, short_last):
    async def body():
        while True:
            try:
                await asyncio.sleep(3600)
            except GeneratorExit:
                raise ValueError("so late") from None
            except BaseException:  # noqa: B036
                pass

    op = calloff.start(body())
    await asyncio.sleep(0)
    await op.stop(grace=0.02)
    task: Any = op.body.task
    task.cancel()
    await asyncio.wait([task])
    assert op not in calloff.operations()
    assert "ended: it raised ValueError('so late')" in caplog.text
    assert task.exception() is None
