"""The hooks, and the tools that are made with them, survive being called off at every await."""

import asyncio

import pytest

import calloff
from calloff._operation.asking import handed
from calloff.testing import sweep


async def query():
    await asyncio.sleep(0.002)
    return "rows"


async def asked_by_a_task():
    async def ask():
        await asyncio.sleep(0)

    async with calloff.on_stop(ask):
        await query()


async def asked_in_a_thread():
    asked = []
    async with calloff.on_stop(lambda: asked.append(1)), calloff.on_stop(lambda: asked.append(2)):
        await query()


async def a_tool():
    assert await calloff.tool(timeout=30)(query)() == "rows"


async def nothing_is_left():
    assert not handed


@pytest.mark.parametrize("work", [asked_by_a_task, asked_in_a_thread, a_tool])
def test_it_is_safe(work):
    report = asyncio.run(sweep(work, check=nothing_is_left))
    assert report.verdict == "SAFE", str(report)
    assert report.points
