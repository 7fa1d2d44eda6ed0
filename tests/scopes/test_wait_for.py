"""`wait_for`: what CPython's own tests do not ask."""

import asyncio
import datetime
import math
from typing import Any

import pytest

import calloff


async def hang() -> None:
    await asyncio.sleep(60)  # here


async def test_the_error_names_the_line() -> None:
    with pytest.raises(calloff.TimedOut, match=r"within 0\.01 s: at hang \(.*# here"):
        await calloff.wait_for(hang(), 0.01)
    work = asyncio.ensure_future(hang())
    await asyncio.sleep(0)
    with pytest.raises(calloff.TimedOut, match=r"within 0 s: at hang \(.*# here"):
        await calloff.wait_for(work, 0)
    assert work.cancelled()


async def test_operations_are_stopped_with_it() -> None:
    op = calloff.start(hang())
    with pytest.raises(TimeoutError):
        await calloff.wait_for(op, 0.02)
    assert isinstance(await op.outcome(), calloff.Cancelled)


@pytest.mark.parametrize(
    ("timeout", "error"),
    [(math.nan, ValueError), ("1", TypeError), (datetime.timedelta(1), TypeError), ([], TypeError)],
)
async def test_what_is_no_number_is_refused(timeout: Any, error: type[Exception]) -> None:
    with pytest.raises(error, match=r"^timeout must be a number of seconds or None, not "):
        await calloff.wait_for(hang(), timeout)  # which is closed: nobody complains that it was never awaited
