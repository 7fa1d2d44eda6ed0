"""Tasks of another event loop that a body waits for: waited for during the stop, forced there, named when they go on."""

import asyncio
import threading
import time
from collections.abc import Iterator
from typing import Any

import pytest

import calloff
from calloff import Abandoned, Cancelled, Rung
from calloff._places.task.climbing import ClimbingBody

pytestmark = pytest.mark.usefixtures("short_last")


class Elsewhere:
    """A loop in a thread, and what its task does."""

    def __init__(self) -> None:
        self.loop = asyncio.new_event_loop()
        self.begun = threading.Event()
        self.let = threading.Event()
        self.ended = threading.Event()

    def start(self, coro: Any) -> "asyncio.Future[Any]":
        return asyncio.wrap_future(asyncio.run_coroutine_threadsafe(coro, self.loop))

    async def refuses(self) -> None:
        self.begun.set()
        try:
            while True:
                try:
                    await asyncio.sleep(60)
                except asyncio.CancelledError:
                    pass
        finally:
            self.ended.set()

    async def cleans_up(self) -> None:
        self.begun.set()
        try:
            await asyncio.sleep(60)
        finally:
            while not self.let.is_set():
                await asyncio.sleep(0.01)
            self.ended.set()

    async def blocks(self) -> None:
        self.begun.set()
        self.let.wait(30)
        self.ended.set()


@pytest.fixture
def elsewhere() -> Iterator[Elsewhere]:
    other = Elsewhere()
    thread = threading.Thread(target=other.loop.run_forever, daemon=True)
    thread.start()
    yield other
    other.let.set()
    assert not other.begun.is_set() or other.ended.wait(20)
    other.loop.call_soon_threadsafe(other.loop.stop)
    thread.join(20)
    other.loop.close()


async def begun(other: Elsewhere) -> None:
    await asyncio.get_running_loop().run_in_executor(None, other.begun.wait)
    for _ in range(5):  # turns in which the body, and a child of it, come to wait for the task
        await asyncio.sleep(0)


async def alone(future: "asyncio.Future[Any]") -> None:
    await future


async def in_a_gather(future: "asyncio.Future[Any]") -> None:
    await asyncio.gather(future, asyncio.sleep(60))


async def in_a_group(future: "asyncio.Future[Any]") -> None:
    async with asyncio.TaskGroup() as group:
        group.create_task(alone(future))


ways = pytest.mark.parametrize("way", [alone, in_a_gather, in_a_group])


@ways
async def test_one_that_refuses_is_forced(way: Any, elsewhere: Elsewhere) -> None:
    op = calloff.start(way(elsewhere.start(elsewhere.refuses())), grace=0.2)
    await begun(elsewhere)
    outcome = await op.stop()
    assert elsewhere.ended.is_set()
    assert isinstance(outcome, Cancelled)
    assert outcome.report.rung is Rung.FORCED
    assert outcome.report.survivors == ()


async def test_force_is_told_also_where_its_own_thread_is_quicker(
    elsewhere: Elsewhere, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The operation that it waits for is forced in that thread, before this one comes to look at the task."""
    tasks: list[asyncio.Task[Any]] = []

    async def waits() -> None:
        task = asyncio.current_task()
        assert task is not None
        tasks.append(task)
        await calloff.call(elsewhere.refuses(), grace=3)  # in that thread, long after force has begun here

    op = calloff.start(alone(elsewhere.start(waits())), grace=0.1)
    force = ClimbingBody.force

    def held_up(body: ClimbingBody) -> bool:
        if body is op.body:
            assert elsewhere.ended.wait(20)
            while not tasks[0].done():
                time.sleep(0.001)
        return force(body)

    monkeypatch.setattr(ClimbingBody, "force", held_up)
    await begun(elsewhere)
    outcome = await op.stop()
    assert isinstance(outcome, Cancelled)
    assert (outcome.report.rung, outcome.report.survivors) == (Rung.FORCED, ())


@ways
async def test_cancelled_is_said_when_its_clean_up_has_ended(way: Any, elsewhere: Elsewhere) -> None:
    op = calloff.start(way(elsewhere.start(elsewhere.cleans_up())), grace=20)
    await begun(elsewhere)
    op.cancel()
    await asyncio.sleep(0.1)
    assert not op.done()
    elsewhere.let.set()
    outcome = await op.outcome()
    assert elsewhere.ended.is_set()
    assert isinstance(outcome, Cancelled)
    assert outcome.report.rung is Rung.ASKED


async def test_one_that_blocks_its_loop_is_named(elsewhere: Elsewhere) -> None:
    op = calloff.start(alone(elsewhere.start(elsewhere.blocks())), grace=0.1)
    await begun(elsewhere)
    outcome = await op.stop()
    assert not elsewhere.ended.is_set()
    elsewhere.let.set()
    assert isinstance(outcome, Abandoned)
    (survivor,) = outcome.report.survivors
    assert " of another event loop in " in survivor
    assert "blocks (" in survivor
    async with asyncio.timeout(20):
        while op in calloff.operations():
            await asyncio.sleep(0.01)
