"""Where a body is: through everything that code awaits, down to the line that holds it up."""

import asyncio
import contextlib
import inspect
import sys
import types
from typing import Any

import pytest

import calloff

HERE = __file__


async def holds():
    await asyncio.get_running_loop().create_future()  # held here


async def nested():
    await holds()  # nested


async def where_of(work, turns=5, started=lambda: None):
    """The frames of this file in which `work` is suspended, as (function, source), then it is stopped."""
    op = calloff.start(work)
    for _ in range(turns):
        await asyncio.sleep(0)
    frames = op.where()
    assert (await op.stop()).report.where == frames, "the report tells the same line"
    return mine(frames)


def mine(frames):
    return [(frame.function, frame.source.partition("  #")[0]) for frame in frames if frame.file == HERE]


HELD = ("holds", "await asyncio.get_running_loop().create_future()")
NESTED = [("nested", "await holds()"), HELD]


def test_nested_awaits_outermost_first(arun):
    async def outer():
        await nested()

    assert arun(where_of, outer()) == [("outer", "await nested()"), *NESTED]


async def test_a_frame_knows_file_line_function_and_source():
    op = calloff.start(holds())
    await asyncio.sleep(0)
    (frame,) = op.where()
    _, first = inspect.getsourcelines(holds)
    assert frame == calloff.Frame(
        HERE, first + 1, "holds", "await asyncio.get_running_loop().create_future()  # held here"
    )
    await op.stop()


async def test_frames_of_libraries_are_told_too():
    op = calloff.start(asyncio.sleep(3600))
    await asyncio.sleep(0)
    assert [frame.function for frame in op.where()] == ["sleep"]
    assert op.where()[0].source == "return await future"
    await op.stop()


async def test_before_the_first_step_it_is_at_its_beginning(loop_kind):
    op = calloff.start(holds())
    (frame,) = op.where()
    assert frame.function == "holds"
    if loop_kind != "eager":
        assert frame.line == holds.__code__.co_firstlineno
    await op.stop()
    assert op.where() == ()


def test_an_async_for_over_an_async_generator(arun):
    async def generate():
        yield 1
        await nested()

    async def outer():
        async for _ in generate():
            pass

    assert arun(where_of, outer()) == [("outer", "async for _ in generate():"), ("generate", "await nested()"), *NESTED]


async def test_anext_asend_and_aclose_of_an_async_generator():
    async def generate():
        yield 1
        await nested()

    async def cleans_up():
        try:
            yield 1
        finally:
            await holds()

    async def by_anext():
        generator = generate()
        await anext(generator)
        await anext(generator)

    async def by_asend():
        generator = generate()
        await generator.asend(None)
        await generator.asend(2)

    async def by_aclose():
        generator = cleans_up()
        await anext(generator)
        await generator.aclose()

    by_next, by_send, by_close = [await where_of(work()) for work in (by_anext, by_asend, by_aclose)]
    assert by_next == [("by_anext", "await anext(generator)"), ("generate", "await nested()"), *NESTED]
    assert by_send == [("by_asend", "await generator.asend(2)"), ("generate", "await nested()"), *NESTED]
    assert by_close == [("by_aclose", "await generator.aclose()"), ("cleans_up", "await holds()"), HELD]


def test_an_async_context_manager(arun):
    @contextlib.asynccontextmanager
    async def manager():
        await nested()
        yield

    async def outer():
        async with manager():
            pass

    assert arun(where_of, outer()) == [("outer", "async with manager():"), ("manager", "await nested()"), *NESTED]


def test_an_awaitable_of_ones_own_and_an_old_generator(arun):
    class Mine:
        def __await__(self):
            yield from holds().__await__()

    @types.coroutine
    def old():
        yield from Mine().__await__()

    async def outer():
        await old()

    frames = arun(where_of, outer())
    assert frames == [
        ("outer", "await old()"),
        ("old", "yield from Mine().__await__()"),
        ("__await__", "yield from holds().__await__()"),
        HELD,
    ]


def test_a_plain_task(arun):
    async def outer():
        await asyncio.create_task(nested())

    assert arun(where_of, outer()) == [("outer", "await asyncio.create_task(nested())"), *NESTED]


def test_gather_goes_on_in_the_first_that_has_not_ended(arun):
    async def outer():
        await asyncio.gather(asyncio.sleep(0), nested(), holds())

    assert arun(where_of, outer()) == [("outer", "await asyncio.gather(asyncio.sleep(0), nested(), holds())"), *NESTED]


def test_an_asyncio_task_group(arun):
    async def outer():
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(asyncio.sleep(0))
            tasks.create_task(nested())

    frames = arun(where_of, outer())
    assert frames[0][0] == "outer"
    assert frames[1:] == NESTED


def test_a_group(arun):
    async def outer():
        async with calloff.group() as g:
            g.start(asyncio.sleep(0))
            g.start(nested())

    frames = arun(where_of, outer())
    assert frames[0][0] == "outer"
    assert frames[1:] == NESTED


@pytest.mark.parametrize(
    "wait", ["await", "call", "outcome", "stop", "watch", "gather", "shield", "wait_for", "timeout"]
)
async def test_another_operation(wait):
    async def outer():
        op: Any = None if wait == "call" else calloff.start(nested())
        match wait:
            case "await":
                await op
            case "call":
                await calloff.call(nested())
            case "outcome":
                await op.outcome()
            case "stop":
                op = calloff.start(cleans_up())
                await asyncio.sleep(0)
                await op.stop()
            case "watch":
                async for _ in op.watch():
                    pass
            case "gather":
                await asyncio.gather(op)
            case "shield":
                await asyncio.shield(op)
            case "wait_for":
                await asyncio.wait_for(op, 60)
            case "timeout":
                async with asyncio.timeout(60):
                    await op

    async def cleans_up():
        try:
            await nested()
        finally:
            await nested()

    op = calloff.start(outer())
    for _ in range(8):
        await asyncio.sleep(0)
    frames = mine(op.where())
    await op.stop(grace=0.05)
    assert frames[0][0] == "outer"
    opaque = {"watch", "shield"} | ({"wait_for"} if sys.version_info < (3, 12) else set())
    if wait not in opaque:  # of these at least the line that waits
        assert frames[-2:] == NESTED


async def test_a_body_that_is_running_itself():
    async def looks():
        return looks_at_itself()

    def looks_at_itself():
        return calloff.current().where()

    frames = await calloff.call(looks())
    assert mine(frames)[:2] == [
        ("looks", "return looks_at_itself()"),
        ("looks_at_itself", "return calloff.current().where()"),
    ]


async def test_a_body_that_is_running_as_another_thread_sees_it():
    import threading

    seen = []
    looked = threading.Event()

    def look(op):
        seen.append(op.where())
        looked.set()

    async def computes():
        threading.Thread(target=look, args=[calloff.current()]).start()
        while not looked.is_set():
            pass

    await calloff.call(computes())
    assert mine(seen[0])[0][0] == "computes"


async def test_two_that_wait_for_each_other_end_the_walk():
    ops: list[Any] = []

    async def waits_for(other):
        while len(ops) < 2:
            await asyncio.sleep(0)
        await asyncio.shield(ops[other])

    ops += [calloff.start(waits_for(1)), calloff.start(waits_for(0))]
    for _ in range(5):
        await asyncio.sleep(0)
    assert len(ops[0].where()) < 10
    await asyncio.gather(*(op.stop(grace=0) for op in ops))


async def test_a_deep_stack_is_told_to_its_end():
    async def generate():
        await holds()
        yield

    async def deep(depth):
        if depth:
            await deep(depth - 1)
        async for _ in generate():
            pass

    op = calloff.start(deep(150))
    await asyncio.sleep(0)
    assert mine(op.where())[-4:] == [
        ("deep", "await deep(depth - 1)"),
        ("deep", "async for _ in generate():"),
        ("generate", "await holds()"),
        HELD,
    ]
    assert len(op.where()) == 153
    await op.stop()


@pytest.mark.parametrize("tasks", [None, 3, "ab", ["a", "b"], {"a": 1}, iter([]), [asyncio.sleep]])
def test_somebody_elses_group_is_not_mistaken_for_asyncios(arun, tasks):
    class Pool:
        _tasks = tasks

        async def __aenter__(self):
            return self

        async def __aexit__(self, *_):
            await holds()

    async def outer():
        async with Pool():
            pass

    frames = arun(where_of, outer())
    assert frames == [("outer", "async with Pool():"), ("__aexit__", "await holds()"), HELD]


# --- in the report and in the texts


async def test_the_report_tells_where_the_request_found_it():
    async def body():
        try:
            await nested()
        finally:
            await asyncio.sleep(0.01)

    op = calloff.start(body())
    await asyncio.sleep(0)
    op.cancel()
    assert mine(op.report.where) == [("body", "await nested()"), *NESTED], "before it arrives, where it is"
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    outcome = await op.outcome()
    assert mine(outcome.report.where) == [("body", "await nested()"), *NESTED], "after, where it was"


@pytest.mark.usefixtures("begins_first")
async def test_the_text_is_that_of_the_contract(monkeypatch):
    monkeypatch.chdir(HERE.rpartition("/tests/")[0])

    async def call_api(delay):
        await asyncio.sleep(delay)

    op = calloff.start(call_api(5), name="call-api", timeout=0.05)
    with pytest.raises(calloff.TimedOut) as caught:
        await op
    line = call_api.__code__.co_firstlineno + 1
    text = (
        f"'call-api' did not end within 0.05 s: at call_api (tests/operation/test_where.py:{line}): "
        "await asyncio.sleep(delay)"
    )
    assert str(caught.value) == text
    assert caught.value.operation == (op.id, "call-api")
    assert caught.value.report is not None
    assert caught.value.report == op.report


async def test_the_stuck_line_of_an_abandoned_body(short_last):
    async def body():
        await asyncio.sleep(0)
        while True:
            try:
                await nested()
            except BaseException:  # noqa: B036
                pass

    op = calloff.start(body(), name="stuck")
    for _ in range(3):
        await asyncio.sleep(0)
    with pytest.raises(calloff.OperationCancelled) as caught:
        op.cancel(grace=0.02)
        await op
    assert mine(caught.value.report.stuck_at) == [("body", "await nested()"), *NESTED]
    assert "and could not be stopped: stuck at holds (" in str(caught.value)
    assert str(caught.value).endswith("await asyncio.get_running_loop().create_future()  # held here")
