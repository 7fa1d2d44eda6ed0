"""What code may ask and say from inside an operation."""

import asyncio
import threading
from math import inf
from typing import Any

import pytest
from operation import virtual_time
from operation.virtual_time import START, now

import calloff


async def test_current():
    assert calloff.current() is None

    async def plain():
        return calloff.current()

    async def body():
        me = calloff.current()
        assert await asyncio.create_task(plain()) is me
        assert await asyncio.to_thread(calloff.current) is me
        inner = calloff.start(plain())
        assert await inner is inner
        assert calloff.current() is me
        return me

    op = calloff.start(body())
    assert await op is op
    assert calloff.current() is None


async def test_each_of_many_knows_itself():
    async def body():
        before = calloff.current()
        await asyncio.sleep(0)
        return before is calloff.current() and before

    ops = [calloff.start(body()) for _ in range(20)]
    assert await asyncio.gather(*ops) == ops


def test_the_nearest_deadline_of_all_around():
    async def main():
        assert calloff.current_deadline() == inf
        assert calloff.remaining() == inf

        async def plain():
            return calloff.current_deadline()

        async def inner():
            return calloff.current_deadline(), calloff.remaining()

        async def outer():
            seen = [calloff.current_deadline(), await asyncio.create_task(plain())]
            seen += await calloff.call(inner(), timeout=100)
            seen += await calloff.call(inner(), timeout=2)
            seen += await calloff.call(inner())
            return seen

        assert await calloff.call(outer(), timeout=5) == [
            START + 5,
            START + 5,
            START + 5,
            5.0,
            START + 2,
            2.0,
            START + 5,
            5.0,
        ]
        assert await calloff.call(inner()) == (inf, inf)

    virtual_time.run(main)


def test_remaining_is_never_below_zero():
    async def main():
        async def body():
            try:
                await asyncio.sleep(3600)
            finally:
                await asyncio.sleep(1)
                assert calloff.remaining() == 0.0

        outcome = await calloff.start(body(), timeout=2).outcome()
        assert isinstance(outcome, calloff.Cancelled)
        return now()

    assert virtual_time.run(main) == 3.0


# --- checkpoint


async def test_a_checkpoint_outside_any_operation_lets_the_loop_turn():
    turned: list[Any] = []
    asyncio.get_running_loop().call_soon(turned.append, 1)
    await calloff.checkpoint()
    assert turned == [1]
    calloff.checkpoint()
    calloff.checkpoint()


async def test_a_checkpoint_raises_in_what_was_asked_to_stop():
    async def body():
        calloff.current().cancel("enough")
        try:
            calloff.checkpoint()
        except asyncio.CancelledError as error:
            assert not isinstance(error, calloff.OperationCancelled)
            raise
        raise AssertionError("went past a checkpoint")

    op = calloff.start(body())
    with pytest.raises(calloff.OperationCancelled, match="enough"):
        await op
    assert op.report.refusals == 0


@pytest.mark.usefixtures("begins_first")
async def test_a_computing_body_is_stopped_at_its_checkpoint_by_its_deadline():
    """No timer has run: the loop was never let go of."""

    async def body():
        loop = asyncio.get_running_loop()
        until = loop.time() + 10
        while loop.time() < until:
            calloff.checkpoint()
        return "too late"

    op = calloff.start(body(), timeout=0.05)
    with pytest.raises(calloff.TimedOut, match=r"within 0.05 s: at body .*: calloff.checkpoint\(\)"):
        await op
    assert op.reason.kind == "deadline"


async def test_a_checkpoint_keeps_still_in_clean_up():
    cleaned = []

    async def body():
        try:
            await asyncio.sleep(3600)
        finally:
            calloff.checkpoint()
            await calloff.checkpoint()
            cleaned.append(True)

    op = calloff.start(body())
    await asyncio.sleep(0)
    outcome = await op.stop()
    assert isinstance(outcome, calloff.Cancelled)
    assert cleaned == [True]


async def test_a_checkpoint_in_a_thread_of_the_operation():
    began = threading.Event()

    def compute():
        while True:
            began.set()
            calloff.checkpoint()

    async def body():
        await asyncio.to_thread(compute)

    op = calloff.start(body())
    while not began.is_set():
        await asyncio.sleep(0.001)
    outcome = await op.stop("enough")
    assert isinstance(outcome, calloff.Cancelled)


async def test_a_checkpoint_in_a_thread_of_the_operation_waits_and_is_woken():
    began = threading.Event()
    ended = threading.Event()

    def wait():
        began.set()
        try:
            calloff.checkpoint(60)
        finally:
            ended.set()

    async def body():
        await asyncio.to_thread(wait)

    op = calloff.start(body())
    while not began.is_set():
        await asyncio.sleep(0.001)
    assert isinstance(await op.stop("enough"), calloff.Cancelled)
    assert ended.wait(10)


async def test_a_checkpoint_does_not_block_the_loop():
    with pytest.raises(RuntimeError, match="would block the event loop"):
        calloff.checkpoint(1)
    with pytest.raises(ValueError, match="^wait must be 0 or more"):
        calloff.checkpoint(-1)
