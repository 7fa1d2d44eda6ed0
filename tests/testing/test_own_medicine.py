"""calloff's own public functions, called off at every await."""

import asyncio
import time
from collections.abc import Callable
from typing import Any

import pytest

import calloff
from calloff.testing import SweepReport, sweep

Run = Callable[..., Any]


async def work(seconds: float = 0.002) -> str:
    await asyncio.sleep(seconds)
    return "done"


async def call() -> str:
    return await calloff.call(work(), timeout=5)


async def start_and_await_twice() -> None:
    op = calloff.start(work())
    assert await op == "done"
    assert await op == "done"


async def stop() -> None:
    op = calloff.start(work(10))
    try:
        await asyncio.sleep(0)
    finally:
        outcome = await op.stop("enough")
    assert isinstance(outcome, calloff.Cancelled)


async def outcome() -> None:
    op = calloff.start(work())
    try:
        await op.outcome()
    finally:
        op.cancel()


async def watch() -> None:
    op = calloff.start(work(0.02))
    try:
        async for _ in op.watch(every=0.005):
            pass
    finally:
        await op.stop()


async def nested_operations() -> None:
    async def parent() -> str:
        child = calloff.start(work())
        return await child

    assert await calloff.call(parent()) == "done"


async def timeouts() -> None:
    async with calloff.timeout(5), calloff.timeout(4):
        await asyncio.sleep(0.001)
    with calloff.move_on_after(0.002) as scope:
        await asyncio.sleep(10)
    assert scope.cancelled_caught


async def own_deadline() -> None:
    try:
        await calloff.wait_for(work(10), 0.002)
    except TimeoutError:
        pass


async def task_group() -> None:
    async with calloff.TaskGroup() as group:
        group.create_task(work())
        group.create_task(work(0.001))


async def shield() -> None:
    assert await calloff.shield(work(), timeout=5) == "done"


async def group() -> None:
    """Its members end one after the other, in turns of their own also where a busy machine brings all timers at once.

    Where both end in the same turn, no clean-up waits for anything that could be called off a second time.
    """

    async def opens() -> None:
        try:
            await work(0.001)
        finally:
            opened.set()

    async def follows() -> None:
        await opened.wait()
        await work(0.001)

    opened = asyncio.Event()
    async with calloff.group(timeout=5) as members:
        members.start(follows())
        members.start(opens())


async def race() -> None:
    assert await calloff.race(work(0.001), work(10), stagger=0.001) == "done"


async def thread() -> None:
    assert await calloff.call(calloff.thread(time.sleep, 0.002)) is None  # type: ignore[func-returns-value]


async def process() -> None:
    assert await calloff.call(calloff.process(time.sleep, 0.002)) is None  # type: ignore[func-returns-value]


async def run() -> None:
    assert await calloff.call(calloff.thread(lambda: calloff.run(work()))) == "done"


async def group_of_places() -> None:
    async with calloff.group(timeout=5) as members:
        members.start(calloff.thread(time.sleep, 0.002))
        members.start(calloff.command("sleep", "0.01"))
        members.start(work())


async def command() -> None:
    await calloff.call(calloff.command("sleep", "0.01"))


FUNCTIONS: dict[str, Any] = {
    "call": call,
    "start": start_and_await_twice,
    "Operation": stop,
    "Outcome": outcome,
    "Tick": watch,
    "current": nested_operations,
    "timeout": timeouts,
    "wait_for": own_deadline,
    "TaskGroup": task_group,
    "shield": shield,
    "group": group,
    "race": race,
    "group of places": group_of_places,
    "thread": thread,
    "process": process,
    "run": run,
    "command": command,
}


@pytest.mark.parametrize("name", FUNCTIONS)
def test_it_can_be_called_off_anywhere(arun: Run, name: str) -> None:
    report: SweepReport = arun(sweep(FUNCTIONS[name], jobs=2))
    assert report.verdict == "SAFE", str(report)
