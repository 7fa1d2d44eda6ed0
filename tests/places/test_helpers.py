"""Every helper process may be killed or stopped at any moment.

The verdict is true and comes in time, and the next start works.
"""

import asyncio
import contextlib
import errno
import os
import signal
import sys
import textwrap
import time
import uuid
from typing import Any

import pytest
from conftest import loop_factory
from places.process_table import below, gone, marked, parent, state, stop_for_good, until

import calloff
from calloff._os import fds
from calloff._places import keepers, kept
from calloff._places.process.pool import SETTINGS, Pool
from calloff._places.process.worker import Worker

pytestmark = pytest.mark.usefixtures("patient")

NAP = "1000"
#: seconds that a busy machine may need; what never ends takes longer
SLACK = 30.0


@pytest.fixture
def marker():
    return f"helpers-{uuid.uuid4().hex}"


def tree(marker, folder):
    """In a worker: a child and a daemon, and then nothing for long."""
    import subprocess

    for begin in ([], ["setsid"]):
        subprocess.Popen([*begin, "sh", "-c", f"trap '' TERM; : {marker}; sleep {NAP}"])
    open(f"{folder}/ready", "w").close()
    time.sleep(float(NAP))


def work_of(place, marker, folder):
    if place == "process":
        return calloff.process(tree, marker, str(folder))
    # ready once it is in a session of its own, where nobody finds it
    line = f"trap '' TERM; : {marker}; (setsid sh -c \": {marker}; touch {folder}/ready; sleep {NAP}\" &); sleep {NAP}"
    return calloff.command("sh", "-c", line)


async def running(place, marker, tmp_path, **limits):
    """An operation that runs, with its processes: the work, its guard, the keeper."""
    op = calloff.start(work_of(place, marker, tmp_path), **limits)
    for _ in range(2000):
        keeper = keepers.used_now()
        if (tmp_path / "ready").exists() and op.body.pid and len(marked(marker)) >= 2 and keeper and keeper.look():
            break
        await asyncio.sleep(0.01)
    assert len(marked(marker)) >= 2
    pid = op.body.pid
    pids = {
        "work": pid,
        "guard": parent(pid),
        "keeper": op.body.worker.guarded.keeper.pid if place == "process" else keepers._keeper.pid,
    }
    assert all(pids.values()), "0 means all of us"
    return op, pids


def all_dead(marker, told):
    """All of it was killed by the owner: a busy machine takes its time to carry that out, and then it is told so."""
    assert marked(marker) == [] or "may run on" in str(told)
    return until(lambda: marked(marker) == [])


async def next_starts_work():
    assert (await calloff.call(calloff.command("echo", "x"), timeout=20)).text == "x\n"
    assert await calloff.call(calloff.process(len, "abc"), timeout=20) == 3


async def a_new_keeper():
    """What starts next has a keeper of its own, which nothing continues for some seconds, should it be stopped.

    A timer of its own does, but not before it is five seconds old.
    """
    while True:
        calloff.process.restart()
        if keepers._keeper is not None:
            keepers.dead(keepers._keeper)
        began = time.monotonic()
        await next_starts_work()  # by a command, too, whose guard has told: the number of the keeper is known
        if time.monotonic() - began < 3:
            return


@pytest.mark.parametrize("victim", ["work", "guard", "keeper"])
@pytest.mark.parametrize("place", ["command", "process"])
async def test_killed(tmp_path, marker, place, victim):
    op, pids = await running(place, marker, tmp_path)
    os.kill(pids[victim], signal.SIGKILL)
    if victim == "keeper":  # the work goes on, and can be stopped
        await next_starts_work()
        assert not op.done()
        outcome = await op.stop(grace=0)
        assert isinstance(outcome, calloff.Cancelled)
    else:
        outcome = await asyncio.wait_for(op.outcome(), SLACK)
        assert isinstance(outcome, calloff.Failed)
        assert isinstance(outcome.error, calloff.CommandFailed if place == "command" else calloff.WorkerDied)
        assert victim == "work" or "guard" in str(outcome.error)
    assert marked(marker) == [], "when it is told that it has ended, all of it is dead"
    await next_starts_work()


@pytest.mark.parametrize("place", ["command", "process"])
async def test_a_guard_that_is_killed_while_its_work_is_called_off(tmp_path, marker, place):
    op, pids = await running(place, marker, tmp_path)
    op.cancel("enough", grace=30)
    os.kill(pids["guard"], signal.SIGKILL)
    outcome = await asyncio.wait_for(op.outcome(), SLACK)
    assert isinstance(outcome, (calloff.Cancelled, calloff.Failed))
    assert marked(marker) == []


@pytest.mark.parametrize("place", ["command", "process"])
async def test_keeper_and_guard_killed(tmp_path, marker, place):
    try:
        op, pids = await running(place, marker, tmp_path)
        files = len(os.listdir("/proc/self/fd"))
        for victim in ("keeper", "guard"):
            os.kill(pids[victim], signal.SIGKILL)
        outcome = await asyncio.wait_for(op.outcome(), SLACK)
        assert isinstance(outcome, calloff.Failed)
        assert until(lambda: gone(pids["work"]))
        if place == "process":  # the worker was stopped, and kept together what it had started
            assert all_dead(marker, outcome.error)
        assert len(os.listdir("/proc/self/fd")) < files
        await next_starts_work()
    finally:  # what was detached has no guard any more: that is what the error says
        for pid in marked(marker):
            os.kill(pid, signal.SIGKILL)


@pytest.fixture
def slow(tmp_path):
    """An interpreter that takes its time, for the next keeper; the former one is not used any more."""
    path = tmp_path / "slow"
    path.write_text("#!/bin/sh\nexec sleep 30\n")
    path.chmod(0o700)
    calloff.process.restart()
    if keepers._keeper is not None:
        keepers.dead(keepers._keeper)
    return str(path)


@pytest.mark.parametrize("victims", [("guard",), ("keeper",), ("guard", "keeper")], ids="-".join)
@pytest.mark.parametrize("place", ["command", "process"])
async def test_stopped(tmp_path, marker, place, victims):
    op, pids = await running(place, marker, tmp_path)
    for victim in victims:
        os.kill(pids[victim], signal.SIGSTOP)
    began = time.monotonic()
    outcome = await op.stop(grace=0.3)
    assert isinstance(outcome, calloff.Cancelled)
    assert time.monotonic() - began < 0.3 + 1 + SLACK
    assert marked(marker) == []
    await next_starts_work()
    assert until(lambda: all(state(pids[victim]) != "T" for victim in victims))


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGSTOP], ids=["killed", "stopped"])
async def test_a_keeper_that_is_hit_before_a_start(number):
    await next_starts_work()
    for _ in range(3):
        os.kill(keepers._keeper.pid, number)
        await next_starts_work()


async def test_a_spare_that_is_killed():
    await next_starts_work()
    for _ in range(3):
        pid = await calloff.call(calloff.process(os.getpid))
        os.kill(pid, signal.SIGKILL)
        await next_starts_work()


@pytest.mark.parametrize(
    "victims", [("work",), ("guard",), ("guard", "work"), ("keeper", "guard", "work")], ids="-".join
)
@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGSTOP], ids=["killed", "stopped"])
async def test_the_helpers_of_an_idle_worker(number, victims):
    """Nobody has anything to do, and then the next function comes."""
    for _ in range(2):
        work = await calloff.call(calloff.process(os.getpid), timeout=20)
        assert until(keepers._keeper.look)  # else 0, which means all of us
        pids = {"work": work, "guard": parent(work), "keeper": keepers._keeper.pid}
        for victim in victims:
            with contextlib.suppress(ProcessLookupError):  # a worker dies with its guard, perhaps before its turn
                os.kill(pids[victim], number)
        await next_starts_work()
        for victim in victims:
            assert number == signal.SIGSTOP or until(lambda: gone(pids[victim]))


@pytest.mark.parametrize("victim", ["os.getpid()", "os.getppid()"], ids=["work", "guard"])
@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGSTOP], ids=["killed", "stopped"])
async def test_the_helpers_of_a_worker_that_starts(monkeypatch, tmp_path, number, victim):
    name = f"hits_once_{uuid.uuid4().hex}"
    lines = "import os, pathlib, time", f"path = pathlib.Path({str(tmp_path / 'hit')!r})"
    hit = f"if not path.exists(): path.touch(); os.kill({victim}, {int(number)})"
    if number == signal.SIGKILL:
        hit += "; time.sleep(1000)"  # it dies of it, and begins with nothing before
    (tmp_path / f"{name}.py").write_text("\n".join((*lines, hit)))
    monkeypatch.syspath_prepend(str(tmp_path))
    calloff.process.configure(preload=[name])
    calloff.process.restart()
    try:
        assert await calloff.call(calloff.process(len, "abc"), timeout=20) == 3
        assert (tmp_path / "hit").exists()
    finally:
        calloff.process.configure(preload=[])
        calloff.process.restart()


@pytest.mark.parametrize("victims", [("work",), ("guard",), ("keeper",), ("keeper", "guard")], ids="-".join)
@pytest.mark.parametrize("place", ["command", "process"])
async def test_stopped_while_it_is_being_stopped(tmp_path, marker, place, victims):
    op, pids = await running(place, marker, tmp_path)
    op.cancel("enough", grace=0.3)
    for victim in victims:
        os.kill(pids[victim], signal.SIGSTOP)
    outcome = await asyncio.wait_for(op.outcome(), 0.3 + 1 + SLACK)
    assert isinstance(outcome, calloff.Cancelled)
    assert marked(marker) == []
    await next_starts_work()


@pytest.mark.parametrize("victim", ["keeper", "guard"])
@pytest.mark.parametrize("place", ["command", "process"])
async def test_stopped_while_the_work_runs_to_its_end(tmp_path, place, victim):
    def until_told(path):
        while not os.path.exists(path):
            time.sleep(0.01)
        return "x"

    go, script = str(tmp_path / "go"), f"while [ ! -e {tmp_path}/go ]; do sleep 0.01; done; echo x"
    command = calloff.command("sh", "-c", script)
    op = calloff.start(command if place == "command" else calloff.process(until_told, go))
    while not op.body.pid:
        await asyncio.sleep(0.01)
    guard = parent(op.body.pid)
    os.kill(parent(guard) if victim == "keeper" else guard, signal.SIGSTOP)
    open(go, "w").close()
    value = await asyncio.wait_for(op, SLACK)
    assert (value if place == "process" else value.text) in ("x", "x\n")
    await next_starts_work()


async def test_a_guard_that_is_stopped_again_and_again_is_killed(tmp_path, marker):
    code = f"import os, signal, time\nwhile True: os.kill(os.getppid(), signal.SIGSTOP); time.sleep(0.02)  # {marker}"
    outcome = await calloff.start(calloff.command(sys.executable, "-c", code), timeout=2, grace=0.3).outcome()
    assert not isinstance(outcome, calloff.Abandoned)
    assert marked(marker) == []
    await next_starts_work()


@pytest.mark.parametrize(
    "victims", ["$PPID", "$keeper $PPID", "$keeper $PPID $$"], ids=["guard", "keeper-guard", "all"]
)
async def test_nothing_survives_an_owner_that_is_killed_while_its_helpers_are_stopped(tmp_path, marker, victims):
    """The end of the owner's socket has the system continue them: nobody else is left who could."""
    ready = tmp_path / "ready"
    line = (
        f": {marker}; while [ ! -e {ready}.go ]; do sleep 0.01; done; "
        f"read -r _ _ _ keeper _ </proc/$PPID/stat; echo $keeper $PPID $$ >{ready}.new; "
        f"mv {ready}.new {ready}; kill -STOP {victims}; sleep {NAP}"
    )
    go = f"{ready}.go"
    code = f"""
    import asyncio, calloff
    async def main():
        op = calloff.start(calloff.command('sh', '-c', {line!r}))
        while not op.body.pid:  # as long as it does not know, it continues its helpers
            await asyncio.sleep(0.01)
        open({go!r}, 'w').close()
        await op
    asyncio.run(main())
    """
    argv = [sys.executable, "-c", textwrap.dedent(code)]
    owner = await asyncio.create_subprocess_exec(*argv, stderr=asyncio.subprocess.DEVNULL)
    while not ready.exists():
        await asyncio.sleep(0.01)
    keeper, guard, work = map(int, ready.read_text().split())
    stopped = [pid for pid, word in ((keeper, "$keeper"), (guard, "$PPID"), (work, "$$")) if word in victims.split()]
    if victims != "$PPID":  # else its keeper continues it
        assert until(lambda: all(state(pid) == "T" for pid in stopped))
    owner.kill()
    await owner.wait()
    assert until(lambda: not marked(marker), SLACK)
    assert until(lambda: gone(guard) and gone(keeper), SLACK)


@pytest.mark.parametrize("place", ["command", "process"])
async def test_it_is_asked_in_place_of_an_owner_that_is_held_up(tmp_path, place):
    """From before the deadline until it has obeyed nothing of the owner runs."""

    def polite(path):
        try:
            open(f"{path}/begun", "w").close()
            time.sleep(1000)
        except BaseException:
            open(f"{path}/asked", "w").close()
            raise

    line = f"trap 'touch {tmp_path}/asked; exit 0' TERM; touch {tmp_path}/begun; while :; do sleep 0.02; done"

    work: Any = calloff.command("sh", "-c", line) if place == "command" else calloff.process(polite, str(tmp_path))
    op = calloff.start(work, timeout=1.5, grace=SLACK)
    while not (tmp_path / "begun").exists():
        await asyncio.sleep(0.01)
    assert until((tmp_path / "asked").exists, 1.5 + SLACK)  # the owner is held up until then
    outcome = await op.outcome()
    assert isinstance(outcome, calloff.Cancelled)
    assert str(outcome.report.reason.kind) == "deadline"


# --- whose guard ends before anything has begun


LONG = [3e6, 1e10, float("inf")]  # `poll` counts milliseconds with 31 bits


@pytest.mark.parametrize("timeout", LONG)
@pytest.mark.parametrize("place", ["command", "process"])
async def test_a_guard_outlives_a_limit_in_the_far_future(place, timeout):
    if place == "command":
        work = calloff.command("sh", "-c", "sleep 0.2; echo x")
        assert (await calloff.call(work, timeout=timeout)).text == "x\n"
        return
    worker = await calloff.call(calloff.process(os.getpid), timeout=timeout)
    guard = parent(worker)
    assert await calloff.call(calloff.process(time.sleep, 0.2), timeout=timeout) is None  # type: ignore[func-returns-value]
    assert parent(worker) == guard


def test_a_worker_that_dies_between_two_loops_is_not_noticed(loop_kind):
    """The next function is given to it, and then to another one."""
    with asyncio.Runner(loop_factory=loop_factory(loop_kind)) as runner:
        worker = runner.run(calloff.call(calloff.process(os.getpid)))
        guard = parent(worker)
    os.kill(guard, signal.SIGKILL)
    assert until(lambda: gone(worker))
    with asyncio.Runner(loop_factory=loop_factory(loop_kind)) as runner:
        assert runner.run(calloff.call(calloff.process(len, "abc"))) == 3


def test_a_restart_between_two_loops(loop_kind):
    with asyncio.Runner(loop_factory=loop_factory(loop_kind)) as runner:
        worker = runner.run(calloff.call(calloff.process(os.getpid)))
    calloff.process.restart()
    with asyncio.Runner(loop_factory=loop_factory(loop_kind)) as runner:
        assert runner.run(calloff.call(calloff.process(os.getpid))) != worker


@pytest.mark.parametrize("victim", ["work", "guard", "guard and keeper"])
async def test_killed_while_a_function_is_on_its_way(victim):
    """It never ran: it is given to another worker."""
    await a_new_keeper()
    worker = await calloff.call(calloff.process(os.getpid))
    guard, keeper = parent(worker), keepers._keeper.pid
    for pid in (keeper, guard, worker):  # each would be continued by the one before
        os.kill(pid, signal.SIGSTOP)
        assert until(lambda: state(pid) == "T")
    op = calloff.start(calloff.process(os.getpid))
    assert op.body.pid == worker
    victims = {"work": [worker], "guard": [guard], "guard and keeper": [guard, keeper]}[victim]
    for pid in victims:
        os.kill(pid, signal.SIGKILL)
    assert await op not in (0, worker)


async def test_a_worker_tells_its_number_itself_when_its_guard_is_late(monkeypatch):
    heard, late = Worker.heard, []

    def hold(self, letter, handle):
        late.append((self, letter, handle)) if letter[0] == "born" else heard(self, letter, handle)

    calloff.process.restart()
    monkeypatch.setattr(Worker, "heard", hold)
    worker = await calloff.call(calloff.process(os.getpid))
    op = calloff.start(calloff.process(time.sleep, 1000))
    assert op.body.pid == worker
    monkeypatch.undo()
    for each in late:
        heard(*each)
    assert isinstance(await op.stop(grace=0), calloff.Cancelled)


async def test_killed_while_a_function_is_on_its_way_and_no_other_worker_can_be_had(monkeypatch):
    def none_left(pool):
        raise OSError(errno.EMFILE, "Too many open files")

    await a_new_keeper()
    monkeypatch.setattr(SETTINGS, "spares", 0)
    calloff.process.restart()
    worker = await calloff.call(calloff.process(os.getpid))
    for pid in (keepers._keeper.pid, parent(worker), worker):  # each would be continued by the one before
        os.kill(pid, signal.SIGSTOP)
        assert until(lambda: state(pid) == "T")
    op = calloff.start(calloff.process(os.getpid))
    monkeypatch.setattr(Pool, "_spawn", none_left)
    os.kill(worker, signal.SIGKILL)
    outcome = await asyncio.wait_for(op.outcome(), SLACK)
    assert outcome.error.errno == errno.EMFILE


@pytest.mark.parametrize("victims", [("guard",), ("keeper",), ("guard", "keeper")], ids="-".join)
@pytest.mark.parametrize("place", ["command", "process"])
async def test_killed_before_the_work_is_started(monkeypatch, tmp_path, place, victims):
    held = []

    def hold(self, data):
        held.append((self, data))

    await a_new_keeper()
    calloff.process.restart()
    keeper = keepers.used_now().pid  # other tests may have left one that is still waited for, or processes of their own
    assert until(lambda: not below(keeper)), below(keeper)
    monkeypatch.setattr(kept.Guarded, "_send", hold)
    work: Any = calloff.command("echo", "x") if place == "command" else calloff.process(len, "abc")
    op = calloff.start(work, timeout=20)
    assert until(lambda: len(below(keeper)) == 1)
    (guard,) = below(keeper)
    assert parent(guard) == keeper == keepers._keeper.pid
    for pid in (keeper, guard):  # who would continue the guard
        stop_for_good(pid)
    monkeypatch.undo()
    for guarded, data in held:
        guarded._send(data)
    for victim in victims:  # a keeper that is left is continued by its owner
        os.kill({"guard": guard, "keeper": keeper}[victim], signal.SIGKILL)
    value = await op
    assert value == 3 if place == "process" else value.text == "x\n"


@pytest.mark.parametrize("place", ["command", "process"])
async def test_a_keeper_that_was_killed_before_it_was_up_can_be_reaped_a_moment_later(monkeypatch, slow, place):
    """Its socket ends first; by its status alone it is known that it was killed, and another one may do."""
    reap, asked = os.waitpid, []

    def reap_late(pid, options):
        asked.append(pid)
        return (0, 0) if len(asked) == 1 else reap(pid, options)

    monkeypatch.setattr(sys, "executable", slow)
    work: Any = calloff.command("echo", "x") if place == "command" else calloff.process(int, 3)
    op = calloff.start(work)
    while keepers._keeper is None:
        await asyncio.sleep(0)
    monkeypatch.undo()
    monkeypatch.setattr(os, "waitpid", reap_late)
    os.kill(keepers._keeper._starter, signal.SIGKILL)
    value = await asyncio.wait_for(op, SLACK)
    assert value == 3 if place == "process" else value.text == "x\n"
    assert len(asked) > 1


@pytest.mark.parametrize("place", ["command", "process"])
async def test_called_off_while_a_keeper_takes_its_time_to_come_up(monkeypatch, tmp_path, slow, place):
    """Nobody has come to the start: it is taken back, and so nothing needs to be waited for."""
    monkeypatch.setattr(sys, "executable", slow)
    files = len(os.listdir("/proc/self/fd"))
    mark = tmp_path / "mark"
    work = calloff.command("touch", mark) if place == "command" else calloff.process(mark.touch)
    op = calloff.start(work)
    await asyncio.sleep(0.05)
    outcome = await op.stop(grace=0.05)
    monkeypatch.undo()
    assert isinstance(outcome, calloff.Cancelled), outcome
    assert outcome.report.rung is calloff.Rung.ASKED
    former = keepers._keeper
    os.kill(former._starter, signal.SIGKILL)
    await next_starts_work()
    calloff.process.restart()
    assert not mark.exists()
    assert not former.uses
    assert len(os.listdir("/proc/self/fd")) <= files + 3


async def test_called_off_in_the_moment_in_which_its_start_is_read(monkeypatch):
    """It looked as if it could be taken back, and has begun: it is asked as any other, and has its grace."""
    looked = fds.is_unread

    def just_before(file, *later):
        monkeypatch.setattr(fds, "is_unread", looked)
        assert fds.is_readable(file, SLACK), "it was born"
        return True

    op = calloff.start(calloff.command("sleep", NAP))
    monkeypatch.setattr(fds, "is_unread", just_before)
    outcome = await op.stop()
    assert isinstance(outcome, calloff.Cancelled), outcome
    assert fds.is_unread is looked
    assert outcome.report.started
    assert outcome.report.rung is calloff.Rung.TERMINATED


async def test_called_off_in_the_moment_in_which_its_guard_has_not_read_it_yet(monkeypatch, tmp_path):
    """It looked as if its start had been read: it is asked for behind that, and nothing begins."""
    await a_new_keeper()
    stop_for_good(keepers._keeper.pid)
    op = calloff.start(calloff.command("touch", tmp_path / "mark"))
    await asyncio.sleep(0)
    answers = [True, False]
    with monkeypatch.context() as patched:
        patched.setattr(fds, "is_unread", lambda *_: answers.pop(0))
        op.cancel()
        assert not answers
    outcome = await op.outcome()
    assert outcome.report.rung is calloff.Rung.ASKED
    assert not outcome.report.started
    assert not (tmp_path / "mark").exists()


def test_what_is_unread_behind_a_start_is_not_the_start():
    ours, theirs = fds.pair()
    with ours, theirs:
        start, later = b"s" * 5000, [b"limit" * 20, b"never"]
        for sent in (start, *later):
            ours.send(sent)
        assert fds.is_unread(ours.fileno(), later)
        assert len(theirs.recv(3000)) == 3000
        assert fds.is_unread(ours.fileno(), later), "half of it was"
        assert len(theirs.recv(2000)) == 2000
        assert fds.is_unread(ours.fileno())
        assert not fds.is_unread(ours.fileno(), later)


@pytest.mark.parametrize("place", ["command", "process"])
async def test_a_letter_that_comes_behind_an_unread_start_is_no_sign_that_it_was_read(monkeypatch, slow, place):
    with monkeypatch.context() as patched:
        patched.setattr(sys, "executable", slow)
        work: Any = calloff.command("echo", "x") if place == "command" else calloff.process(str, "x\n")
        op = calloff.start(work)
    starter = keepers._keeper._starter
    os.kill(starter, signal.SIGKILL)
    os.waitid(os.P_PID, starter, os.WEXITED | os.WNOWAIT)
    guarded = op.body._guarded if place == "command" else op.body._pool.workers.copy().pop().guarded
    guarded.write("limit", 0, None, None, None)  # before the loop has heard that nobody is there any more
    value = await asyncio.wait_for(op, SLACK)
    assert (value.text if place == "command" else value) == "x\n"


async def test_all_that_a_keeper_was_to_start_are_told_why_it_did_not_come_up(monkeypatch, tmp_path, slow):
    broken = tmp_path / "broken"
    broken.write_text("#!/bin/sh\nsleep 0.2\necho no room left >&2\nexit 1\n")
    broken.chmod(0o700)
    with monkeypatch.context() as patched:
        patched.setattr(sys, "executable", str(broken))
        works: list[Any] = [calloff.command("true"), calloff.process(int, 3), calloff.command("true")]
        operations = [calloff.start(work) for work in works]
        outcomes = [await op.outcome() for op in operations]
    for outcome in outcomes:
        assert isinstance(outcome, calloff.Failed)
        assert "status 1: no room left" in str(outcome.error), outcome


@pytest.mark.parametrize("status", [0, 3])
async def test_a_guard_that_is_killed_after_its_command_has_ended_by_itself(tmp_path, status):
    await a_new_keeper()
    go = tmp_path / "go"
    os.mkfifo(go)
    op = calloff.start(calloff.command("sh", "-c", f"read line < {go}; exit {status}"))
    while op.body.pid is None:
        await asyncio.sleep(0.01)
    pid, guard, keeper = op.body.pid, parent(op.body.pid), keepers._keeper.pid
    for helper in (keeper, guard):  # each would be continued by the one before
        os.kill(helper, signal.SIGSTOP)
        assert until(lambda: state(helper) == "T")
    go.write_text("x\n")
    assert until(lambda: state(pid) == "Z")
    os.kill(guard, signal.SIGKILL)
    outcome = await asyncio.wait_for(op.outcome(), SLACK)
    if status:
        assert isinstance(outcome.error, calloff.CommandFailed)
        assert outcome.error.status == status
        assert "guard" not in str(outcome.error)
    else:
        assert isinstance(outcome, calloff.Completed)
