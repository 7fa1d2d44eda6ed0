"""A second run does not wait for its own timers where nothing else can come, nor for a reply that can't come."""

import asyncio
import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from calloff.testing import sweep
from calloff.testing._sweep import quiet
from calloff.testing._sweep.clock import clock_of
from calloff.testing._sweep.quiet import Quiet

needs_proc = pytest.mark.skipif(sys.platform != "linux", reason="only Linux tells of threads that Python does not know")


def run_alone(program: str, *args: str) -> None:
    """In a process with one thread."""
    done = subprocess.run([sys.executable, "-c", program, *args], capture_output=True, text=True, timeout=100)
    assert done.returncode == 0, done.stderr


SECOND_RUNS = """
import asyncio, subprocess, sys, time
from calloff.testing import sweep

name, isolate, with_child = sys.argv[1], sys.argv[2] == "isolated", sys.argv[3:] == ["child"]

async def job():
    loop = asyncio.get_running_loop()
    began, real = loop.time(), time.monotonic()
    child = subprocess.Popen(["sleep", "100"]) if with_child else None
    try:
        await asyncio.sleep(3)
    finally:
        if child is not None:
            child.kill()
            child.wait()
    with open(name, "a") as file:
        print(loop.time() - began, time.monotonic() - real, file=file)

async def main():
    before = [asyncio.get_running_loop().time() - time.monotonic()]
    report = await sweep(job, phases=("early",), isolate=isolate, timeout=60)
    report.assert_safe()
    assert report.runs == 3
    assert min(abs(asyncio.get_running_loop().time() - time.monotonic()) for _ in range(20)) < 0.1

asyncio.run(main())
runs = [tuple(map(float, line.split())) for line in open(name)]
assert len(runs) == 5, runs
assert all(2.99 < seen < 8 for seen, _ in runs), runs
# each run without a cancel, and the second run of the first: for them time passes
assert [real > 2.99 for _, real in runs] == [True, True, True, with_child, with_child], runs
"""


@needs_proc
@pytest.mark.parametrize("where", ["isolated", "in process"])
def test_a_second_run_does_not_wait_for_what_it_sleeps(tmp_path: Path, where: str) -> None:
    run_alone(SECOND_RUNS, str(tmp_path / "runs"), where)


@needs_proc
@pytest.mark.parametrize("where", ["isolated", "in process"])
def test_a_second_run_waits_beside_a_process_that_it_has_started(tmp_path: Path, where: str) -> None:
    run_alone(SECOND_RUNS, str(tmp_path / "runs"), where, "child")


TOGETHER = """
import asyncio, os, signal, socket, subprocess, sys, time
import calloff
from calloff.testing._sweep.clock import clock_of
from calloff.testing._sweep.jumping import Jumps, child_processes

async def second_run(work, limit=100, wanted=True):
    loop = asyncio.get_running_loop()
    clock = clock_of(loop)
    jumps = Jumps(loop, clock, child_processes())
    real = time.monotonic()
    with jumps.allowed(wanted):
        task = asyncio.ensure_future(work())
        jumps.begun()
        await asyncio.wait({task}, timeout=limit)
    assert "select" not in vars(loop._selector)
    real = time.monotonic() - real
    if task.done():
        task.result()
    task.cancel()
    await asyncio.wait({task})
    clock.give_back()
    return jumps.any, real

def is_waited_for(work, **options):
    any, real = asyncio.run(second_run(work, **options))
    assert not any and real >= 0.045, (work, any, real)

async def sleeps():
    await asyncio.sleep(0.05)

async def many():
    await asyncio.gather(*(asyncio.wait_for(asyncio.sleep(number * 50), 1000) for number in range(9)))

async def hangs():
    await asyncio.Event().wait()

async def thread():
    work = asyncio.ensure_future(asyncio.to_thread(time.sleep, 0.2))
    await asyncio.sleep(0)
    await asyncio.sleep(0.05)
    await work

async def process():
    with subprocess.Popen(["sleep", "100"]) as child:
        await asyncio.sleep(0.05)
        child.kill()

async def its_own_timers():
    async with calloff.move_on_after(0.001):
        await asyncio.Event().wait()
    await asyncio.sleep(0.05)

async def watched():
    loop = asyncio.get_running_loop()
    ours, theirs = socket.socketpair()
    with ours, theirs:
        loop.add_reader(ours, print)
        await asyncio.sleep(0.05)
        loop.remove_reader(ours)

async def signalled():
    loop, come = asyncio.get_running_loop(), asyncio.Event()
    loop.add_signal_handler(signal.SIGUSR1, come.set)
    os.kill(os.getpid(), signal.SIGUSR1)
    await asyncio.wait_for(come.wait(), 1000)
    await asyncio.sleep(1000)

assert asyncio.run(second_run(many, limit=10_000))[0]
assert asyncio.run(second_run(signalled, limit=10_000))[0]
for work in (thread, process, its_own_timers, watched):
    is_waited_for(work)
is_waited_for(sleeps, wanted=False)
is_waited_for(hangs, limit=0.05)  # to the sweep's own limit no time jumps

async def beside_others():
    loop = asyncio.get_running_loop()
    mine = loop.call_later(100, print)
    try:
        return await second_run(sleeps)
    finally:
        mine.cancel()

any, real = asyncio.run(beside_others())
assert not any and real >= 0.045

async def behind_another_selector():
    loop = asyncio.get_running_loop()
    loop._selector.select = loop._selector.select
    clock = clock_of(loop)
    jumps = Jumps(loop, clock, frozenset())
    with jumps.allowed(True):
        await asyncio.create_task(sleeps())
    return jumps.any

assert not asyncio.run(behind_another_selector())

with subprocess.Popen(["sleep", "100"]) as others:  # it was there before
    assert asyncio.run(second_run(sleeps))[0]
    others.kill()
"""


@needs_proc
def test_time_jumps_only_where_nothing_but_a_timer_of_the_second_run_can_come() -> None:
    run_alone(TOGETHER)


async def test_a_loop_has_its_own_time_afterwards_and_what_is_timed_is_due_in_as_long() -> None:
    loop = asyncio.SelectorEventLoop()
    try:
        clock = clock_of(loop)
        assert clock.skip(1000)
        first, second = (loop.call_later(seconds, print) for seconds in (0.5, 500))
        clock.end()
        assert loop.time() - time.monotonic() > 900  # it never goes back while anything may have looked at it
        clock.give_back()
        assert "time" not in vars(loop)
        assert first.when() - time.monotonic() < 1
        assert 490 < second.when() - time.monotonic() < 501
        assert loop._scheduled[0] is first  # type: ignore[attr-defined]
    finally:
        loop.close()


ANOTHER_CLOCK = """
import asyncio, sys, time
from calloff.testing import sweep

async def state():
    return {"called off": False}

async def job(state):
    try:
        real = time.monotonic()
        await asyncio.sleep(0.05)
        if time.monotonic() - real < 0.045 and (state["called off"] or sys.argv[1] == "always"):
            raise RuntimeError("too early")
    except asyncio.CancelledError:
        state["called off"] = True
        raise

async def main():
    report = await sweep(job, setup=state, isolate=sys.argv[2] == "isolated", phases=("early", "late"))
    print(report)
    report.assert_safe()
    assert "restart" not in report.not_tried, report.not_tried
    assert report.runs == 5, report.runs  # one of them once more, without a jump; then there are none

asyncio.run(main())
"""


@needs_proc
@pytest.mark.parametrize("when", ["always", "after a cancel"])
@pytest.mark.parametrize("where", ["isolated", "in process"])
def test_what_goes_by_another_clock_has_the_time_that_it_needs(where: str, when: str) -> None:
    run_alone(ANOTHER_CLOCK, when, where)


UNSAFE = """
import asyncio, sys
from calloff.testing import sweep

class Pool:
    free = 1

async def pool():
    return Pool()

async def job(pool):
    await asyncio.sleep(0.01)
    for _ in range(20):
        if pool.free:
            break
        await asyncio.sleep(0.01)
    else:
        raise RuntimeError("no slot")
    pool.free -= 1
    await asyncio.sleep(0.01)
    pool.free += 1

async def main():
    report = await sweep(job, setup=pool, isolate=sys.argv[1] == "isolated", phases=("early", "late"))
    assert report.verdict == "UNSAFE", report
    assert {(finding.phase, *(violation.oracle for violation in finding.violations)) for finding in report.findings} == {
        ("early", "restart"), ("late", "restart")
    }, report
    assert all("no slot" in finding.violations[0].text for finding in report.findings)

asyncio.run(main())
"""


@needs_proc
@pytest.mark.parametrize("where", ["isolated", "in process"])
def test_what_is_lost_is_found_by_a_second_run_that_has_waited(where: str) -> None:
    run_alone(UNSAFE, where)


# --- a quiet network


def is_quiet(loop: Any) -> bool:
    return "select" in vars(loop._selector)


@pytest.fixture
def loop() -> Any:
    made = asyncio.SelectorEventLoop()
    yield made
    made.close()


ANOTHER_CONNECTION = """
import asyncio, socket
from calloff.testing._sweep import forked
from calloff.testing._sweep.quiet import Quiet

loop, other = asyncio.SelectorEventLoop(), asyncio.SelectorEventLoop()
forked._loops.add(other)  # one of before the fork: its pipe, too, is nobody's connection
ours, theirs = socket.socketpair()
held = Quiet(loop)
held.begin()
assert "select" in vars(loop._selector)
number = ours.fileno()
ours.close()
theirs.close()
later = socket.socketpair()
assert number in [end.fileno() for end in later]  # of the same number, and another one
held.run_out()
assert "select" not in vars(loop._selector)
"""


@needs_proc
def test_nothing_is_held_back_from_a_second_run_when_no_connection_of_the_cancel_is_left() -> None:
    run_alone(ANOTHER_CONNECTION)


def test_what_comes_in_by_a_connection_that_is_left_is_held_back_from_a_second_run(loop: Any) -> None:
    ours, theirs = socket.socketpair()
    with ours, theirs:
        held = Quiet(loop)
        held.begin()
        held.run_out()
        assert is_quiet(loop)
        held.end()
        assert not is_quiet(loop)


def test_a_loop_that_has_something_to_do_does_not_wait_for_a_quiet_network(
    loop: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    slept: list[float] = []
    monkeypatch.setattr(quiet, "_sleep", slept.append)
    ours, theirs = socket.socketpair()
    with ours, theirs:
        theirs.send(b"x")
        loop._selector.register(ours, 1, None)
        held = Quiet(loop)
        held.begin()
        assert loop._selector.select(0) == []
        assert slept == []
        assert loop._selector.select(0.001) == []
        assert slept != []
        held.end()
        loop._selector.unregister(ours)


async def test_in_process_no_time_jumps_beside_others(tmp_path: Path) -> None:
    """The tests themselves run beside threads, or under a limit."""
    seen: list[float] = []

    async def job() -> None:
        real = time.monotonic()
        await asyncio.sleep(0.02)
        seen.append(time.monotonic() - real)

    async with asyncio.timeout(100):
        report = await sweep(job, isolate=False, phases=("early",))
    assert report.verdict == "SAFE", report
    assert min(seen) > 0.015
