"""Asking again spares the clean-up of the tasks that a body waits for."""

import asyncio
from collections.abc import Callable
from typing import Any

import pytest

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


@pytest.mark.parametrize("way", [_direct, _in_a_task_group, _in_a_gather, _deep])
def test_clean_up_of_a_task_is_let_alone(arun: Callable[..., Any], way: Callable[[list[int]], Any]) -> None:
    async def main() -> None:
        cleaned: list[int] = []
        operation = calloff.start(way(cleaned), timeout=0.05)
        outcome = await operation.outcome()
        assert outcome.report is not None
        assert outcome.report.rung is Rung.ASKED
        assert outcome.report.refusals == 0
        assert cleaned == [1]

    arun(main)
