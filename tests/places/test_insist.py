"""Asking again spares the clean-up of the tasks that a body waits for."""

import asyncio
import contextlib
import gc
from collections.abc import Callable
from typing import Any

import pytest
from conftest import TIMES_OUT_AFTER_A_CANCEL

import calloff
from calloff import Rung


async def _cleaning(cleaned: list[int]) -> None:
    try:
        await asyncio.sleep(60)
    finally:
        await asyncio.sleep(0.1)
        cleaned.append(1)


async def _direct(cleaned: list[int]) -> None:
    await asyncio.create_task(_cleaning(cleaned))


async def _in_a_task_group(cleaned: list[int]) -> None:
    async with asyncio.TaskGroup() as group:
        group.create_task(asyncio.sleep(60))
        group.create_task(_cleaning(cleaned))


async def _in_a_gather(cleaned: list[int]) -> None:
    await asyncio.gather(asyncio.sleep(60), _cleaning(cleaned), return_exceptions=True)


async def _deep(cleaned: list[int]) -> None:
    await asyncio.gather(asyncio.sleep(60), _in_a_task_group(cleaned), return_exceptions=True)


async def _after_a_limit_of_its_own(cleaned: list[int]) -> None:
    try:
        await asyncio.sleep(60)
    finally:
        with calloff.move_on_after(0):
            await asyncio.sleep(60)
        await asyncio.sleep(0.1)
        cleaned.append(1)


async def _after_a_timeout_of_its_own(cleaned: list[int]) -> None:
    try:
        await asyncio.sleep(60)
    finally:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(0):
                await asyncio.sleep(60)
        await asyncio.sleep(0.1)
        cleaned.append(1)


@pytest.mark.parametrize(
    "way",
    [
        _direct,
        _in_a_task_group,
        _in_a_gather,
        _deep,
        _after_a_limit_of_its_own,
        pytest.param(_after_a_timeout_of_its_own, marks=TIMES_OUT_AFTER_A_CANCEL),
    ],
)
@pytest.mark.usefixtures("begins_first")
async def test_clean_up_of_a_task_is_let_alone(way: Callable[[list[int]], Any]) -> None:
    cleaned: list[int] = []
    operation = calloff.start(way(cleaned), timeout=0.05)
    outcome = await operation.outcome()
    assert outcome.report is not None
    assert outcome.report.rung is Rung.ASKED
    assert outcome.report.refusals == 0
    assert cleaned == [1]


async def _refuse(depth: int) -> None:
    if depth:
        await _refuse(depth - 1)
    while True:
        try:
            await asyncio.sleep(60)
        except asyncio.CancelledError:
            pass


async def _refuse_behind_a_child(depth: int) -> None:
    async with asyncio.TaskGroup() as group:
        group.create_task(_refuse(depth))


@pytest.mark.parametrize(("way", "tasks"), [(_refuse, 1), (_refuse_behind_a_child, 2)])
async def test_each_frame_is_looked_at_once_for_each_asking(
    monkeypatch: pytest.MonkeyPatch, way: Callable[[int], Any], tasks: int
) -> None:
    depth = 50
    looks = [0]
    referents = gc.get_referents

    def counting(*things: object) -> list[object]:
        looks[0] += len(things)
        return referents(*things)

    operation = calloff.start(way(depth), grace=30)
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    operation.cancel()
    for _ in range(5):
        await asyncio.sleep(0)
    body = operation.body
    assert body is not None
    monkeypatch.setattr(gc, "get_referents", counting)
    async with asyncio.timeout(20):
        while not body.insist():  # on a busy machine the ladder may have done so just now
            looks[0] = 0
            await asyncio.sleep(0)
    monkeypatch.undo()
    few = 10 * tasks  # of the outermost frames, and of what waits at the end
    assert depth <= looks[0] <= depth + few, "the frames are walked once, not once for each question"
    await operation.stop(grace=0)


# --- clean-up in asynchronous generators


async def _steps(log):
    try:
        while True:
            yield 1
            await asyncio.sleep(3600)
    finally:
        try:
            await asyncio.sleep(0.2)
            log.append("clean")
        except asyncio.CancelledError:
            log.append("broken")
            raise


async def _steps_of_steps(log):
    async for step in _steps(log):
        yield step


async def _over(steps):
    async for _ in steps:
        pass


async def _over_closing(steps):
    async with contextlib.aclosing(steps) as closing:
        async for _ in closing:
            await asyncio.sleep(3600)


@pytest.mark.parametrize(("body", "steps"), [(_over, _steps), (_over, _steps_of_steps), (_over_closing, _steps)])
async def test_the_clean_up_of_an_asynchronous_generator_is_let_alone(body, steps):
    log: list[Any] = []
    op = calloff.start(body(steps(log)), grace=30)
    await asyncio.sleep(0)
    outcome = await op.stop()
    assert log == ["clean"]
    assert (outcome.report.refusals, outcome.report.rung) == (0, calloff.Rung.ASKED)
