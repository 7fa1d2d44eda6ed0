"""Detached work is bound by nothing of whoever starts it: neither by operations nor by scopes."""

import asyncio
import math

import calloff


async def test_it_has_no_deadline_of_those_who_start_it():
    async def asks():
        return calloff.remaining()

    async with calloff.timeout(30):
        inherited = await calloff.start(asks())
        found = [
            await calloff.start(asks(), detached=True),
            await calloff.start(calloff.thread(calloff.remaining), detached=True),
        ]
        own = await calloff.start(asks(), detached=True, timeout=5)
        async with calloff.timeout(20):
            nearest = await calloff.start(asks(), detached=True)
    assert inherited <= 30
    assert [*found, nearest] == [math.inf] * 3
    assert own <= 5


async def test_a_scope_inside_counts():
    async def asks():
        async with calloff.timeout(10):
            await asyncio.sleep(0)
            return calloff.remaining()

    async with calloff.timeout(3):
        found = await calloff.start(asks(), detached=True)
        assert 3 < found <= 10
        assert calloff.remaining() < 3.001
