"""What is forced takes along the operations that it has started and waits for: their own grace may be without end."""

import asyncio
import math
import time
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

import calloff
from calloff._words.policy import Policy


def blocks_for(seconds: float) -> None:
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        pass


class Work:
    """Goes on whenever it is asked; `obeys` tells whether it ends by force."""

    def __init__(self, obeys: bool) -> None:
        self.obeys = obeys
        self.running = 0
        self.over = False

    async def run(self) -> None:
        self.running += 1
        try:
            while not self.over:
                try:
                    await asyncio.sleep(0)
                except asyncio.CancelledError:
                    pass
                except calloff.StopForced:
                    if self.obeys:
                        raise
        finally:
            self.running -= 1

    def start(self) -> calloff.Operation[None]:
        return calloff.start(self.run(), grace=math.inf)


async def call(work: Work) -> None:
    await calloff.call(work.run(), grace=math.inf)


async def gather(work: Work) -> None:
    await asyncio.gather(work.start(), work.start())


async def group(work: Work) -> None:
    async with calloff.group(grace=math.inf) as started:
        started.start(work.run())


async def in_a_group(work: Work) -> None:
    async with calloff.group(grace=math.inf) as started:
        started.start(work.run())
        while True:
            try:
                await asyncio.sleep(3600)
            except asyncio.CancelledError:
                pass


async def mapped(work: Work) -> None:
    await calloff.map(lambda _: work.run(), range(2), jobs=2, grace=math.inf)


async def race(work: Work) -> None:
    await calloff.race(work.run(), work.run(), grace=math.inf)


async def task_group(work: Work) -> None:
    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(call(work))


async def limited(work: Work) -> None:
    await calloff.wait_for(work.start(), 3600)


async def stopping(work: Work) -> None:
    op = work.start()
    await asyncio.sleep(0)
    await op.stop()


async def further_in(work: Work) -> None:
    await calloff.call(call(work), grace=math.inf)


async def in_clean_up(work: Work) -> None:
    try:
        await asyncio.sleep(3600)
    finally:
        await call(work)


WAITS = [call, gather, group, in_a_group, mapped, race, task_group, limited, stopping, further_in, in_clean_up]


async def run_until_it_runs(wait: Callable[[Work], Awaitable[None]], work: Work) -> calloff.Operation[Any]:
    async def waiting() -> None:
        await wait(work)

    op = calloff.start(waiting())
    for _ in range(20):
        await asyncio.sleep(0)
    assert work.running or wait is in_clean_up
    return op


@pytest.mark.parametrize("grace", [0.0, 0.03])
@pytest.mark.parametrize("wait", WAITS)
async def test_nothing_that_it_waits_for_goes_on_behind_the_end_of_what_was_forced(
    wait: Callable[[Work], Awaitable[None]], grace: float
) -> None:
    work = Work(obeys=True)
    op = await run_until_it_runs(wait, work)
    outcome = await op.stop(grace=grace)
    running, work.over = work.running, True
    assert isinstance(outcome, calloff.Cancelled), outcome
    assert outcome.report.rung is calloff.Rung.FORCED
    assert running == 0


@pytest.mark.parametrize("turns", range(4))
async def test_an_asking_that_a_late_loop_has_not_carried_out_arrives_before_force(turns: int) -> None:
    work = Work(obeys=True)
    heard: list[str] = []

    async def waiting() -> None:
        try:
            await asyncio.sleep(3600)
        except (asyncio.CancelledError, calloff.StopForced) as error:
            heard.append(type(error).__name__)
            await call(work)

    op = calloff.start(waiting())
    await asyncio.sleep(0)
    op.cancel(grace=0.01)
    for _ in range(turns):
        await asyncio.sleep(0)
    blocks_for(0.02)
    outcome = await op.outcome()
    running, work.over = work.running, True
    assert isinstance(outcome, calloff.Cancelled), outcome
    assert outcome.report.rung is calloff.Rung.FORCED
    assert heard == ["CancelledError"]
    assert running == 0


@pytest.mark.parametrize("wait", [call, gather, group, task_group, further_in])
async def test_what_waits_for_one_that_force_does_not_end_is_abandoned_with_it(
    wait: Callable[[Work], Awaitable[None]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(calloff.Operation, "policy", Policy(last=0.1))
    work = Work(obeys=False)
    op = await run_until_it_runs(wait, work)
    outcome = await op.stop(grace=0)
    assert isinstance(outcome, calloff.Abandoned), outcome
    assert work.running
    work.over = True
    while calloff.operations():
        await asyncio.sleep(0)


async def test_one_that_was_started_elsewhere_keeps_its_grace() -> None:
    work = Work(obeys=True)
    shared = work.start()

    async def waiting() -> None:
        await shared

    op = calloff.start(waiting())
    await asyncio.sleep(0)
    assert isinstance(await op.stop(grace=0), calloff.Cancelled)
    assert work.running
    assert not shared.done()
    await shared.stop(grace=0)


@pytest.mark.parametrize("wait", [None, call, group])
async def test_what_ends_by_force_while_the_loop_is_held_up_has_ended(
    wait: Callable[[Work], Awaitable[None]] | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A busy machine, or other work of the loop, may take all the time that is left after force."""
    monkeypatch.setattr(calloff.Operation, "policy", Policy(last=0.05))

    class Slow(Work):
        async def run(self) -> None:
            try:
                await super().run()
            finally:
                time.sleep(0.1)
                await asyncio.sleep(0)
                await asyncio.sleep(0)

    work = Slow(obeys=True)
    op = work.start() if wait is None else await run_until_it_runs(wait, work)
    await asyncio.sleep(0)
    outcome = await op.stop(grace=0)
    assert isinstance(outcome, calloff.Cancelled), outcome
    assert outcome.report.rung is calloff.Rung.FORCED


async def test_what_holds_up_the_loop_again_and_again_is_abandoned(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(calloff.Operation, "policy", Policy(last=0.05))
    over = False
    turns = 0

    async def body() -> None:
        nonlocal turns
        while not over:
            try:
                await asyncio.sleep(0)
                time.sleep(0.1)
                turns += 1
            except (asyncio.CancelledError, calloff.StopForced):
                turns = 0

    op = calloff.start(body())
    await asyncio.sleep(0)
    outcome = await op.stop(grace=0)
    assert isinstance(outcome, calloff.Abandoned), outcome
    assert turns < 10
    over = True
    while calloff.operations():
        await asyncio.sleep(0)


@pytest.mark.parametrize("wait", [call, group, task_group, further_in])
async def test_what_was_forced_later_is_not_given_up_before_what_waits_for_it(
    wait: Callable[[Work], Awaitable[None]], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The loop is so late for the one that it gets further turns, and nearly in time for those below it."""
    monkeypatch.setattr(calloff.Operation, "policy", Policy(last=0.2))
    work = Work(obeys=False)
    op = await run_until_it_runs(wait, work)
    ops = sorted(calloff.operations(), key=lambda each: int(each.id))  # each is the parent of the next
    assert ops[0] is op
    op.cancel(grace=0)
    while not forced_at(ops[-1]):
        if forced_at(op) and not forced_at(ops[1]):
            blocks_for(0.05)
        await asyncio.sleep(0)
    blocks_for(forced_at(ops[-1]) + 0.2 + 0.005 - asyncio.get_running_loop().time())
    await asyncio.wait([asyncio.ensure_future(each.completion()) for each in ops])
    assert {each.state for each in ops} == {"abandoned"}
    work.over = True
    while calloff.operations():
        await asyncio.sleep(0)


def forced_at(op: calloff.Operation[Any]) -> float:
    climb = op._stop and op._stop._climb
    return (climb and climb.forced_at) or 0.0


async def test_a_blocked_loop_has_no_turns_to_give() -> None:
    """Whoever carries out the ladder in its place would look five times more, each a while later."""
    work = Work(obeys=False)
    op = work.start()
    await asyncio.sleep(0)
    op.cancel(grace=0)
    stop = op._stop
    assert stop is not None
    assert not stop._is_held_up(op, 10.0)
    op.timers.until = 0.0  # as in a turn of the loop
    assert stop._is_held_up(op, 10.0)
    op.timers.until = math.inf
    work.obeys = True
    await op.outcome()
