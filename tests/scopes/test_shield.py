"""`shield`: clean-up in place, to its end, and bounded."""

import asyncio
import logging
from contextvars import ContextVar
from math import inf, nan
from typing import Any

import pytest
from scopes.steps import cancelling, stubborn, turns

import calloff

variable: ContextVar[str] = ContextVar("variable", default="unset")


async def after(seconds: float, value: str = "value") -> str:
    await asyncio.sleep(seconds)
    return value


async def test_value_error_and_bad_input() -> None:
    async def fail() -> None:
        raise KeyError("its own")

    assert await calloff.shield(after(0.01)) == "value"
    assert await calloff.shield(after(0.01), timeout=None) == "value"
    assert await calloff.shield(asyncio.create_task(after(0))) == "value"
    with pytest.raises(KeyError):
        await calloff.shield(fail())
    for bad in (-1, nan):
        with pytest.raises(ValueError, match="timeout must be 0 or more"):
            await calloff.shield(after(0), timeout=bad)


@pytest.mark.parametrize("cancels", [1, 3])
async def test_cancels_of_the_caller_wait_for_the_end(cancels: int) -> None:
    order: list[str] = []

    async def clean_up() -> None:
        for step in range(5):
            await asyncio.sleep(0.01)
            order.append(f"step {step}")

    async def caller() -> None:
        try:
            await calloff.shield(clean_up())
        except asyncio.CancelledError as error:
            order.append(f"cancelled {error.args}")
            assert cancelling() == cancels
            raise
        finally:
            order.append("left")

    task = asyncio.create_task(caller())
    await turns(2)
    for number in range(cancels):
        asyncio.Task.cancel(task, f"cancel {number}")
        await asyncio.sleep(0.005)
        assert not task.done()
    await asyncio.wait([task])
    assert task.cancelled()
    assert order == [*(f"step {step}" for step in range(5)), "cancelled ('cancel 0',)", "left"]


async def test_cancel_wins_and_the_error_is_its_context() -> None:
    cancelled = asyncio.Event()
    began = asyncio.Event()

    async def fail() -> None:
        began.set()
        await cancelled.wait()
        raise KeyError("close failed")

    async def caller() -> None:
        try:
            raise ValueError("why we clean up")
        finally:
            await calloff.shield(fail())

    task = asyncio.create_task(caller())
    await began.wait()
    await asyncio.sleep(0)
    task.cancel()
    asyncio.get_running_loop().call_later(0.02, cancelled.set)
    with pytest.raises(asyncio.CancelledError) as caught:
        await task
    chain: list[type[BaseException]] = []
    error: BaseException | None = caught.value
    while error is not None:
        chain.append(type(error))
        error = error.__context__
    assert chain[-2:] == [KeyError, ValueError]


async def test_it_keeps_context_variables_both_ways() -> None:
    async def clean_up() -> None:
        assert variable.get() == "callers"
        variable.set("cleaned")
        await asyncio.sleep(0)

    variable.set("callers")
    await calloff.shield(clean_up())
    assert variable.get() == "cleaned"


async def test_limits_of_the_caller_do_not_count_inside() -> None:
    seen: list[float] = []

    async def clean_up() -> None:
        seen.append(calloff.remaining())
        with calloff.timeout(1):
            seen.append(calloff.remaining())
        await asyncio.sleep(0.05)
        seen.append(0)

    with pytest.raises(calloff.TimedOut):
        with calloff.timeout(0.01):
            await calloff.shield(clean_up(), timeout=5)
    assert cancelling() == 0
    with calloff.move_on_after(0.01) as scope:
        await calloff.shield(clean_up(), timeout=None)
    assert scope.cancelled_caught
    assert calloff.current_deadline() == inf
    assert 4 < seen[0] <= 5
    assert 0 < seen[1] <= 1
    assert seen[2] == 0
    assert seen[3] == inf


async def test_it_ends_at_its_limit() -> None:
    async def late() -> str:
        try:
            await asyncio.sleep(60)
        except asyncio.CancelledError:
            return "ended"
        raise AssertionError

    with pytest.raises(calloff.TimedOut, match=r"within 0\.5 s: at after \("):
        await calloff.shield(after(60), timeout=0.5)  # within which it surely begins, on a busy uvloop, too
    # a value that comes late is a value
    assert await calloff.shield(late(), timeout=0.02) == "ended"
    # asked again
    with pytest.raises(calloff.TimedOut):
        await calloff.shield(stubborn(1), timeout=0.02)


async def test_what_refuses_is_given_up(caplog: pytest.LogCaptureFixture) -> None:
    release: Any = None

    async def refuse() -> None:
        while not release.is_set():
            try:
                await release.wait()  # stuck here
            except asyncio.CancelledError:
                pass

    async def caller() -> None:
        await calloff.shield(refuse(), timeout=0.05)

    with caplog.at_level(logging.WARNING, "calloff"):
        release = asyncio.Event()
        loop = asyncio.get_running_loop()
        began = loop.time()
        with pytest.raises(calloff.TimedOut, match="stuck here"):
            await caller()
        assert 1 <= loop.time() - began < 20
        task = asyncio.create_task(caller())
        await turns(3)
        task.cancel()
        await asyncio.wait([task])
        assert task.cancelled()
        release.set()
        await turns(5)
    texts = [record.getMessage() for record in caplog.records]
    assert sum("could not be stopped: stuck at" in text for text in texts) == 2
    assert sum("has ended: " in text for text in texts) == 2


async def test_force_passes_through() -> None:
    """An operation that is forced is not held up by its shields."""
    ended: list[str] = []

    async def clean_up() -> None:
        try:
            await asyncio.sleep(60)
        finally:
            ended.append("clean-up")

    async def body() -> None:
        try:
            await calloff.shield(clean_up(), timeout=None)
        finally:
            ended.append("body")

    op = calloff.start(body())
    await turns(3)
    outcome = await op.stop(grace=0.05)
    assert isinstance(outcome, calloff.Cancelled)
    assert outcome.report.rung is calloff.Rung.FORCED
    await turns(3)
    assert sorted(ended) == ["body", "clean-up"]


async def test_where_looks_through_it() -> None:
    async def body() -> None:
        await calloff.shield(after(60))

    op = calloff.start(body())
    await turns(5)
    functions = [frame.function for frame in op.where()]
    await op.stop(grace=0)
    assert functions[0] == "body"
    assert "after" in functions
