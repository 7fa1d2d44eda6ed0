"""A coroutine as a body: the driver between it and its task, and what it tells of the coroutine."""

import asyncio
import gc
import io
import types
from typing import Any

import pytest
from operation import virtual_time
from places.own_classes import OwnCoroutine

import calloff
from calloff import Rung
from calloff._places.task import TaskBody, drive
from calloff._places.task.stack import is_handling, stack_of

pytestmark = pytest.mark.usefixtures("short_last")


async def waits():
    await asyncio.get_running_loop().create_future()


# --- its task


async def test_a_loop_that_makes_tasks_its_own_way_makes_those_of_operations(monkeypatch):
    """One whose `create_task` was replaced, by a tracer, say, which may happen at any time."""
    loop = asyncio.get_running_loop()
    before, made = loop.create_task, []

    def create_task(coro, **options):
        made.append(coro)
        return before(coro, **options)

    monkeypatch.setattr(loop, "create_task", create_task)
    op = calloff.start(waits())
    assert made == [op.body]
    await op.stop()


# --- passing on


async def test_values_and_errors_pass_both_ways():
    """What the body awaits reaches the loop, and what comes back reaches the body, as without a driver."""
    loop = asyncio.get_running_loop()
    good, bad = loop.create_future(), loop.create_future()

    async def body():
        value = await good
        with pytest.raises(ZeroDivisionError):
            await bad
        async with asyncio.Lock():
            await asyncio.sleep(0)
        return value

    op = calloff.start(body())
    await asyncio.sleep(0)
    good.set_result(3)
    bad.set_exception(ZeroDivisionError())
    assert await op == 3


async def test_generator_exit_of_what_it_awaits_can_be_caught_and_is_its_error_otherwise():
    def failing():
        loop = asyncio.get_running_loop()
        future = loop.create_future()
        loop.call_soon(future.set_exception, GeneratorExit("mine"))
        return future

    async def catches():
        try:
            await failing()
        except GeneratorExit:
            await asyncio.sleep(0)
        return "on"

    async def returns():
        try:
            await failing()
        except GeneratorExit:
            return "at once"

    async def fails():
        await failing()

    assert await calloff.call(catches()) == "on"
    assert await calloff.call(returns()) == "at once"
    outcome = await calloff.start(fails()).outcome()
    assert isinstance(outcome.error, GeneratorExit)


async def test_a_body_that_awaits_something_wrong_fails():
    @types.coroutine
    def wrong():
        yield "no future"

    async def body():
        await wrong()

    with pytest.raises(RuntimeError, match="Task got bad yield: 'no future'"):
        await calloff.call(body())


async def test_an_old_generator_coroutine_and_an_awaitable_are_work_too():
    @types.coroutine
    def old():
        yield
        return 3

    class Mine:
        def __await__(self):
            yield
            return 4

    assert await calloff.call(old()) == 3
    assert await calloff.call(Mine()) == 4
    future = asyncio.get_running_loop().create_future()
    future.set_result(5)
    assert await calloff.call(future) == 5
    assert await calloff.call(asyncio.create_task(asyncio.sleep(0, 6))) == 6


async def test_a_coroutine_of_somebodys_own_class():
    op = calloff.start(OwnCoroutine(asyncio.sleep(0, "value")))
    assert op.where() is not None
    assert await op == "value"
    op = calloff.start(OwnCoroutine(asyncio.sleep(0, "value")))
    assert isinstance(await op.stop(), (calloff.Cancelled, calloff.Completed))


def test_it_runs_in_asyncios_debug_mode():
    async def main():
        async def body():
            await asyncio.sleep(0)
            return 3

        assert await calloff.call(body()) == 3
        op = calloff.start(waits())
        await asyncio.sleep(0)
        await op.stop()

    asyncio.run(main(), debug=True)


async def test_asyncios_tools_see_the_coroutine():
    """Names and lines in reprs and stack prints are those of the body, not of the driver."""
    seen = []

    async def named_body():
        task = asyncio.current_task()
        seen.append((repr(task), asyncio.iscoroutine(task.get_coro())))
        await waits()

    op = calloff.start(named_body())
    await asyncio.sleep(0)
    task = op.body.task
    assert "named_body()" in repr(task)
    assert seen == [(seen[0][0], True)]
    text = io.StringIO()
    task.print_stack(file=text)
    assert "named_body" in text.getvalue()
    assert task.get_stack()[0].f_code.co_name == "named_body"
    await op.stop()


async def test_it_forwards_what_it_does_not_know():
    coro: Any = waits()
    body: Any = drive(coro, TaskBody, coro.__qualname__)
    assert body.cr_code is coro.cr_code
    with pytest.raises(AttributeError):
        body.nothing_like_it  # noqa: B018
    with pytest.raises(TypeError):
        body.send(3)
    body.close()
    assert coro.cr_frame is None


async def test_context_variables_are_the_bodys_own():
    from contextvars import ContextVar

    variable = ContextVar("variable", default="outside")

    async def body():
        assert variable.get() == "outside"
        variable.set("inside")
        await asyncio.sleep(0)
        return variable.get()

    assert await calloff.call(body()) == "inside"
    assert variable.get() == "outside"


# --- force


async def test_force_comes_as_stop_forced_in_place_of_cancelled_error_and_clean_up_may_await():
    seen: list[object] = []

    async def body():
        try:
            while True:
                try:
                    await waits()
                except asyncio.CancelledError as error:
                    seen.append(type(error))
        except BaseException as error:
            seen.append(type(error))
            raise
        finally:
            for _ in range(3):
                await asyncio.sleep(0.005)
            seen.append("cleaned")

    op = calloff.start(body(), grace=0.05)
    await asyncio.sleep(0)
    outcome = await op.stop("enough")
    assert isinstance(outcome, calloff.Cancelled)
    assert outcome.report.rung is Rung.FORCED
    assert seen[-2:] == [calloff.StopForced, "cleaned"]
    assert set(seen[:-2]) == {asyncio.CancelledError}
    assert len(seen) - 2 == outcome.report.refusals


async def test_force_reaches_a_body_that_cleans_up():
    seen = []

    async def body():
        try:
            await waits()
        finally:
            try:
                await waits()
            except BaseException as error:
                seen.append(type(error))
                raise

    op = calloff.start(body(), grace=0.02)
    await asyncio.sleep(0)
    outcome = await op.stop()
    assert seen == [calloff.StopForced]
    assert (outcome.report.rung, outcome.report.refusals) == (Rung.FORCED, 0)


async def test_a_forced_body_may_still_return_or_fail():
    async def ends(how):
        try:
            while True:
                try:
                    await waits()
                except asyncio.CancelledError:
                    pass
        except calloff.StopForced:
            if how == "return":
                return "a value after all"
            raise ValueError("an error after all") from None

    op = calloff.start(ends("return"), grace=0.02)
    await asyncio.sleep(0)
    outcome = await op.stop()
    assert outcome.value == "a value after all"
    assert outcome.report.rung is Rung.FORCED
    op = calloff.start(ends("raise"), grace=0.02)
    await asyncio.sleep(0)
    assert isinstance((await op.stop()).error, ValueError)


async def test_force_goes_through_inner_operations_groups_and_timeouts():
    """Nothing of calloff's own, nor of asyncio's, mistakes force for something it may swallow."""

    async def swallows():
        while True:
            try:
                await waits()
            except asyncio.CancelledError:
                pass

    async def body():
        async with calloff.group(grace=0.05) as g:
            g.start(waits())
            async with asyncio.timeout(60):
                await swallows()

    op = calloff.start(body(), grace=0.05)
    for _ in range(3):
        await asyncio.sleep(0)
    outcome = await op.stop()
    assert outcome.report.rung is Rung.FORCED
    assert isinstance(outcome, calloff.Cancelled)


def test_a_late_loop_does_not_turn_an_asking_into_an_insisting():
    """The pause before the second asking is over before the first has arrived; timers may run first."""

    async def main():
        async def body():
            try:
                await waits()
            finally:
                await asyncio.sleep(1)

        op = calloff.start(body())
        await asyncio.sleep(0)
        op.cancel()
        virtual_time.block(0.05)
        op.timer_due(asyncio.get_running_loop().time())  # as uvloop does
        outcome = await op.outcome()
        assert (outcome.report.rung, outcome.report.refusals) == (Rung.ASKED, 0)

    virtual_time.run(main)


async def test_a_request_that_can_not_arrive_is_no_refusal():
    """What the body awaits does not pass a cancel on: the body has heard nothing until force, and refused nothing."""

    class Deaf(asyncio.Future):
        def cancel(self, msg=None):
            return True

    deaf = Deaf()

    async def body():
        await deaf

    op = calloff.start(body(), grace=0.05)
    await asyncio.sleep(0)
    outcome = await op.stop()
    assert isinstance(outcome, calloff.Cancelled)
    assert outcome.report.rung is Rung.FORCED
    assert outcome.report.refusals == 0
    assert outcome.report.where[0].source == "await deaf"
    assert not deaf.done()


# --- what came before the request does not count


@pytest.mark.parametrize("before", ["asyncio.timeout", "group", "native"])
async def test_an_earlier_cancel_inside_the_body_is_not_taken_for_the_request(before):
    """It was cancelled before, for reasons of its own: line, refusals and rung are those of the request."""

    async def body():
        match before:
            case "asyncio.timeout":
                try:
                    async with asyncio.timeout(0.001):
                        await waits()
                except TimeoutError:
                    pass
            case "group":
                async with calloff.group() as g:
                    asyncio.get_running_loop().call_soon(g.cancel)
                    await waits()
            case "native":
                asyncio.current_task().cancel()
                try:
                    await waits()
                except asyncio.CancelledError:
                    pass
        ready.set_result(None)
        await waits()  # here

    ready = asyncio.get_running_loop().create_future()
    op = calloff.start(body())
    await ready
    outcome = await op.stop()
    assert outcome.report.where[0].source == "await waits()  # here"
    assert "body (" in str(outcome.report.where[0])
    assert (outcome.report.rung, outcome.report.refusals) == (Rung.ASKED, 0)


async def test_an_earlier_cancel_is_no_refusal_of_a_request_that_never_arrived():
    async def body():
        try:
            async with asyncio.timeout(0.001):
                await waits()
        except TimeoutError:
            pass
        calloff.current().cancel()
        return 3

    outcome = await calloff.start(body()).outcome()
    assert outcome.value == 3
    assert outcome.report.refusals == 0


# --- the first, eager step


async def test_a_request_in_the_first_step_meets_the_right_task():
    """An eager task runs before anybody knows it; another eager task inside it is somebody else."""
    seen = []

    async def inner():
        calloff.current().cancel("from an inner task")
        seen.append("inner goes on")
        await asyncio.sleep(0)
        seen.append("inner ended")

    async def body():
        task = asyncio.create_task(inner())
        try:
            await waits()
        finally:
            await asyncio.wait([task])

    op = calloff.start(body())
    outcome = await op.outcome()
    assert isinstance(outcome, calloff.Cancelled)
    assert outcome.report.rung is Rung.ASKED
    assert seen == ["inner goes on", "inner ended"]


async def test_a_body_that_ends_in_its_first_step():
    async def value():
        return 3

    async def fails():
        raise ValueError

    async def is_off():
        raise asyncio.CancelledError

    assert await calloff.start(value()).outcome() == calloff.Completed(3)
    assert isinstance((await calloff.start(fails()).outcome()).error, ValueError)
    assert isinstance(await calloff.start(is_off()).outcome(), calloff.Cancelled)


# --- clean-up or refusal?


async def _suspended(body):
    """Cancel a coroutine by hand, and ask whether it is still busy with that."""
    task = asyncio.create_task(body())
    for _ in range(2):
        await asyncio.sleep(0)
    coro = task.get_coro()
    task.cancel()
    for _ in range(3):
        await asyncio.sleep(0)
    answer = is_handling(coro, asyncio.CancelledError)
    for _ in range(5):
        task.cancel()
        await asyncio.sleep(0)
        await asyncio.sleep(0)
    return answer


class Closes:
    async def __aenter__(self):
        return self

    async def __aexit__(self, *_):
        await waits()


async def in_finally():
    try:
        await waits()
    finally:
        await waits()


async def in_except():
    try:
        await waits()
    except asyncio.CancelledError:
        await waits()
        raise


async def in_aexit():
    async with Closes():
        await waits()


async def deeper():
    try:
        await in_finally()
    finally:
        pass


async def in_a_translated_error():
    try:
        try:
            await waits()
        except asyncio.CancelledError as error:
            raise ValueError from error
    except ValueError:
        await waits()


async def in_an_async_generator():
    async def generate():
        try:
            await waits()
            yield 1
        finally:
            await waits()

    async for _ in generate():
        pass


async def swallowed():
    try:
        await waits()
    except asyncio.CancelledError:
        pass
    await waits()


async def swallowed_below():
    await swallowed()


async def swallowed_in_a_suppress():
    import contextlib

    with contextlib.suppress(asyncio.CancelledError):
        await waits()
    await waits()


@pytest.mark.parametrize(
    "body", [in_finally, in_except, in_aexit, deeper, in_a_translated_error, in_an_async_generator]
)
def test_clean_up_is_told_as_such(arun, body):
    assert arun(_suspended, body) is True


@pytest.mark.parametrize("body", [swallowed, swallowed_below, swallowed_in_a_suppress])
def test_a_swallowed_cancel_is_told_as_such(arun, body):
    assert arun(_suspended, body) is False


def test_a_stack_of_something_that_has_none():
    assert stack_of(None) == ()
    assert stack_of(object()) == ()
    coro = waits()
    coro.close()
    assert stack_of(coro) == ()


@pytest.mark.parametrize("step", ["first", "later", "asked"])
async def test_a_generator_exit_of_its_own_is_an_end(step):
    """What destroys a coroutine is raised in it, too; whoever raises that by himself has ended all the same."""

    async def body() -> None:
        try:
            if step != "first":
                await asyncio.sleep(60 if step == "asked" else 0)
        except asyncio.CancelledError:
            pass
        raise GeneratorExit("mine")

    op = calloff.start(body())
    if step == "asked":
        await asyncio.sleep(0)
        op.cancel()
    outcome = await op.outcome()
    assert isinstance(outcome, calloff.Failed)
    assert outcome.error.args == ("mine",)


def test_an_operation_whose_loop_is_destroyed_is_silent(caplog, recwarn):
    """Nothing of its body is run again when the garbage collector comes by, and nobody complains."""
    ran: list[str] = []

    async def body() -> None:
        try:
            await asyncio.get_running_loop().create_future()
        except BaseException as error:
            ran.append(type(error).__name__)
            raise

    async def main() -> None:
        calloff.start(body())
        await asyncio.sleep(0)

    loop = asyncio.new_event_loop()
    loop.run_until_complete(main())
    loop.close()
    del loop
    gc.collect()
    assert ran == ["CancelledError"]
    assert not caplog.records
    assert calloff.operations() == ()
