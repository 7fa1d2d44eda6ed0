"""`start` and `call`: what is work, what it is called, and what everything else gets told."""

import asyncio
import functools
import gc
import time
import types
from typing import Any

import pytest
from places.own_classes import OwnCoroutine

import calloff


async def value(result=3):
    return result


def blocking(x):
    return x


# --- what is work


async def test_a_coroutine_an_async_function_a_partial_and_an_async_callable():
    class Job:
        async def __call__(self):
            return 6

        async def method(self):
            return 7

    assert await calloff.call(value(3)) == 3
    assert await calloff.call(value) == 3
    assert await calloff.call(functools.partial(value, 4)) == 4
    assert await calloff.call(functools.partial(functools.partial(value), result=5)) == 5
    assert await calloff.call(Job()) == 6
    assert await calloff.call(Job().method) == 7


async def test_one_operation_may_be_the_work_of_another():
    inner = calloff.start(value(3))
    assert await calloff.start(inner) == 3
    inner = calloff.start(asyncio.Event().wait())
    outer = calloff.start(inner)
    await asyncio.sleep(0)
    await outer.stop()
    assert inner.cancelled()


# --- names


async def test_names():
    class Job:
        async def method(self):
            pass

    async def later():
        await asyncio.sleep(0)

    class Waits:
        def __await__(self):
            return value().__await__()

    class Odd(Waits):
        @property
        def name(self):
            raise RuntimeError

    class Like(OwnCoroutine):
        pass

    @functools.wraps(value)
    def wrapped():
        return Waits()

    work: Any
    for work, name in (
        (value(), "value"),
        (value, "value"),
        (Job().method(), "Job.method"),
        (functools.partial(value, 3), "value"),
        (wrapped, "value"),
        (asyncio.ensure_future(later()), "later"),
        (calloff.start(value(), name="other"), "other"),
        (calloff.map(value, [1]), "map value"),
        (Waits(), "Waits"),
        (Odd(), "Odd"),
        (Like(value()), "Like"),
    ):
        op = calloff.start(work)
        assert op.name == name
        await op
    op = calloff.start(value(), name="mine")
    assert (op.name, op.ref.name) == ("mine", "mine")
    await op


# --- what is no work


@pytest.mark.parametrize("work", [None, 3, "value", [value], object(), asyncio.sleep])
async def test_what_is_no_work_is_told_what_is(work):
    with pytest.raises(TypeError) as caught:
        calloff.start(work)
    if work is not asyncio.sleep:
        assert str(caught.value).startswith("work must be a coroutine, an async function, or thread(), process()")
        assert repr(work) in str(caught.value)


@pytest.mark.parametrize("function", [blocking, time.sleep, functools.partial(blocking, 3), print])
async def test_a_blocking_function_names_the_three_ways_to_say_where(function):
    for verb in (calloff.start, lambda work: asyncio.ensure_future(calloff.call(work))):
        with pytest.raises(TypeError) as caught:
            found = verb(function)
            await found
        text = str(caught.value)
        assert "is a blocking function: say where it is to run" in text
        assert "calloff.thread(" in text
        assert "calloff.process(" in text
        assert "calloff.command(" in text
    name = getattr(function, "__qualname__", None)
    if name:
        assert text.startswith(f"{name} is a blocking function")


async def test_a_coroutine_that_was_already_awaited():
    finished = value()
    await finished
    with pytest.raises(RuntimeError, match=r"^the coroutine 'value' was already awaited or started$"):
        calloff.start(finished)
    begun = asyncio.sleep(0)
    begun.send(None)
    with pytest.raises(RuntimeError, match="'sleep' was already awaited or started"):
        calloff.start(begun)
    begun.close()
    other = asyncio.sleep(3600)
    task = asyncio.create_task(other)
    await asyncio.sleep(0)
    with pytest.raises(RuntimeError, match="already awaited or started"):
        calloff.start(other)
    task.cancel()
    await asyncio.wait([task])
    closed = value()
    closed.close()
    with pytest.raises(RuntimeError, match="already awaited or started"):
        calloff.start(closed)


async def test_a_coroutine_that_starts_itself():
    async def starts():
        with pytest.raises(RuntimeError, match="'.*starts' was already awaited or started"):
            calloff.start(running)

    running = starts()
    await running


async def test_a_coroutine_given_to_two_operations(loop_kind):
    """The second fails, whenever that is found out, and the first is not disturbed."""

    async def slow():
        await asyncio.sleep(0.01)
        return 3

    coro = slow()
    first = calloff.start(coro)
    await asyncio.sleep(0)
    with pytest.raises(RuntimeError, match="already awaited or started"):
        calloff.start(coro)
    assert await first == 3


def test_no_running_loop():
    coro: Any = value()
    with pytest.raises(RuntimeError, match="no running event loop"):
        calloff.start(coro)
    assert coro.cr_frame is None, "closed: only our error is heard"
    with pytest.raises(RuntimeError, match="no running event loop"):
        calloff.start(value)


WRONG: dict[type[Exception], list[Any]] = {
    ValueError: [-1, -0.001, float("nan")],
    TypeError: [True, False, "3", b"3", []],
}


@pytest.mark.parametrize("verb", ["start", "call", "group.start", "race", "group"])
async def test_a_wrong_duration_is_refused_by_name_before_anything_starts(verb, recwarn):
    async def attempt(option, bad, error):
        started = []

        async def body():
            started.append(True)

        before = calloff.operations()
        with pytest.raises(error, match=f"^{option} must be"):
            match verb:
                case "start":
                    calloff.start(body(), **{option: bad})
                case "call":
                    await calloff.call(body(), **{option: bad})
                case "race":
                    await calloff.race(body(), body(), **{option: bad})
                case "group":
                    calloff.group(**{option: bad})
                case "group.start":
                    async with calloff.group() as g:
                        try:
                            g.start(body(), **{option: bad})
                        except ExceptionGroup:
                            raise AssertionError from None
                        except Exception as caught:
                            found = caught
                    raise found
        assert calloff.operations() == before
        await asyncio.sleep(0)
        assert started == []

    for option in ("timeout", "stall", "grace") if verb not in ("race", "group") else ("timeout", "grace"):
        for error, values in WRONG.items():
            for bad in values:
                await attempt(option, bad, error)
    await attempt("grace", None, TypeError)
    gc.collect()
    assert not [warning for warning in recwarn if "never awaited" in str(warning.message)]


@pytest.mark.parametrize("grace", [0, 0.5, 5, 5.0, 1e12, float("inf")])
async def test_any_grace_of_zero_or_more_will_do(grace):
    op = calloff.start(asyncio.Event().wait(), grace=grace)
    await asyncio.sleep(0)
    assert isinstance(await op.stop(), calloff.Cancelled)
    assert await calloff.call(value, grace=grace) == 3


# --- call


async def test_call_returns_or_raises_what_await_would():
    async def fails():
        raise ZeroDivisionError

    assert await calloff.call(value(3), name="mine", timeout=60, stall=60, grace=1) == 3
    with pytest.raises(ZeroDivisionError):
        await calloff.call(fails)
    with pytest.raises(calloff.TimedOut, match="^'mine' did not end within 0.01 s"):
        await calloff.call(asyncio.Event().wait(), name="mine", timeout=0.01)


async def test_a_call_that_is_cancelled_stops_its_work():
    started = []

    async def body():
        started.append(calloff.current())
        await asyncio.sleep(3600)

    task = asyncio.create_task(calloff.call(body()))
    while not started:
        await asyncio.sleep(0)
    task.cancel("home time")
    with pytest.raises(asyncio.CancelledError) as caught:
        await task
    assert not isinstance(caught.value, calloff.OperationCancelled)
    assert started[0].cancelled()
    assert (started[0].reason.kind, started[0].reason.text) == ("parent", "home time")


async def test_the_reason_is_handed_through_nested_calls():
    ops = []

    async def inner():
        ops.append(calloff.current())
        await asyncio.sleep(3600)

    async def outer():
        await calloff.call(inner())

    op = calloff.start(outer())
    while not ops:
        await asyncio.sleep(0)
    op.reschedule(0.02)
    await op.outcome()
    assert op.reason.kind == "deadline"
    assert ops[0].reason.kind == "parent"
    assert ops[0].reason.text == "within 0.02 s"


async def test_a_decorated_async_function_is_awaited_all_the_same():
    def logged(function):
        @functools.wraps(function)
        def inner():
            return function()

        return inner

    @logged
    async def works():
        return "ran"

    @functools.wraps(works)
    def forgets():
        return 3

    assert await calloff.call(works) == "ran"
    with pytest.raises(TypeError, match="returned 3, which can't be awaited"):
        calloff.start(forgets)
    with pytest.raises(TypeError, match="If it returns a coroutine, call it"):
        calloff.start(lambda: works())


def generates():
    yield 1


async def generates_async():
    yield 1


@types.coroutine
def old_coroutine():
    yield
    return 3


async def test_generators_are_refused():
    """To asyncio of Python 3.11 a generator is a coroutine, which then fails at its first value."""

    for work in (generates, generates_async):
        with pytest.raises(TypeError, match=f"^{work.__name__} is a generator function: it yields values"):
            calloff.start(work)
    for work in (generates(), generates_async()):
        with pytest.raises(TypeError, match="^work must be a coroutine"):
            calloff.start(work)
    assert await calloff.start(old_coroutine()) == 3
