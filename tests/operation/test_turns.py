"""Waiting for a turn: so many at a time in a group, and how long work may be pending."""

import asyncio
import threading
import time

import pytest

import calloff
from calloff import Cancelled, Completed
from calloff._places.process.pool import SETTINGS


async def test_a_group_runs_so_many_at_a_time_and_limits_count_from_the_begin():
    now = most = 0

    async def one(item):
        nonlocal now, most
        now += 1
        most = max(most, now)
        await asyncio.sleep(0.03)
        now -= 1
        return item

    async with calloff.group(jobs=3, on_error="collect") as group:
        ops = [group.start(one(item), timeout=60.0) for item in range(90)]
        assert all(str(op.state) == "pending" and op.deadline is None for op in ops[3:])
        assert ops[50].cancel("not this one")
        await asyncio.sleep(0)
        assert ops[50].done()
    assert most == 3
    for item, op in enumerate(ops):
        outcome = await op.outcome()
        if item == 50:
            assert isinstance(outcome, Cancelled)
            assert not outcome.report.started
        else:
            assert outcome == Completed(item)


async def test_what_waits_in_a_group_keeps_its_context_and_its_place():
    seen = []

    async def one():
        seen.append(calloff.current().parent)

    async with calloff.group(jobs=1) as group:
        group.start(asyncio.sleep(0.01))
        op = group.start(one())
        blocking = group.start(calloff.thread(threading.get_ident), name="mine")
        assert (op.name.rpartition(".")[2], op.place, op.where()) == ("one", "task", ())
        assert (blocking.name, blocking.place, str(blocking.state)) == ("mine", "thread", "pending")
    assert seen == [calloff.current()]
    assert blocking.result() != threading.get_ident()


async def test_a_group_that_is_called_off_never_starts_what_waits():
    ran = []

    async def one(item):
        ran.append(item)
        await asyncio.sleep(3600)

    async def fails():
        raise ValueError

    with pytest.raises(calloff.TimedOut):
        async with calloff.group(jobs=2, timeout=0.5) as group:  # within which two surely begin, on a busy uvloop, too
            for item in range(10):
                group.start(one(item))
    assert ran == [0, 1]
    with pytest.raises(ExceptionGroup):
        async with calloff.group(jobs=2) as group:
            group.start(one(2))
            group.start(fails())
            group.start(one(3))
    assert ran == [0, 1, 2]


@pytest.mark.parametrize(("jobs", "error"), [(0, ValueError), (True, TypeError), (1.5, TypeError)])
def test_wrong_numbers_of_jobs(jobs, error):
    with pytest.raises(error, match="jobs must be"):
        calloff.group(jobs=jobs)


async def test_work_that_is_none_is_refused_at_once():
    async with calloff.group(jobs=1) as group:
        with pytest.raises(TypeError, match="work must be"):
            group.start(3)  # type: ignore[arg-type]  # no work
        op = group.start(asyncio.sleep(0, "fine"))
    assert op.result() == "fine"


def test_patience_ends_what_waits_too_long_and_nothing_else():
    gate = threading.Event()

    async def main():
        op = calloff.start(calloff.process(time.sleep, 3600), grace=0)
        while str(op.state) == "pending":
            await asyncio.sleep(0.01)
        with pytest.raises(calloff.TimedOut, match=r"'sleep' did not get its turn within 0\.1 s") as caught:
            await calloff.call(calloff.process(time.sleep, 0), patience=0.1, timeout=60)
        assert caught.value.reason.kind == "deadline"
        assert not caught.value.report.started
        waits = calloff.start(calloff.process(time.sleep, 0.3), patience=60, timeout=30)
        await op.stop(grace=0)
        assert await waits.outcome() == Completed(None)
        assert await calloff.call(calloff.thread(gate.wait, 0.2), patience=60) is False  # it has its turn at once
        with pytest.raises(ValueError, match="patience must be 0 or more seconds"):
            calloff.start(asyncio.sleep(0), patience=-1)

    size = SETTINGS.size
    calloff.process.configure(size=1)
    try:
        calloff.run(main())
    finally:
        calloff.process.configure(size=size)


@pytest.mark.usefixtures("begins_first")
async def test_patience_in_a_group_and_in_a_map():
    async def one(item):
        for _ in range(20):  # turns in which the patience of the others is heard to be over, however late the loop is
            await asyncio.sleep(0.01)
        return item

    async with calloff.group(jobs=1, on_error="collect") as group:
        first = group.start(one(1), patience=0.05)
        second = group.start(one(2), patience=0.05)
        third = group.start(one(3), patience=60)
    assert await first.outcome() == Completed(1)
    assert not (await second.outcome()).report.started
    assert await third.outcome() == Completed(3)
    lock = asyncio.Lock()
    outcomes = await calloff.map(one, range(2), jobs=2, within=lambda item: lock, patience=0.05)
    assert outcomes[0] == Completed(0)
    assert outcomes[1].reason.kind == "deadline"
