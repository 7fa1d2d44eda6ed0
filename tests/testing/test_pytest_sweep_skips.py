"""A test that waits long is run many times, and its sweep waits only where something else can happen meanwhile."""

import subprocess
import sys
from pathlib import Path

from .test_pytest_plugin import run_pytest

PATIENT = """
import asyncio
import time

lock = asyncio.Lock()

async def take():
    await lock.acquire()
    await asyncio.sleep(0.01)
    lock.release()
"""

SLEEPS = """
async def test_take():
    await take()
    await asyncio.sleep(6)
"""

ELAPSED = """
async def test_the_time():
    began = time.monotonic()
    await asyncio.sleep(1.2)
    assert time.monotonic() - began > 1.1
"""


def test_a_test_that_sleeps_waits_in_two_runs_and_no_more(tmp_path: Path) -> None:
    project = tmp_path / "project"  # what is written in it is put back
    project.mkdir()
    (project / "test_it.py").write_text(PATIENT + SLEEPS)
    (project / "conftest.py").write_text(NOTES_RUNS)
    options = ("--cancel-sweep-fault=all", "--cancel-sweep-phases=early,late", "--cancel-sweep-timeout=60")
    text = run_pytest(project, "--cancel-sweep", *options).stdout
    assert "UNSAFE test_it.py:9 in take: await asyncio.sleep(0.01)" in text, text
    slept = [float(line) for line in (tmp_path / "slept").read_text().split()]
    assert len(slept) >= 5, slept
    # pytest's own run, and the first that shows what is usual
    assert sum(seconds > 5.9 for seconds in slept) == 2, slept


NOTES_RUNS = """
import time
from pathlib import Path

import pytest

@pytest.fixture(autouse=True)
def its_time():
    began = time.monotonic()
    yield
    with open(Path(__file__).parent.parent / "slept", "a") as file:
        print(time.monotonic() - began, file=file)
"""


def test_a_test_that_goes_by_another_clock_is_swept_at_its_own_pace(tmp_path: Path) -> None:
    (tmp_path / "test_it.py").write_text(PATIENT + ELAPSED)
    text = run_pytest(tmp_path, "--cancel-sweep", "--cancel-sweep-phases=early").stdout
    assert "1 passed" in text, text
    assert "test_the_time: SAFE" in text, text


IN_A_RUN = """
import asyncio
import socket
import time

from calloff.testing._sweep import skipping
from calloff.testing._sweep.clock import Clock
from calloff.testing._sweep.quiet import Quiet

async def thread():
    await asyncio.wait_for(asyncio.to_thread(time.sleep, 0.2), 1000)

async def process():
    process = await asyncio.create_subprocess_exec("sleep", "0.2")
    await asyncio.wait_for(process.wait(), 1000)

async def connection():
    loop = asyncio.get_running_loop()
    theirs, ours = socket.socketpair()
    with theirs, ours:
        ours.setblocking(False)
        sent = loop.run_in_executor(None, lambda: (time.sleep(0.2), theirs.send(b"x")))
        await asyncio.wait_for(loop.sock_recv(ours, 1), 1000)
        await sent

async def quiet():
    quiet = Quiet(asyncio.get_running_loop())
    quiet.begin()
    await asyncio.sleep(0.04)
    quiet.end()

async def main():
    loop = asyncio.get_running_loop()
    clock = Clock(loop)
    skipping.Skipping(loop, clock)
    assert "select" not in vars(loop._selector)  # this process goes on
    skipping.is_alone = lambda: True
    skipping.Skipping(loop, clock)
    clock.stop()
    assert not clock.skip(1)  # it stands still
    clock.go_on()
    for work in (thread, process, connection, quiet) * 3:
        began, real = loop.time(), time.monotonic()
        await asyncio.sleep(500)
        assert loop.time() - began >= 500 > 400 > time.monotonic() - real
        began, real = loop.time(), time.monotonic()
        await work()
        assert loop.time() - began < 100, work
        assert time.monotonic() - real >= 0.03, work

asyncio.run(main())
"""


def test_time_passes_where_something_else_can_happen() -> None:
    done = subprocess.run([sys.executable, "-c", IN_A_RUN], capture_output=True, text=True, timeout=100)
    assert done.returncode == 0, done.stderr
