"""Two helpers are hit, so that the one which looks after the other is gone or stopped, too: then their owner has to."""

import asyncio
import contextlib
import os
import signal
import subprocess
import sys
import time
from typing import Any

import pytest
from places.process_table import Forks, below, gone, marked, state, until
from places.test_helpers import NAP, SLACK, all_dead, marker, next_starts_work, parent, running, tree

import calloff
from calloff._os import fds
from calloff._places import keepers, kept
from calloff._places.keeper import Keeper
from calloff._places.process.pool import SETTINGS, pool_of

__all__ = ["marker"]


@pytest.fixture
def loop_kind():
    return "asyncio"  # nothing here depends on the kind of loop


def alone():
    """The keeper that starts what comes next, once it has nobody below it."""
    keeper = keepers.used_now().pid
    assert until(lambda: not below(keeper)), below(keeper)
    return keeper


def stop(*pids):
    """Stop them; one that is continued in that moment, as a letter came or its keeper went, is stopped once more."""

    def is_stopped(pid):
        found = state(pid)
        if found != "T":
            os.kill(pid, signal.SIGSTOP)
        return found == "T"

    for pid in pids:
        assert until(lambda: is_stopped(pid)), state(pid)


def turns(pid):
    """How often it has given up the processor by itself."""
    with open(f"/proc/{pid}/status") as file:
        return int(file.read().partition("\nvoluntary_ctxt_switches:")[2].split()[0])


async def is_known_to_be_alone(guard):
    """Until the owner has heard that nobody else looks after this guard, which has seen to itself by then."""
    while not any(isinstance(each, kept.Guarded) and each._guard == guard and each.is_alone for each in keepers.opened):
        await asyncio.sleep(0.01)


@pytest.mark.parametrize("place", ["command", "process"])
async def test_a_guard_that_is_stopped_before_it_starts_anything_and_has_no_keeper(monkeypatch, place):
    held = []

    await next_starts_work()
    calloff.process.restart()
    keeper = alone()
    monkeypatch.setattr(kept.Guarded, "_send", lambda self, data: held.append((self, data)))
    work: Any = calloff.command("echo", "x") if place == "command" else calloff.process(len, "abc")
    op = calloff.start(work, timeout=SLACK)
    assert until(lambda: len(below(keeper)) == 1)
    (guard,) = below(keeper)
    os.kill(keeper, signal.SIGKILL)
    await is_known_to_be_alone(guard)
    stop(guard)
    monkeypatch.undo()
    for guarded, data in held:
        guarded._send(data)
    value = await op
    assert value == 3 if place == "process" else value.text == "x\n"
    await next_starts_work()


@pytest.mark.parametrize("keeper_is", ["stopped", "killed"])
@pytest.mark.parametrize("place", ["command", "process"])
async def test_the_work_ends_while_its_guard_is_stopped(tmp_path, place, keeper_is):
    """Nobody waits for anything else meanwhile, and no limit is set."""
    go = tmp_path / "go"

    def until_told(path):
        while not os.path.exists(path):
            time.sleep(0.01)
        os._exit(3)

    command = calloff.command("sh", "-c", f"while [ ! -e {go} ]; do sleep 0.01; done; exit 3")
    op = calloff.start(command if place == "command" else calloff.process(until_told, str(go)))
    while not op.body.pid:
        await asyncio.sleep(0.01)
    guard = parent(op.body.pid)
    keeper = parent(guard)
    if keeper_is == "killed":
        os.kill(keeper, signal.SIGKILL)
        assert until(lambda: parent(guard) != keeper)
    else:
        stop(keeper)
    stop(guard)
    go.touch()
    outcome = await asyncio.wait_for(op.outcome(), SLACK)
    assert outcome.error.status == 3
    await next_starts_work()


def test_a_spare_that_goes_to_the_next_loop_is_looked_after_there_until_it_is_born(monkeypatch, arun):
    """Its guard may be stopped before it tells of itself, and before it hears that its keeper was killed."""
    hear, look_after = kept.Guarded._hear, kept.Guarded.look_after
    looked_after = []

    def unheard(self, mail, handle):
        if mail[0] != "born":
            hear(self, mail, handle)
        elif handle is not None:
            os.close(handle)

    def look(self, *args):
        looked_after.append(self)
        return look_after(self, *args)

    async def first():
        await next_starts_work()
        monkeypatch.setattr(kept.Guarded, "_hear", unheard)
        calloff.process.restart()
        while not any(worker.ready for worker in pool_of(asyncio.get_running_loop()).idle):
            await asyncio.sleep(0.01)

    async def second():
        (spare,) = pool_of(asyncio.get_running_loop()).idle
        looked_after.clear()
        monkeypatch.setattr(kept.Guarded, "look_after", look)
        async with asyncio.timeout(SLACK):
            while spare.guarded not in looked_after:
                await asyncio.sleep(0.01)
        monkeypatch.undo()
        assert await calloff.call(calloff.process(os.getpid)) == spare.pid
        calloff.process.restart()
        await next_starts_work()

    arun(first)
    arun(second)


def test_what_a_spare_could_not_be_sent_yet_is_sent_from_the_next_loop(monkeypatch, arun):
    """There was no room for its start, or for a part of it, while its loop turned."""

    def keep(self, data):
        self._rest = data

    async def first():
        await next_starts_work()
        monkeypatch.setattr(kept.Guarded, "_send", keep)
        calloff.process.restart()
        while not pool_of(asyncio.get_running_loop()).idle:
            await asyncio.sleep(0.01)
        monkeypatch.undo()

    async def second():
        (spare,) = pool_of(asyncio.get_running_loop()).idle
        async with asyncio.timeout(SLACK):
            while spare.pid is None:
                await asyncio.sleep(0.01)
        assert await calloff.call(calloff.process(os.getpid)) == spare.pid
        await next_starts_work()

    arun(first)
    arun(second)


@pytest.mark.parametrize("place", ["command", "process"])
async def test_both_are_killed_while_the_work_is_called_off(tmp_path, marker, place):
    """A worker keeps together what it has started; what a command has detached nobody can find, and so it is told."""
    try:
        op, pids = await running(place, marker, tmp_path)
        op.cancel("enough", grace=SLACK)
        for victim in ("keeper", "guard"):
            os.kill(pids[victim], signal.SIGKILL)
        outcome = await asyncio.wait_for(op.outcome(), SLACK)
        assert until(lambda: gone(pids["work"]))
        if place == "process":
            assert all_dead(marker, outcome)
        else:
            assert isinstance(outcome, calloff.Abandoned)
            assert "may run on" in str(outcome.report.survivors)
        assert op not in calloff.operations()
        await next_starts_work()
    finally:
        for pid in marked(marker):
            os.kill(pid, signal.SIGKILL)


async def test_both_are_killed_before_the_guard_has_told_of_its_worker(monkeypatch, tmp_path, marker):
    """The worker is stopped when it loses its guard; it has told its number itself."""
    hear = kept.Guarded._hear

    def hear_of_no_birth(self, mail, handle):
        if mail[0] == "born":
            os.close(handle)
        else:
            hear(self, mail, handle)

    await next_starts_work()
    monkeypatch.setattr(SETTINGS, "spares", 0)
    calloff.process.restart()
    alone()
    monkeypatch.setattr(kept.Guarded, "_hear", hear_of_no_birth)
    op = calloff.start(calloff.process(tree, marker, str(tmp_path)))
    while not (tmp_path / "ready").exists():
        await asyncio.sleep(0.01)
    worker = op.body.worker._told_pid
    for pid in (parent(parent(worker)), parent(worker)):
        os.kill(pid, signal.SIGKILL)
    outcome = await asyncio.wait_for(op.outcome(), SLACK)
    assert isinstance(outcome.error, calloff.WorkerDied)
    assert until(lambda: gone(worker))
    assert all_dead(marker, outcome.error)


async def test_a_worker_that_nobody_has_heard_of_yet_is_let_go_while_its_guard_is_stopped(monkeypatch):
    await next_starts_work()
    calloff.process.restart()
    keeper = alone()
    op = calloff.start(calloff.process(time.sleep, float(NAP)), grace=0)
    # from here on the loop does not turn
    assert until(lambda: len(below(keeper)) == 2)
    guard, worker = below(keeper)
    os.kill(keeper, signal.SIGKILL)
    assert until(lambda: parent(guard) != keeper)
    time.sleep(0.05)  # it says that it is alone; if it has not come to that, it is continued with its first letter
    stop(guard)
    op.cancel()
    calloff.process.restart()
    calloff.process.counts()
    assert until(lambda: gone(worker) and gone(guard), SLACK)
    with contextlib.suppress(asyncio.CancelledError):
        await op


async def test_starts_that_are_taken_back_before_they_come_to_the_keeper_cost_it_nothing(monkeypatch):
    """It does not fork for them: its children, all in all, have touched next to no memory more."""

    def touched(pid):
        with open(f"/proc/{pid}/stat") as file:
            return int(file.read().rpartition(")")[2].split()[8])

    await next_starts_work()
    monkeypatch.setattr(SETTINGS, "spares", 0)
    calloff.process.restart()
    keeper = alone()
    before = touched(keeper)
    await calloff.call(calloff.command("true"))
    assert until(lambda: not below(keeper))
    one = touched(keeper) - before
    with monkeypatch.context() as held:
        held.setattr(Keeper, "_send", lambda self, data, files: (data, files))  # nothing comes to it
        for _ in range(50):
            outcome = await calloff.start(calloff.command("true")).stop(grace=0)
            assert outcome.report.rung is calloff.Rung.ASKED
    before = touched(keeper)
    await calloff.call(calloff.command("true"))
    assert until(lambda: not below(keeper))
    assert one > 0
    assert touched(keeper) - before < 10 * one


async def test_a_worker_is_let_go_whose_guard_is_alone_and_dies_of_something_else(monkeypatch):
    """Nobody is left who would end it but its owner."""
    worker = await calloff.call(calloff.process(os.getpid))
    guard = parent(worker)
    os.kill(parent(guard), signal.SIGKILL)
    await is_known_to_be_alone(guard)
    stop(guard)
    monkeypatch.setattr(signal, "SIGCONT", 0)  # it does not come to anything any more
    calloff.process.restart()
    assert until(lambda: gone(worker))
    with contextlib.suppress(ProcessLookupError):  # what comes through its socket continues it: it may have ended
        os.kill(guard, signal.SIGKILL)


async def test_a_guard_that_has_nobody_but_its_owner_is_continued_by_the_system(monkeypatch):
    """Its owner may be killed just before it is stopped."""
    await next_starts_work()
    calloff.process.restart()
    worker = await calloff.call(calloff.process(os.getpid))
    guard = parent(worker)
    os.kill(parent(guard), signal.SIGKILL)
    await is_known_to_be_alone(guard)
    with monkeypatch.context() as unable:
        unable.setattr(signal, "SIGCONT", 0)  # the owner does nothing for it
        for _ in range(3):
            before = turns(guard)
            os.kill(guard, signal.SIGSTOP)
            assert until(lambda: turns(guard) > before + 4, SLACK)  # one of them is that it was stopped
        assert not gone(worker)
        calloff.process.restart()  # what comes next has a keeper
        assert until(lambda: gone(worker) and gone(guard), SLACK)


_STOPS_ITSELF = """
import os, signal, sys
from calloff._os import reaper
from calloff._child import keeper

def stop(name):
    print(os.getpid(), flush=True)
    while not os.path.exists(sys.argv[2]):  # a timer of its own continues it, again and again
        os.kill(os.getpid(), signal.SIGSTOP)

reaper.name_process = stop
keeper.main([sys.argv[1]])
"""


def test_a_keeper_that_is_stopped_before_it_looks_after_its_owner_ends_after_it(tmp_path):
    """Nobody else is there, and the end of the owner comes before it could be a signal."""
    ours, theirs = fds.pair()
    with subprocess.Popen(["sleep", NAP]) as owner:
        argv = [sys.executable, "-c", _STOPS_ITSELF, str(owner.pid), str(tmp_path / "go")]
        with subprocess.Popen(argv, stdin=theirs.fileno(), stdout=subprocess.PIPE) as starter:
            theirs.close()
            assert starter.stdout is not None
            keeper = int(starter.stdout.readline())
        try:
            assert until(lambda: state(keeper) == "T")
            ours.close()
            owner.kill()
            (tmp_path / "go").touch()
            assert until(lambda: gone(keeper), SLACK)
        finally:
            with contextlib.suppress(OSError):
                os.kill(keeper, signal.SIGKILL)


_HANDS_ON = """
import asyncio, subprocess
import calloff
from calloff._places import keepers

async def main():
    await calloff.call(calloff.command("true"))
    keeper = keepers.used_now()
    subprocess.Popen(["sleep", "1000"], pass_fds=[keeper._socket.fileno()])  # that does not end with us
    print(keeper.pid, flush=True)
    await asyncio.sleep(1000)

asyncio.run(main())
"""


def test_a_keeper_that_is_stopped_when_its_owner_ends_is_continued_by_the_system():
    """It has no guards, and no signal of its owner's end comes to it: as where it was stopped just after that signal."""
    with subprocess.Popen([sys.executable, "-c", _HANDS_ON], stdout=subprocess.PIPE, start_new_session=True) as owner:
        try:
            assert owner.stdout is not None
            keeper = int(owner.stdout.readline())
            stop(keeper)
            owner.kill()
            assert until(lambda: gone(keeper), SLACK), state(keeper)
        finally:
            with contextlib.suppress(OSError):
                os.killpg(owner.pid, signal.SIGKILL)
            with contextlib.suppress(OSError):
                os.kill(keeper, signal.SIGKILL)


@pytest.mark.parametrize("place", ["command", "process"])
async def test_a_guard_that_is_stopped_before_its_first_step_and_loses_its_keeper(monkeypatch, place):
    """Nobody knows its number, and nothing of it has run: the owner continues all that its keeper has forked."""
    await next_starts_work()
    monkeypatch.setattr(SETTINGS, "spares", 0)
    calloff.process.restart()
    keeper = alone()
    with Forks(keeper) as forks:
        work: Any = calloff.command("echo", "x") if place == "command" else calloff.process(len, "abc")
        op = calloff.start(work, grace=0)
        await asyncio.sleep(0)
        guard = forks.stop_next()
        assert parent(guard) == keeper
        os.kill(keeper, signal.SIGKILL)
    assert until(lambda: gone(keeper))
    value = await asyncio.wait_for(op, SLACK)
    assert value == 3 if place == "process" else value.text == "x\n"
    await next_starts_work()


def test_a_child_is_continued_by_what_comes_for_it_before_it_has_asked_for_that():
    ours, theirs = fds.pair()
    child = os.fork()
    if not child:
        os.kill(os.getpid(), signal.SIGSTOP)
        os._exit(7)
    try:
        assert os.WIFSTOPPED(os.waitpid(child, os.WUNTRACED)[1])
        fds.signal_input(theirs.fileno())
        fds.signal_input_to(theirs.fileno(), child)
        ours.send(b"x")
        assert until(lambda: gone(child))
    finally:
        os.kill(child, signal.SIGKILL)
        status = os.waitpid(child, 0)[1]
    assert os.waitstatus_to_exitcode(status) == 7
    ours.close()
    theirs.close()


async def test_a_stopped_worker_outlives_both_until_its_owner_has_killed_what_is_below_it(tmp_path, marker):
    """The system hangs up on a stopped process group that loses its last parent: a worker is in a session of its own."""
    op, pids = await running("process", marker, tmp_path)
    stop(pids["keeper"], pids["guard"], pids["work"])
    for victim in ("keeper", "guard"):
        os.kill(pids[victim], signal.SIGKILL)
    assert until(lambda: gone(pids["guard"]))
    assert state(pids["work"]) == "T"
    outcome = await asyncio.wait_for(op.outcome(), SLACK)
    assert isinstance(outcome.error, calloff.WorkerDied)
    assert all_dead(marker, outcome.error)
