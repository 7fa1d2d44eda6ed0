"""A thread that runs an event loop of its own hears of a stop, too."""

import asyncio
import threading
from collections.abc import Callable, Coroutine
from typing import Any

import pytest

import calloff

Main = Callable[[threading.Event, list[str]], Coroutine[Any, Any, Any]]


async def cleans_up(began: threading.Event, seen: list[str]) -> None:
    began.set()
    try:
        await asyncio.sleep(60)
    finally:
        await asyncio.sleep(0.01)
        seen.append("cleaned up")


async def swallows(began: threading.Event, seen: list[str]) -> None:
    began.set()
    while True:
        try:
            await asyncio.sleep(60)
        except asyncio.CancelledError:
            seen.append("swallowed")


async def fails_in_its_clean_up(began: threading.Event, seen: list[str]) -> None:
    began.set()
    try:
        await asyncio.sleep(60)
    finally:
        raise ValueError("in the clean-up")


async def returns_all_the_same(began: threading.Event, seen: list[str]) -> str:
    began.set()
    try:
        await asyncio.sleep(60)
    except asyncio.CancelledError:
        pass
    return "all the same"


async def stopped(main: Main, run: Callable[..., Any], grace: float, seen: list[str]) -> calloff.Outcome[Any]:
    began = threading.Event()
    op = calloff.start(calloff.thread(lambda: run(main(began, seen))), grace=grace)
    while not began.is_set():
        await asyncio.sleep(0.001)
    return await op.stop("enough")


async def test_run_in_a_thread_hears_that_its_thread_is_asked() -> None:
    seen: list[str] = []
    outcome = await stopped(cleans_up, calloff.run, 60, seen)
    assert isinstance(outcome, calloff.Cancelled)
    assert outcome.report.rung is calloff.Rung.ASKED
    assert outcome.report.helped == ("calloff.run",)
    assert seen == ["cleaned up"]


async def test_the_main_operation_says_who_asked() -> None:
    found: list[calloff.Reason] = []

    async def main(began: threading.Event, seen: list[str]) -> None:
        began.set()
        try:
            await asyncio.sleep(60)
        finally:
            reason = calloff.current().reason
            assert reason is not None
            found.append(reason)

    await stopped(main, calloff.run, 60, [])
    assert [(reason.kind, reason.text) for reason in found] == [(calloff.Kind.PARENT, "enough")]
    assert "<lambda>" in str(found[0].by)


async def test_what_main_makes_of_it_is_the_ending() -> None:
    outcome = await stopped(fails_in_its_clean_up, calloff.run, 60, [])
    assert isinstance(outcome, calloff.Failed)
    assert isinstance(outcome.error, ValueError)
    outcome = await stopped(returns_all_the_same, calloff.run, 60, [])
    assert isinstance(outcome, calloff.Completed)
    assert outcome.value == "all the same"


@pytest.mark.usefixtures("patient")
async def test_a_main_that_refuses_is_forced_with_its_thread() -> None:
    seen: list[str] = []
    outcome = await stopped(swallows, calloff.run, 0.2, seen)
    assert isinstance(outcome, calloff.Cancelled)
    assert outcome.report.rung is calloff.Rung.FORCED
    assert seen


async def test_run_in_a_thread_of_the_executor_ends_with_its_operation() -> None:
    began, seen = threading.Event(), list[str]()

    async def body() -> None:
        await asyncio.to_thread(calloff.run, cleans_up(began, seen))

    op = calloff.start(body(), grace=60)
    while not began.is_set():
        await asyncio.sleep(0.001)
    outcome = await op.stop()
    assert isinstance(outcome, calloff.Cancelled)
    assert outcome.report.survivors == ()
    assert seen == ["cleaned up"]


async def test_a_stop_from_before_the_run_is_heard() -> None:
    asked, seen = threading.Event(), list[str]()

    def work() -> None:
        asked.wait()
        calloff.run(cleans_up(threading.Event(), seen))

    op = calloff.start(calloff.thread(work), grace=60)
    while not op.where():
        await asyncio.sleep(0.001)
    op.cancel()
    asked.set()
    assert isinstance(await op.outcome(), calloff.Cancelled)


@pytest.mark.parametrize("run", [asyncio.run, calloff.run])
async def test_an_idle_loop_is_forced(run: Callable[..., Any]) -> None:
    seen: list[str] = []
    outcome = await stopped(cleans_up, run, 0, seen)
    assert isinstance(outcome, calloff.Cancelled)
    assert outcome.report.rung is calloff.Rung.FORCED
