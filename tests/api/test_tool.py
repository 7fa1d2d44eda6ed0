"""`tool`: a function answers within its limit, truly, and looks to frameworks like the original."""

import asyncio
import functools
import inspect
import os
import threading
import time
import typing
from typing import Any

import api.tool_bodies as bodies
import pytest

import calloff


def test_it_looks_like_the_original():
    original = inspect.unwrap(bodies.add)
    assert inspect.signature(bodies.add) == inspect.signature(original)
    hints = typing.get_type_hints(bodies.add, include_extras=True)
    assert hints == typing.get_type_hints(original, include_extras=True)
    assert hints["b"] == typing.Annotated[int, "the second"]
    assert inspect.signature(bodies.add, eval_str=True) == inspect.signature(original, eval_str=True)
    assert (bodies.add.__name__, bodies.add.__doc__) == ("add", "Add two numbers.")
    assert bodies.add.__module__ == bodies.__name__
    assert bodies.describe.__globals__ is vars(bodies)  # where frameworks look up what annotations name
    assert all(map(inspect.iscoroutinefunction, (bodies.add, bodies.describe, bodies.pid)))


async def test_values_errors_and_places():
    assert await bodies.add(1) == 3
    assert await bodies.add(b=5, a=1) == 6
    assert await bodies.describe({"x": 1}) == "['x']"
    assert await bodies.pid() != os.getpid()
    assert bodies.seen == []
    with pytest.raises(LookupError, match="not there"):
        await bodies.fail()
    with pytest.raises(TypeError):
        await bodies.add()  # type: ignore[call-arg]  # on purpose

    seen: list[object] = []

    def here():
        return os.getpid(), threading.get_ident(), seen

    found = await calloff.tool(here)()  # a closure shares what it closes over
    assert found[0] == os.getpid()
    assert found[1] != threading.get_ident()
    lock = threading.Lock()
    held = calloff.tool(lambda lock: (os.getpid(), lock))  # what can't be sent stays
    assert await held(lock) == (os.getpid(), lock)
    method = calloff.tool(threading.Event().is_set)
    assert await method() is False
    assert (await calloff.tool(functools.partial(here))())[0] == os.getpid()


class Cart:
    made: list[str] = []  # noqa: RUF012  # of the class, on purpose

    def __init__(self) -> None:
        self.items: list[str] = []

    @calloff.tool
    def add(self, item: str) -> int:
        self.items.append(item)
        return len(self.items)

    @classmethod
    @calloff.tool
    def make(cls, item: str) -> int:
        cls.made.append(item)
        return len(cls.made)

    @staticmethod
    @calloff.tool
    def pid(item: str) -> int:
        return os.getpid()


async def test_a_method_shares_its_object_with_the_program():
    cart = Cart()
    assert [await cart.add("tea"), await cart.add(item="milk")] == [1, 2]
    assert cart.items == ["tea", "milk"]
    before = len(Cart.made)
    assert [await Cart.make("a"), await cart.make("b")] == [before + 1, before + 2]
    assert await cart.pid("tea") != os.getpid()


STUBBORN = {tool.__name__: tool for tool in bodies.STUBBORN}


@pytest.mark.parametrize("name", ["polite", "cleanup", "sync"])
@pytest.mark.usefixtures("begins_first")
async def test_a_call_that_takes_too_long_is_told_in_a_sentence(name):
    limited = calloff.tool(timeout=0.1, grace=30)(STUBBORN[name])
    told = await limited()
    assert told == f"{name} was called off: it did not end within 0.1 s. It was stopped and does not run any more."


def test_what_could_not_be_ended_is_said_to_run():
    gate, inside = threading.Event(), threading.Event()

    def deaf():
        inside.set()
        gate.wait(60)

    async def main():
        call = asyncio.ensure_future(calloff.tool(timeout=0.1, grace=0.1)(deaf)())
        while not any(op.name == "deaf" and str(op.state) != "pending" for op in calloff.operations()):
            await asyncio.sleep(0)
        assert inside.wait(30)  # no timer is called before
        told = await call
        gate.set()
        assert told == (
            "deaf was called off: it did not end within 0.1 s. It could not be stopped and still runs: what it does may "
            "yet take effect."
        )

    asyncio.run(main())


async def test_a_blocking_tool_that_ignores_everything_is_killed(tmp_path):
    told = "not tried"
    for limit in (
        1,
        5,
        30,
    ):  # it has to be in its `try` in time: one that is asked before that obeys, as any function does
        began, inside = time.time(), tmp_path / str(limit)
        told = await calloff.tool(timeout=limit, grace=0.2, place="process")(deaf)(str(inside))
        if inside.exists() and inside.stat().st_mtime - began < limit / 2:
            break
    assert told.endswith("It was killed and does not run any more.")


def deaf(inside):
    while True:
        try:
            if not os.path.exists(inside):
                open(inside, "w").close()
            time.sleep(60)
        except BaseException:
            pass


def test_a_tool_that_blocks_the_loop():
    async def main():
        limited = calloff.tool(timeout=0.2, grace=1)(bodies.block)
        assert (await limited()).startswith("block was called off: it did not end within 0.2 s. It was stopped")

    calloff.run(main(), timeout=30)


@pytest.mark.usefixtures("begins_first")
async def test_it_can_raise_instead():
    limited = calloff.tool(timeout=0.1, on_timeout="raise")(bodies.polite)
    with pytest.raises(calloff.TimedOut, match=r"^polite was called off: it did not end within 0.1 s. It was stopped"):
        await limited()


async def test_a_stop_from_outside_is_told_and_one_of_the_program_is_not():
    call = asyncio.ensure_future(calloff.tool(bodies.polite)())
    while not (found := [op for op in calloff.operations() if op.name == "polite" and "sleep" in str(op.where())]):
        await asyncio.sleep(0)
    found[0].cancel("not needed")
    assert await call == "polite was called off: not needed. It was stopped and does not run any more."

    call = asyncio.ensure_future(calloff.tool(bodies.polite)())
    while not (found := [op for op in calloff.operations() if op.name == "polite" and "sleep" in str(op.where())]):
        await asyncio.sleep(0)
    found[0].cancel(calloff.Reason(calloff.Kind.SHUTDOWN))
    with pytest.raises(calloff.OperationCancelled):
        await call


async def test_a_cancel_of_the_call_goes_on_when_the_tool_has_ended():
    bodies.seen.clear()
    call = asyncio.ensure_future(calloff.tool(bodies.cleanup)())
    while not any(op.name == "cleanup" and "sleep(60)" in str(op.where()) for op in calloff.operations()):
        await asyncio.sleep(0)
    call.cancel()
    await asyncio.wait([call])
    assert call.cancelled()
    assert bodies.seen == ["cleaned up"]
    bodies.seen.clear()


async def test_a_cancel_of_anyio_is_no_spin():
    anyio = pytest.importorskip("anyio")
    turns = 0

    async def count():
        nonlocal turns
        while True:
            turns += 1
            await asyncio.sleep(0.001)

    with anyio.move_on_after(0.05) as scope:
        async with anyio.create_task_group() as group:
            group.start_soon(calloff.tool(bodies.cleanup))
    assert scope.cancelled_caught
    counter = asyncio.ensure_future(count())
    began = time.process_time()
    with anyio.move_on_after(0.05):
        async with anyio.create_task_group() as group:
            group.start_soon(calloff.tool(grace=0.5)(bodies.swallow))
    assert time.process_time() - began < 0.4
    counter.cancel()
    bodies.seen.clear()


class Context:
    """As that of a framework: known by its name and the module that it is from."""

    __module__ = "mcp.server"


def test_bad_arguments():
    def yields():
        yield

    def asks(ctx: Context):
        pass

    async def waits():
        pass

    wrong: Any
    for wrong in (3, "x"):
        with pytest.raises(TypeError, match="needs a function"):
            calloff.tool(wrong)
    with pytest.raises(TypeError, match="generator function"):
        calloff.tool(yields)
    with pytest.raises(TypeError, match="its parameter 'ctx' is a context"):
        calloff.tool(place="process")(asks)
    with pytest.raises(TypeError, match="not in a thread"):
        calloff.tool(place="thread")(waits)
    with pytest.raises(TypeError, match="not in a task"):
        calloff.tool(place="task")(asks)
    with pytest.raises(ValueError, match="place must be"):
        calloff.tool(place="cluster")  # type: ignore[call-overload]  # on purpose
    with pytest.raises(ValueError, match="on_timeout must be"):
        calloff.tool(on_timeout="shout")  # type: ignore[call-overload]  # on purpose
    with pytest.raises(ValueError, match="timeout"):
        calloff.tool(timeout=-1)


def test_a_context_keeps_a_blocking_tool_in_this_process(arun):
    def asks(ctx: Context):
        return os.getpid(), ctx

    context = Context()
    assert arun(calloff.tool(asks), context) == (os.getpid(), context)
