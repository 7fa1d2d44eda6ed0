"""Force leaves no lock that others wait for dead, none in two hands, and cuts short no clean-up that is waited for."""

import asyncio
from asyncio import CancelledError
from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import Any

import pytest

import calloff

anyio = pytest.importorskip("anyio")

#: what is taken by one at a time
KINDS: dict[str, Callable[[], Any]] = {
    "asyncio.Lock": asyncio.Lock,
    "asyncio.Semaphore": lambda: asyncio.Semaphore(1),
    "asyncio.Condition": asyncio.Condition,
    "anyio.Lock": lambda: anyio.Lock(),
    "anyio.Lock, fast": lambda: anyio.Lock(fast_acquire=True),
    "anyio.Semaphore": lambda: anyio.Semaphore(1),
}
LOCKS = pytest.mark.parametrize("kind", sorted(KINDS))
Stops = list[calloff.Operation[None]]


async def turns(count: int = 20) -> None:
    for _ in range(count):
        await asyncio.sleep(0)


async def sleeps_under(lock: Any) -> None:
    async with lock:
        await asyncio.sleep(1000)


async def takes_it_in_clean_up(lock: Any) -> None:
    try:
        await asyncio.sleep(1000)
    finally:
        await sleeps_under(lock)


async def others_get_it(lock: Any, stop: Callable[[], Awaitable[object]]) -> None:
    """Tasks that wait for the lock while operations are forced, and one that comes later, have it one after the other."""

    async def innocent() -> None:
        async with lock:
            await asyncio.sleep(0)

    async with asyncio.timeout(30):
        waiting = [asyncio.create_task(innocent()) for _ in range(2)]
        await turns()
        await stop()
        await asyncio.gather(*waiting, innocent())


@LOCKS
@pytest.mark.parametrize("count", [2, 3])
@pytest.mark.usefixtures("patient")
async def test_who_is_forced_while_he_waits_for_it_hands_it_on(kind: str, count: int) -> None:
    lock = KINDS[kind]()
    ops = [calloff.start(takes_it_in_clean_up(lock), grace=0.1) for _ in range(count)]
    await turns()
    for op in ops:
        op.cancel()
    await turns()

    async def stop() -> None:
        for op in ops:
            outcome = await op.outcome()
            assert isinstance(outcome, calloff.Cancelled)
            assert outcome.report.rung is calloff.Rung.FORCED

    await others_get_it(lock, stop)


@LOCKS
@pytest.mark.usefixtures("patient")
async def test_child_tasks_hand_it_on_as_well(kind: str) -> None:
    lock = KINDS[kind]()

    async def body() -> None:
        await asyncio.gather(*(takes_it_in_clean_up(lock) for _ in range(3)))

    op = calloff.start(body(), grace=0.1)
    await turns()
    op.cancel()
    await turns()
    await others_get_it(lock, op.outcome)


@LOCKS
@pytest.mark.usefixtures("patient")
async def test_what_is_given_to_him_in_that_very_moment_is_not_lost(kind: str) -> None:
    for later in range(6):  # one of these is the turn of the loop in which force comes
        lock, given = KINDS[kind](), asyncio.Event()

        async def holds(lock: Any = lock, given: asyncio.Event = given) -> None:
            async with lock:
                await given.wait()

        holder = asyncio.create_task(holds())
        await turns()
        op = calloff.start(takes_it_in_clean_up(lock), grace=60)
        await turns()
        op.cancel()
        await turns()

        async def stop(op: Any = op, given: asyncio.Event = given, later: int = later) -> None:
            op.cancel(grace=0)
            await turns(later)
            given.set()
            await op.outcome()

        await others_get_it(lock, stop)
        await holder


@LOCKS
@pytest.mark.parametrize("child", [False, True])
@pytest.mark.usefixtures("patient")
async def test_who_swallows_what_he_hears_there_is_forced_all_the_same(kind: str, child: bool) -> None:
    lock, seen, given = KINDS[kind](), list[str](), asyncio.Event()

    async def holds() -> None:
        async with lock:
            await given.wait()

    async def stubborn() -> None:
        while True:
            try:
                await sleeps_under(lock)
            except CancelledError as error:
                seen.append(type(error).__name__)

    async def body() -> None:
        await (asyncio.gather(stubborn()) if child else stubborn())

    holder = asyncio.create_task(holds())
    await turns()
    op = calloff.start(body(), grace=0.1)
    await turns()

    async def stop() -> None:
        outcome = await op.stop()
        assert isinstance(outcome, calloff.Cancelled)
        assert outcome.report.rung is calloff.Rung.FORCED
        assert outcome.report.refusals > 0
        assert seen.count("ForcedOut") == 1
        given.set()

    await others_get_it(lock, stop)
    await holder


@LOCKS
@pytest.mark.usefixtures("patient")
async def test_the_clean_up_behind_it_has_its_time(kind: str) -> None:
    lock, cleaned = KINDS[kind](), asyncio.Event()

    async def body() -> None:
        try:
            with suppress(CancelledError):  # the asking
                await asyncio.sleep(1000)
            await sleeps_under(lock)
        finally:
            await turns(50)
            cleaned.set()

    async with lock:
        op = calloff.start(body(), grace=0)
        await turns()
        outcome = await op.stop()
    assert isinstance(outcome, calloff.Cancelled)
    assert outcome.report.rung is calloff.Rung.FORCED
    assert cleaned.is_set()


def conditions() -> list[Any]:
    return [asyncio.Condition(), anyio.Condition()]


async def waits_for(condition: Any, left: asyncio.Event) -> None:
    try:
        async with condition:
            await condition.wait()
    finally:
        left.set()


@pytest.mark.parametrize("which", [0, 1], ids=["asyncio", "anyio"])
@pytest.mark.parametrize("child", [False, True])
@pytest.mark.usefixtures("patient")
async def test_who_waits_for_a_condition_takes_its_lock_before_he_is_forced(which: int, child: bool) -> None:
    condition, left, inside = conditions()[which], asyncio.Event(), list[str]()

    async def worker(name: str, until: asyncio.Event) -> None:
        async with condition:
            assert not inside
            inside.append(name)
            await until.wait()
            inside.remove(name)

    async def body() -> None:
        if child:
            await asyncio.gather(waits_for(condition, left))
        else:
            await waits_for(condition, left)

    op = calloff.start(body(), grace=0.05)
    await turns()
    until = asyncio.Event()
    workers = [asyncio.create_task(worker("A", until))]
    await turns()
    workers.append(asyncio.create_task(worker("B", until)))
    await turns()
    op.cancel()
    while op.report is None or op.report.rung < calloff.Rung.FORCED:
        await asyncio.sleep(0.01)
    await asyncio.sleep(0.15)  # it is tried again, each 0.02 s
    assert not left.is_set()
    assert inside == ["A"]
    until.set()
    async with asyncio.timeout(30):
        outcome = await op.outcome()
        await asyncio.gather(*workers)
    assert isinstance(outcome, calloff.Cancelled)
    assert outcome.report.rung is calloff.Rung.FORCED
    assert not condition.locked()


@pytest.mark.usefixtures("short_last")
async def test_who_does_not_get_it_is_abandoned() -> None:
    condition, left = asyncio.Condition(), asyncio.Event()
    op = calloff.start(waits_for(condition, left), grace=0.05)
    await turns()
    async with condition:
        outcome = await op.stop()
        assert isinstance(outcome, calloff.Abandoned)
        assert "condition.wait()" in str(outcome)
        assert not left.is_set()
    async with asyncio.timeout(30):
        await left.wait()
    assert not condition.locked()


# --- clean-up that others wait for


async def refuses_once_and_cleans_up(cleaned: list[bool]) -> None:
    with suppress(CancelledError):
        await asyncio.sleep(1000)
    try:
        await asyncio.sleep(1000)
    finally:
        try:
            await asyncio.sleep(0.35)
        except BaseException:
            cleaned.append(False)
            raise
        cleaned.append(True)


async def gathered(cleaned: list[bool]) -> None:
    await asyncio.gather(refuses_once_and_cleans_up(cleaned))


async def grouped(cleaned: list[bool]) -> None:
    async with asyncio.TaskGroup() as group:
        group.create_task(refuses_once_and_cleans_up(cleaned))


async def awaited(cleaned: list[bool]) -> None:
    await asyncio.create_task(refuses_once_and_cleans_up(cleaned))


async def at_a_distance(cleaned: list[bool]) -> None:
    await asyncio.gather(asyncio.create_task(grouped(cleaned)))


@pytest.mark.parametrize("waits", [gathered, grouped, awaited, at_a_distance])
@pytest.mark.usefixtures("patient")
async def test_what_waits_for_a_child_in_its_clean_up_is_not_forced(waits: Callable[[list[bool]], Any]) -> None:
    cleaned, order = list[bool](), list[str]()

    async def body() -> None:
        try:
            await waits(cleaned)
        finally:
            order.append(f"after {len(cleaned)}")

    op = calloff.start(body(), grace=0)
    await turns()
    outcome = await op.stop()
    assert isinstance(outcome, calloff.Cancelled)
    assert outcome.report.rung is calloff.Rung.FORCED
    assert cleaned == [True]
    assert order == ["after 1"]
