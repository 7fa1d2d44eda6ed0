"""What comes from a worker and is slow to unpickle, or raises there: errors and progress as well as results."""

import asyncio
import os
import sys
import time
from decimal import Decimal

import pytest

import calloff

pytestmark = pytest.mark.usefixtures("four_workers")


@pytest.fixture
def four_workers():
    calloff.process.configure(size=4)
    yield
    calloff.process.configure(size=max(4, os.cpu_count() or 1))


def wait_for(file):
    while not os.path.exists(file):
        time.sleep(0.005)
    return "at last"


def blocks_its_owner(child, file):
    """As one that connects to something: in the worker, which tries it, it is soon done."""
    if os.getpid() != child:
        wait_for(file)
    return ValueError("at last")


class Blocks:
    """Unpickling it takes until a file is there."""

    def __init__(self, file):
        self.file = file

    def __reduce__(self):
        return wait_for, (self.file,)


class Quits:
    """Ends whatever program unpickles it."""

    def __reduce__(self):
        return sys.exit, (3,)


class BlocksAsError(Exception):
    def __reduce__(self):
        return blocks_its_owner, (os.getpid(), *self.args)


def raise_it(file):
    raise BlocksAsError(file)


async def test_an_error_that_is_slow_to_unpickle_holds_up_only_its_own_operation(tmp_path):
    file = tmp_path / "release"
    slow = calloff.start(calloff.process(raise_it, str(file)), grace=5)
    while not slow.body.unpickling:
        await asyncio.sleep(0.005)
    assert await calloff.call(calloff.process(abs, -3)) == 3
    file.touch()
    with pytest.raises(ValueError, match="at last") as caught:
        await slow
    assert "raise_it" in str(caught.value.__cause__)


async def test_an_error_that_can_not_be_waited_for_is_abandoned(tmp_path):
    file = tmp_path / "release"
    slow = calloff.start(calloff.process(raise_it, str(file)), grace=0.05)
    while not slow.body.unpickling:
        await asyncio.sleep(0.005)
    assert isinstance(await slow.stop(), calloff.Abandoned)
    file.touch()
    while slow in calloff.operations():
        await asyncio.sleep(0.005)


def report_it(file, begun, rest):
    calloff.progress(Decimal(1))
    calloff.progress(Blocks(file))
    for report in rest:
        calloff.progress(report)
    open(begun, "w").close()
    wait_for(file)


async def test_progress_that_is_slow_to_unpickle_holds_up_nobody(tmp_path):
    file, begun = tmp_path / "release", tmp_path / "begun"
    slow = calloff.start(calloff.process(report_it, str(file), str(begun), ["text", Decimal(2)]))
    while not begun.exists():
        await asyncio.sleep(0.005)
    assert await calloff.call(calloff.process(abs, -3)) == 3
    file.touch()
    await slow
    while slow.progress != Decimal(2):
        await asyncio.sleep(0.005)


def report_hostile():
    calloff.progress(Decimal(1))
    calloff.progress(Quits())
    return "survived"


async def test_progress_that_ends_whoever_unpickles_it_is_left_out():
    op = calloff.start(calloff.process(report_hostile))
    assert await op == "survived"
    while op.progress != Decimal(1):
        await asyncio.sleep(0.005)


class NotCancelled(Exception):
    """An error that passes itself off as a cancel."""

    @property  # type: ignore[misc]
    def __class__(self):
        return asyncio.CancelledError


def raise_not_cancelled():
    raise NotCancelled


async def test_an_error_is_what_its_type_is_and_not_what_it_says():
    op = calloff.start(calloff.process(raise_not_cancelled))
    assert isinstance(await op.outcome(), calloff.Failed)
