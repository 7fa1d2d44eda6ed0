"""What a traceback shows of an error that leaves `calloff.run`."""

import asyncio
import traceback
from typing import Any

import pytest

import calloff


def steps(error):
    """The functions in its traceback, without those of the test."""
    return [step.name for step in traceback.extract_tb(error.__traceback__)][1:]


async def waits():
    await asyncio.sleep(3600)


async def calls():
    return await calloff.call(waits(), timeout=0.01)


async def fails():
    raise ValueError("no such luck")


def test_a_limit_shows_no_step_of_ours_but_the_call():
    with pytest.raises(calloff.TimedOut) as caught:
        calloff.run(calloff.call(waits(), timeout=0.01))
    assert steps(caught.value) == ["run", "unwrap"]


def test_a_limit_further_in_shows_where_it_was_waited_for():
    with pytest.raises(calloff.TimedOut) as caught:
        calloff.run(calls())
    assert steps(caught.value) == ["run", "unwrap", "calls"]


def test_an_error_of_the_caller_begins_with_their_step():
    with pytest.raises(ValueError, match="no such luck") as caught:
        calloff.run(fails())
    assert steps(caught.value) == ["run", "unwrap", "fails"]


def test_a_wrong_call_shows_what_refused_it():
    no_work: Any = 3

    async def wrong():
        await calloff.call(no_work)

    with pytest.raises(TypeError, match="work must be") as caught:
        calloff.run(wrong())
    assert steps(caught.value)[:4] == ["run", "unwrap", "wrong", "call"]
