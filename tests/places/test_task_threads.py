"""Calls in threads and processes that a body waits for: waited for during the stop, and named when they go on."""

import asyncio
import functools
import operator
import os
import socket
import threading
import time
from collections.abc import Callable, Coroutine
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from multiprocessing import get_context
from operator import methodcaller
from typing import Any
from weakref import WeakKeyDictionary

import anyio.to_thread
import pytest

import calloff
from calloff import Abandoned, Cancelled, Rung
from calloff._places.task import executors
from calloff._places.task.executors import executor_call

pytestmark = pytest.mark.usefixtures("short_last")


class Call:
    """A blocking call that tells when it has begun and ends when it is let."""

    def __init__(self) -> None:
        self.begun = threading.Event()
        self.let = threading.Event()

    def crunch(self) -> None:
        self.begun.set()
        assert self.let.wait(30)


async def by_to_thread(function: Callable[[], Any]) -> None:
    await asyncio.to_thread(function)


async def by_default_executor(function: Callable[[], Any]) -> None:
    await asyncio.get_running_loop().run_in_executor(None, function)


async def by_executor(function: Callable[[], Any]) -> None:
    executor = ThreadPoolExecutor(1, thread_name_prefix="mine")
    try:
        await asyncio.get_running_loop().run_in_executor(executor, function)
    finally:
        executor.shutdown(wait=False)


async def by_anyio(function: Callable[[], Any]) -> None:
    await anyio.to_thread.run_sync(function)


async def by_anyio_abandoned(function: Callable[[], Any]) -> None:
    await anyio.to_thread.run_sync(function, abandon_on_cancel=True)


async def in_a_gather(function: Callable[[], Any]) -> None:
    await asyncio.gather(by_to_thread(function), asyncio.sleep(60))


async def in_the_block_of_a_group(function: Callable[[], Any]) -> None:
    async with asyncio.TaskGroup() as group:
        group.create_task(by_to_thread(function))
        await asyncio.sleep(60)


async def in_a_group(function: Callable[[], Any]) -> None:
    async with asyncio.TaskGroup() as group:
        group.create_task(by_anyio(function))


async def in_a_wait_for(function: Callable[[], Any]) -> None:
    await asyncio.wait_for(asyncio.to_thread(function), 60)


async def behind_a_shield(function: Callable[[], Any]) -> None:
    await asyncio.shield(asyncio.get_running_loop().run_in_executor(None, function))


async def behind_a_shield_in_a_task(function: Callable[[], Any]) -> None:
    await asyncio.shield(asyncio.to_thread(function))


async def as_sync_to_async_of_asgiref(function: Callable[[], Any]) -> None:
    call = asyncio.get_running_loop().run_in_executor(None, function)
    try:
        await asyncio.shield(call)
    except asyncio.CancelledError:
        call.cancel()
        await call


Way = Callable[[Callable[[], Any]], Coroutine[Any, Any, None]]
ways = pytest.mark.parametrize(
    "way",
    [
        by_to_thread,
        by_default_executor,
        by_executor,
        by_anyio,
        by_anyio_abandoned,
        in_a_gather,
        in_the_block_of_a_group,
        in_a_group,
        in_a_wait_for,
        behind_a_shield,
        behind_a_shield_in_a_task,
        as_sync_to_async_of_asgiref,
    ],
)


async def until(condition: Callable[[], object]) -> None:
    async with asyncio.timeout(20):
        while not condition():
            await asyncio.sleep(0.005)


@ways
async def test_cancelled_is_said_when_the_call_has_ended(way: Way) -> None:
    call = Call()
    op = calloff.start(way(call.crunch), grace=20)
    await until(call.begun.is_set)
    op.cancel()
    await asyncio.sleep(0.1)
    assert not op.done()
    assert op.state.value == "stopping"
    assert any(frame.function == "crunch" for frame in op.where())
    call.let.set()
    outcome = await op.outcome()
    assert isinstance(outcome, Cancelled)
    assert outcome.report.rung is Rung.ASKED
    assert outcome.report.refusals == 0


@ways
async def test_a_call_that_goes_on_is_named_with_its_line(way: Way) -> None:
    call = Call()
    op = calloff.start(way(call.crunch), grace=0.1)
    await until(call.begun.is_set)
    outcome = await op.stop()
    assert isinstance(outcome, Abandoned)
    (survivor,) = outcome.report.survivors
    assert survivor.startswith("thread ")
    assert f" in crunch ({__file__}:" in survivor or " in crunch (tests/places/test_task_threads.py:" in survivor
    assert outcome.report.stuck_at
    assert op in calloff.operations()
    call.let.set()
    await until(lambda: op not in calloff.operations())


async def test_a_call_behind_a_shield_that_others_wait_for_is_theirs() -> None:
    call = Call()
    shared = asyncio.ensure_future(asyncio.to_thread(call.crunch))

    async def wait_for_it() -> None:
        await asyncio.shield(shared)

    first, second = calloff.start(wait_for_it(), grace=20), calloff.start(wait_for_it(), grace=20)
    await until(call.begun.is_set)
    outcome = await first.stop()
    assert isinstance(outcome, Cancelled)
    assert not outcome.report.survivors
    call.let.set()
    await second


async def test_a_call_behind_a_shield_that_has_not_begun_begins() -> None:
    first, second = Call(), Call()
    with ThreadPoolExecutor(1) as executor:
        loop = asyncio.get_running_loop()
        ahead = loop.run_in_executor(executor, first.crunch)
        await until(first.begun.is_set)

        async def queued() -> None:
            await asyncio.shield(loop.run_in_executor(executor, second.crunch))

        op = calloff.start(queued(), grace=0.1)
        await asyncio.sleep(0)
        outcome = await op.stop()
        assert isinstance(outcome, Abandoned)
        assert outcome.report.survivors == ("call that waits for a thread",)
        first.let.set()
        await ahead
        await until(second.begun.is_set)
        second.let.set()
        await until(lambda: op not in calloff.operations())


async def test_what_waits_for_itself_behind_a_shield_is_stopped() -> None:
    async def wait_for_itself() -> None:
        this = asyncio.current_task()
        assert this is not None
        await asyncio.shield(this)

    task: Any = asyncio.ensure_future(wait_for_itself())
    op = calloff.start(wait_for_itself(), grace=20)
    await asyncio.sleep(0)
    assert executor_call(task._fut_waiter) is None
    assert isinstance(await op.stop(), Cancelled)
    task.cancel()
    await asyncio.wait({task})


@pytest.mark.parametrize("of_a_task", [False, True])
async def test_what_many_wait_for_behind_a_shield_is_looked_at_once(
    of_a_task: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each look goes through all who wait for it: a thousand that are stopped at once would take seconds."""
    seen: list[object] = []

    class Counts(WeakKeyDictionary[Any, float]):
        def __setitem__(self, future: Any, until: float) -> None:
            seen.append(future)  # a list of all was made
            super().__setitem__(future, until)

    monkeypatch.setattr(executors, "_crowds", Counts())
    loop = asyncio.get_running_loop()
    future: asyncio.Future[None] = loop.create_future()

    async def waits() -> None:
        await future

    shared: asyncio.Future[None] = loop.create_task(waits()) if of_a_task else future

    async def body() -> None:
        await asyncio.shield(shared)

    operations = [calloff.start(body()) for _ in range(200)]
    await asyncio.sleep(0.01)
    for operation in operations:
        operation.cancel()
    assert 1 <= seen.count(shared) < 20
    for operation in operations:
        assert isinstance(await operation.outcome(), Cancelled)
    assert not shared.done()
    future.set_result(None)
    await shared


async def test_a_function_of_c_is_named() -> None:
    begun, let = threading.Lock(), threading.Lock()
    begun.acquire()
    let.acquire()
    steps = map(methodcaller("__call__"), (begun.release, let.acquire))  # in the midst of it is no code of Python
    op = calloff.start(asyncio.to_thread(functools.reduce, operator.is_, steps), grace=0)
    await until(lambda: begun.acquire(blocking=False))
    outcome = await op.stop()
    let.release()
    assert isinstance(outcome, Abandoned)
    (survivor,) = outcome.report.survivors
    assert survivor.endswith(" in reduce")
    await until(lambda: op not in calloff.operations())


async def test_a_call_that_has_not_begun_never_does() -> None:
    first, second = Call(), Call()
    with ThreadPoolExecutor(1) as executor:
        loop = asyncio.get_running_loop()
        busy = loop.run_in_executor(executor, first.crunch)
        await until(first.begun.is_set)

        async def body() -> None:
            await loop.run_in_executor(executor, second.crunch)

        op = calloff.start(body())
        await asyncio.sleep(0.02)
        outcome = await op.stop()
        assert isinstance(outcome, Cancelled)
        assert outcome.report.survivors == ()
        assert outcome.report.seconds < 5
        first.let.set()
        await busy
    assert not second.begun.is_set()


def nap(path: str) -> None:
    open(path, "w").close()
    while os.path.exists(path):
        time.sleep(0.01)


async def test_a_call_in_a_pool_of_processes(tmp_path: Any) -> None:
    path = tmp_path / "begun"
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as executor:

        async def body() -> None:
            await asyncio.get_running_loop().run_in_executor(executor, nap, str(path))

        op = calloff.start(body(), grace=0.1)
        await until(path.exists)
        outcome = await op.stop()
        assert isinstance(outcome, Abandoned)
        (survivor,) = outcome.report.survivors
        assert "process" in survivor
        assert " in nap (" in survivor
        path.unlink()
        await until(lambda: op not in calloff.operations())


async def test_looking_up_a_name_is_left_behind(monkeypatch: pytest.MonkeyPatch) -> None:
    """It changes nothing, nobody can end it, and everybody who has a timeout for a connection relies on leaving it."""
    call = Call()

    def lookup(*_: object) -> list[Any]:
        call.crunch()
        return []

    monkeypatch.setattr(socket, "getaddrinfo", lookup)

    async def body() -> None:
        await asyncio.get_running_loop().run_in_executor(None, socket.getaddrinfo, "example.org", 80)

    op = calloff.start(body())
    await until(call.begun.is_set)
    outcome = await op.stop()
    assert isinstance(outcome, Cancelled)
    assert outcome.report.seconds < 2
    call.let.set()


async def test_what_has_ended_when_it_would_be_abandoned_is_told_as_ended(monkeypatch: pytest.MonkeyPatch) -> None:
    """The word of a thread's end is still on its way then: nobody is named, and nothing is left."""
    monkeypatch.setattr("calloff._places.task.executors.ExecutorCall.when_done", lambda *_: None)
    call = Call()
    op = calloff.start(by_to_thread(call.crunch), grace=0.1)
    await asyncio.to_thread(call.begun.wait)
    op.cancel()
    await asyncio.sleep(0)
    call.let.set()
    assert isinstance(await op.outcome(), Cancelled)
    assert op.report is not None
    assert op.report.survivors == ()
