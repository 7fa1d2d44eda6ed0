"""From Python 3.15 on, force reaches a thread that waits in a system call."""

import os
import select
import socket
import subprocess
import sys
import time
from collections.abc import Callable

import pytest

import calloff
from calloff._places.thread import call

pytestmark = pytest.mark.skipif(sys.version_info < (3, 15), reason="before 3.15 a system call is not left for it")


def reads_a_socket() -> None:
    here, there = socket.socketpair()
    with here, there:
        here.recv(1)


def reads_a_pipe() -> None:
    read, write = os.pipe()
    try:
        os.read(read, 1)
    finally:
        os.close(read)
        os.close(write)


def waits_for_a_process() -> None:
    subprocess.run([sys.executable, "-c", "import time; time.sleep(60)"], check=False)


def selects() -> None:
    select.select([], [], [], 60)


def sleeps() -> None:
    time.sleep(60)


def swallows() -> None:
    while True:
        try:
            time.sleep(60)
        except calloff.StopForced:
            return


def sleeps_before_a_block() -> None:
    time.sleep(60)
    try:
        time.sleep(60)
    finally:
        pass


BLOCKS = [sleeps, sleeps_before_a_block, reads_a_socket, reads_a_pipe, waits_for_a_process, selects]


async def stopped(blocks: Callable[[], None]) -> calloff.Outcome[None]:
    """Stop it when it has begun."""
    op = calloff.start(calloff.thread(blocks), grace=0)
    while not op.where():
        await calloff.call(calloff.thread(time.sleep, 0.01))
    return await op.stop()


@pytest.mark.parametrize("blocks", BLOCKS)
@pytest.mark.usefixtures("patient")
async def test_a_system_call_is_left(blocks: Callable[[], None]) -> None:
    outcome = await stopped(blocks)
    assert isinstance(outcome, calloff.Cancelled)
    assert outcome.report.rung is calloff.Rung.FORCED
    assert calloff.thread.counts().abandoned == 0


@pytest.mark.usefixtures("patient")
async def test_a_kick_is_sent_again_to_who_got_no_turn(monkeypatch: pytest.MonkeyPatch) -> None:
    """On a busy machine what was sent is taken back before the thread goes on."""
    lost, kick = [1, 2], call.kick
    monkeypatch.setattr(call, "kick", lambda ident: lost.pop() if lost else kick(ident))
    outcome = await stopped(sleeps_before_a_block)
    assert isinstance(outcome, calloff.Cancelled)
    assert outcome.report.rung is calloff.Rung.FORCED
    assert not lost


async def test_it_is_clean_up_that_decides() -> None:
    outcome = await stopped(swallows)
    assert isinstance(outcome, calloff.Completed)


PROGRAM = """
import asyncio, signal, threading, calloff
heard = []
signal.signal(signal.SIGURG, lambda *_: heard.append(1))

async def main():
    began = threading.Event()
    def sleeps():
        began.set()
        __import__("time").sleep(60)
    op = calloff.start(calloff.thread(sleeps), grace=0)
    await asyncio.to_thread(began.wait)
    return type(await op.stop()).__name__

print(calloff.run(main()), heard)
"""


def test_a_handler_of_the_programs_own_is_left_alone() -> None:
    done = subprocess.run([sys.executable, "-c", PROGRAM], capture_output=True, text=True, timeout=60, check=False)
    assert done.stdout == "Abandoned []\n", done.stderr
