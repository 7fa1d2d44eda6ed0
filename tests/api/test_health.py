"""`health`: a loop that is late, work that is stuck, and work that is old, told from any thread."""

import asyncio
import contextlib
import threading
import time

import pytest

import calloff
from calloff._api.health import _pulses
from calloff.service import Health, health


async def test_a_program_that_is_well():
    op = calloff.start(asyncio.sleep(3600), name="oldest")
    calloff.start(asyncio.sleep(3600), name="younger")
    await asyncio.sleep(0)
    told = health(late=60)
    assert isinstance(told, Health)
    assert told.ok
    assert (told.operations, told.stopping, told.abandoned) == (2, 0, ())
    assert (told.oldest.id, told.oldest.name) == (op.id, "oldest")
    assert 0 <= told.oldest.elapsed < 60
    assert told.oldest.where
    for each in calloff.operations():
        await each.stop()
    assert health(late=60).oldest is None


async def test_a_loop_that_was_blocked_is_late():
    health()
    await asyncio.sleep(0.01)
    time.sleep(1)
    await asyncio.sleep(0)
    told = health(late=0.5)
    assert not told.ok
    assert told.late > 0.5
    await asyncio.sleep(0.3)
    assert health().late > 0.5  # it is remembered


async def test_a_loop_that_is_blocked_now_is_seen_from_another_thread():
    health()
    await asyncio.sleep(0.01)
    seen = []

    def look():
        deadline = time.monotonic() + 60
        while time.monotonic() < deadline:
            told = health(late=0.5)
            if not told.ok:
                seen.append(told)
                break
            time.sleep(0.01)
        found.set()

    found = threading.Event()
    thread = threading.Thread(target=look)
    thread.start()
    assert found.wait(60)  # blocks the loop
    thread.join()
    assert seen[0].late > 0.5


async def test_what_could_not_be_stopped_is_told():
    go_on = asyncio.Event()

    async def stubborn():
        while not go_on.is_set():
            with contextlib.suppress(BaseException):
                await asyncio.sleep(0.01 if stuck else 3600)

    stuck = []
    op = calloff.start(stubborn, grace=0)
    await asyncio.sleep(0)
    stuck.append(op)
    await op.stop()
    told = health(late=60, abandoned=0)
    assert not told.ok
    assert [(work.name, work.id) for work in told.abandoned] == [("stubborn", op.id)]
    assert health(late=60, abandoned=1).ok
    go_on.set()
    async with asyncio.timeout(60):
        while calloff.operations():
            await asyncio.sleep(0.01)


def test_pulses_of_closed_loops_are_forgotten():
    for _ in range(3):
        asyncio.run(asyncio.wait_for(_look(), 60))
    assert len(_pulses) == 1


async def _look():
    health()


@pytest.mark.parametrize("late", [-1, float("nan")])
def test_bad_input(late):
    with pytest.raises(ValueError, match="late"):
        health(late=late)
