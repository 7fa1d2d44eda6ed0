"""`wait_for`: what CPython's own tests do not ask."""

import asyncio

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


async def test_nan_is_refused() -> None:
    with pytest.raises(ValueError, match="NaN"):
        await calloff.wait_for(asyncio.get_running_loop().create_future(), float("nan"))
