"""`VirtualLoop`: hours in no time, exact points, and a test that would hang fails."""

import asyncio

import pytest

import calloff
from calloff.testing import VirtualLoop


def run(work):
    with asyncio.Runner(loop_factory=VirtualLoop) as runner:
        return runner.run(work)


def running() -> VirtualLoop:
    loop = asyncio.get_running_loop()
    assert isinstance(loop, VirtualLoop)
    return loop


def test_limits_of_hours_at_exact_points():
    async def main():
        loop = running()
        op = calloff.start(asyncio.sleep(10**6), timeout=3600)
        with pytest.raises(calloff.TimedOut):
            await op
        assert loop.elapsed == 3600
        await asyncio.gather(*(asyncio.sleep(n) for n in range(100)))
        assert loop.elapsed == 3699

    run(main())


def test_a_step_that_takes_long():
    async def main():
        loop = running()
        late = loop.create_future()
        loop.call_later(1, lambda: late.set_result(loop.elapsed))
        loop.block(5)
        assert await late == 5

    run(main())


def test_under_calloff_run():
    async def main():
        await asyncio.sleep(86400)
        return running().elapsed

    assert calloff.run(main(), loop_factory=VirtualLoop, interrupt=False) == 86400


def test_who_waits_for_nothing_fails():
    async def main():
        await asyncio.Event().wait()

    with pytest.raises(AssertionError, match="nothing to wait for"):
        run(main())
