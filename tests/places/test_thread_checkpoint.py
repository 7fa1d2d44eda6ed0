"""`checkpoint`: where a body that computes, or waits in a thread, hears that it is to stop."""

import asyncio
import threading
import time
from asyncio import CancelledError
from collections.abc import Callable
from typing import Any

import pytest

import calloff
from calloff._scopes.timeout import timeout

Run = Callable[..., Any]


async def until(true: Callable[[], bool]) -> None:
    """Wait for it, with a bound."""
    async with asyncio.timeout(30):
        while not true():
            await asyncio.sleep(0.005)


# --- in a thread


def test_outside_any_operation_nothing_happens() -> None:
    calloff.checkpoint()
    before = time.monotonic()
    calloff.checkpoint(wait=0.02)
    assert time.monotonic() - before >= 0.019


async def test_in_a_plain_task_it_gives_others_a_turn() -> None:
    turns = 0

    async def other() -> None:
        nonlocal turns
        turns += 1

    task = asyncio.ensure_future(other())
    await calloff.checkpoint()
    await calloff.checkpoint()
    assert turns == 1
    await task


async def test_it_raises_in_the_thread_once_a_stop_is_asked() -> None:
    seen: list[BaseException] = []
    inside = threading.Event()

    def work() -> None:
        try:
            while True:
                inside.set()
                calloff.checkpoint()
        except CancelledError as error:
            seen.append(error)
            raise

    op = calloff.start(calloff.thread(work))
    await until(inside.is_set)
    outcome = await op.stop("enough", grace=60)
    assert isinstance(outcome, calloff.Cancelled)
    assert outcome.report.rung is calloff.Rung.ASKED
    assert outcome.report.refusals == 0
    assert outcome.report.started
    assert outcome.report.where[0].function == "work"
    assert str(seen[0]) == "enough"


async def test_a_wait_wakes_at_once() -> None:
    inside = threading.Event()

    def work() -> None:
        inside.set()
        calloff.checkpoint(wait=600)

    ops = [calloff.start(calloff.thread(work)) for _ in range(10)]
    await until(lambda: all("wait" in str(op.where()) for op in ops))
    before = time.monotonic()
    outcomes = await asyncio.gather(*(op.stop(grace=300) for op in ops))
    assert time.monotonic() - before < 10
    assert {outcome.report.rung for outcome in outcomes} == {calloff.Rung.ASKED}


async def test_a_wait_lasts_as_long_as_it_says() -> None:
    def work() -> float:
        before = time.monotonic()
        calloff.checkpoint(wait=0.05)
        return time.monotonic() - before

    assert await calloff.call(calloff.thread(work), timeout=30) >= 0.049


@pytest.mark.parametrize("wait", [-1, float("nan"), "1", True])
def test_a_bad_wait(wait: Any) -> None:
    with pytest.raises((TypeError, ValueError), match="wait"):
        calloff.checkpoint(wait=wait)


async def test_the_clean_up_is_let_alone() -> None:
    inside, cleaned = threading.Event(), threading.Event()

    def work() -> None:
        try:
            inside.set()
            calloff.checkpoint(wait=600)
        finally:
            for _ in range(10):
                calloff.checkpoint(wait=0.005)
            cleaned.set()

    op = calloff.start(calloff.thread(work))
    await until(inside.is_set)
    outcome = await op.stop(grace=60)
    assert isinstance(outcome, calloff.Cancelled)
    assert outcome.report.rung is calloff.Rung.ASKED
    assert cleaned.is_set()


async def test_refusals_are_counted() -> None:
    inside = threading.Event()

    def work() -> str:
        for _ in range(3):
            try:
                inside.set()
                calloff.checkpoint(wait=600)
            except CancelledError:
                pass
        return "no"

    op = calloff.start(calloff.thread(work))
    await until(inside.is_set)
    outcome = await op.stop(grace=60)
    assert isinstance(outcome, calloff.Completed)
    assert outcome.value == "no"
    assert outcome.report is not None
    assert outcome.report.refusals == 3


async def test_the_deadline_is_heeded_while_the_loop_is_blocked() -> None:
    ended = threading.Event()

    def work() -> None:
        try:
            while True:
                calloff.checkpoint(wait=600)
        finally:
            ended.set()

    op = calloff.start(calloff.thread(work), timeout=1000)
    await until(lambda: "wait" in str(op.where()))
    op.reschedule(0.1)
    assert ended.wait(30), "while the loop is blocked"
    with pytest.raises(calloff.TimedOut, match=r"'.*work' did not end within .* s"):
        await op


async def test_a_later_limit_does_not_cut_a_wait_short() -> None:
    def work(seconds: float) -> float:
        began = time.monotonic()
        calloff.checkpoint(wait=seconds)
        return time.monotonic() - began

    for seconds in (0.3, 3.0, 20.0):  # a busy machine may not let the loop look meanwhile
        op = calloff.start(calloff.thread(work, seconds), timeout=1000)
        await until(lambda op=op: op.done() or "wait" in str(op.where()))  # type: ignore[misc]
        if not op.done():
            op.reschedule(500)
            op.reschedule(1000)
            assert await op >= seconds
            return
    raise AssertionError("it was never seen where it waits")


def test_a_clean_up_that_begins_before_the_loop_has_asked_is_not_cut_short() -> None:
    """The limit was raised by `checkpoint` itself, since the loop was late for it."""
    inside, ended, lasted = threading.Event(), threading.Event(), list[float]()

    def work() -> None:
        inside.set()
        try:
            calloff.checkpoint(wait=600)
        finally:
            began = time.monotonic()
            try:
                calloff.checkpoint()
                calloff.checkpoint(wait=0.2)
                lasted.append(time.monotonic() - began)
            finally:
                ended.set()

    async def main() -> None:
        op = calloff.start(calloff.thread(work), timeout=0.01)
        await until(inside.is_set)
        assert ended.wait(30), "the loop is blocked"
        with pytest.raises(calloff.TimedOut):
            await op

    asyncio.run(main())
    assert lasted[0] >= 0.2


async def test_a_wait_of_the_clean_up_lasts_as_long_as_it_says() -> None:
    lasted: list[float] = []

    def work() -> None:
        try:
            calloff.checkpoint(wait=600)
        finally:
            began = time.monotonic()
            calloff.checkpoint(wait=0.2)
            lasted.append(time.monotonic() - began)

    op = calloff.start(calloff.thread(work), timeout=1000)
    await until(lambda: "wait" in str(op.where()))
    op.reschedule(0.01)
    with pytest.raises(calloff.TimedOut):
        await op
    assert lasted[0] >= 0.2


async def test_current_deadline_and_remaining_in_a_thread() -> None:
    def look() -> tuple[str, float, float]:
        op = calloff.current()
        assert op is not None
        return op.name, calloff.current_deadline(), calloff.remaining()

    op = calloff.start(calloff.thread(look), name="looker", timeout=50)
    name, deadline, remaining = await op
    assert name == "looker"
    assert deadline == op.deadline
    assert 0 < remaining < 50.001


async def test_in_a_further_thread_of_the_body() -> None:
    """`asyncio.to_thread` takes the context along, and with it the operation."""
    inside, ended = threading.Event(), threading.Event()

    def work() -> None:
        try:
            inside.set()
            calloff.checkpoint(wait=600)
        finally:
            ended.set()

    op = calloff.start(asyncio.to_thread(work))
    await until(inside.is_set)
    assert isinstance(await op.stop(grace=60), calloff.Cancelled)
    await until(ended.is_set)


# --- in a task


@pytest.mark.usefixtures("begins_first")
async def test_a_coroutine_that_computes_hears_of_its_deadline() -> None:
    cleaned: list[str] = []

    async def work() -> None:
        try:
            while True:
                calloff.checkpoint()
        finally:
            await asyncio.sleep(0.01)  # not cancelled a second time
            cleaned.append("up")

    op = calloff.start(work(), timeout=0.05, grace=30)
    with pytest.raises(calloff.TimedOut, match=r"within 0\.05 s: at .*work.*calloff\.checkpoint\(\)"):
        await op
    assert cleaned == ["up"]
    assert op.report is not None
    assert op.report.rung is calloff.Rung.ASKED
    assert op.report.refusals == 0


@pytest.mark.usefixtures("begins_first")
async def test_a_coroutine_that_computes_and_swallows_is_forced() -> None:
    async def work() -> None:
        while True:
            try:
                while True:
                    calloff.checkpoint()
            except CancelledError:
                pass

    op = calloff.start(work(), timeout=0.05, grace=0.1)
    with pytest.raises(calloff.TimedOut):
        await op
    assert op.report is not None
    assert op.report.rung is calloff.Rung.FORCED
    assert op.report.refusals >= 1


async def test_the_deadline_of_the_operation_around_it() -> None:
    async def inner() -> None:
        while True:
            calloff.checkpoint()

    async def outer() -> None:
        await calloff.call(inner())

    with pytest.raises(calloff.TimedOut):
        await calloff.call(outer(), timeout=0.05, grace=30)


async def test_the_deadline_of_a_block() -> None:
    task = asyncio.current_task()
    assert task is not None
    cleaned = False
    with pytest.raises(calloff.TimedOut):
        with timeout(600):
            with timeout(0.05):
                try:
                    while True:
                        calloff.checkpoint()
                finally:
                    await asyncio.sleep(0.01)  # not cancelled a second time
                    cleaned = True
    assert cleaned
    assert task.cancelling() == 0


async def test_awaiting_it_lets_the_request_in() -> None:
    async def work() -> None:
        while True:
            await calloff.checkpoint()

    op = calloff.start(work())
    await asyncio.sleep(0.01)
    outcome = await op.stop("enough", grace=30)
    assert isinstance(outcome, calloff.Cancelled)
    assert outcome.report.rung is calloff.Rung.ASKED


async def test_a_wait_in_a_coroutine_is_refused_with_advice() -> None:
    with pytest.raises(RuntimeError, match=r"asyncio\.sleep"):
        calloff.checkpoint(wait=1)


@pytest.mark.usefixtures("begins_first")
async def test_a_call_in_the_clean_up_of_an_operation_that_ran_out_of_time_is_let_alone():
    told = []

    def tidy():
        for _ in range(3):
            calloff.checkpoint(0.02)
        told.append("tidied up")

    async def work():
        try:
            await asyncio.sleep(60)
        finally:
            await calloff.call(calloff.thread(tidy))

    with pytest.raises(calloff.TimedOut):
        await calloff.call(work(), timeout=0.01, grace=20)
    assert told == ["tidied up"]


async def test_where_it_was_is_told_where_the_loop_is_late_for_its_limit() -> None:
    """The thread hears of the limit by itself, and has ended before the loop looks where it is."""

    def careful() -> None:
        try:
            calloff.checkpoint(60)
        finally:
            ended.set()

    ended = threading.Event()
    op = calloff.start(calloff.thread(careful), timeout=0.1)
    while op.state != "running":
        await asyncio.sleep(0)
    assert ended.wait(30)  # the loop stands still until then
    outcome = await op.outcome()
    assert isinstance(outcome, calloff.Cancelled)
    assert outcome.report.rung is calloff.Rung.ASKED
    assert [frame.source for frame in outcome.report.where if frame.function == "careful"] == ["calloff.checkpoint(60)"]
