"""Stopping functions in processes: each rung, nothing that survives, nothing that is said before it is true."""

import asyncio
import contextlib
import linecache
import math
import os
import random
import select
import signal
import subprocess
import sys
import textwrap
import threading
import time
import uuid
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import places.process_bodies as bodies
import pytest
from places.process_table import below, gone, marked, state, until, wait_until_it_waits

import calloff
from calloff import Rung
from calloff._child.guard import Guard
from calloff._os.fds import is_readable
from calloff._places import keepers
from calloff._places.process.body import ProcessBody
from calloff._places.process.pool import SETTINGS, pool_of

pytestmark = pytest.mark.usefixtures("patient")

linecache.getlines(bodies.__file__)  # whoever reads them is waited for a quarter of a second only

SLACK = 20.0


@pytest.fixture
def marker():
    return f"calloff-{uuid.uuid4()}"


@pytest.fixture(autouse=True)
def settings():
    before = vars(SETTINGS).copy()
    yield
    vars(SETTINGS).update(before)


async def begun(path):
    """Wait until the function is in its body."""
    async with asyncio.timeout(20):
        while not os.path.exists(path):
            await asyncio.sleep(0.005)
    await asyncio.sleep(0.02)  # most go on to what they do for long; nothing here relies on it


async def at(op, source):
    """Wait until the function is at that line."""
    async with asyncio.timeout(20):
        while [frame.source for frame in op.where()[-1:]] != [source]:
            await asyncio.sleep(0.005)


def start(fn, *args, **kwargs):
    return calloff.start(calloff.process(fn, *args), **kwargs)


async def test_a_blocking_call_is_asked_and_ends(tmp_path):
    path = str(tmp_path / "pid")
    op = start(bodies.touch_and_sleep, path)
    await begun(path)
    await at(op, "time.sleep(seconds)")
    outcome = await op.stop("enough")
    assert isinstance(outcome, calloff.Cancelled)
    assert outcome.report.rung is Rung.ASKED
    assert outcome.report.refusals == 0
    assert outcome.report.where[-1].function == "touch_and_sleep"
    assert outcome.report.where[-1].source == "time.sleep(seconds)"
    assert not gone(int(Path(path).read_text()))  # the worker goes on
    assert await calloff.call(calloff.process(bodies.add, 1)) == 1


@pytest.mark.parametrize("fn", [bodies.clean_up, bodies.async_clean_up])
async def test_clean_up_has_its_grace(tmp_path, fn):
    path = str(tmp_path / "file")
    op = start(fn, path, 0.2)
    await begun(path + ".in")
    outcome = await op.stop()
    assert outcome.report.rung is Rung.ASKED
    assert Path(path).read_text() == "clean"


async def test_an_async_function_that_blocks_its_loop(tmp_path):
    op = start(bodies.async_block, str(tmp_path / "in"))
    await begun(tmp_path / "in")
    await at(op, "time.sleep(100)")
    outcome = await op.stop()
    assert outcome.report.rung is Rung.ASKED
    assert outcome.report.where[-1].source == "time.sleep(100)"


@pytest.mark.parametrize("fn", [bodies.swallow, bodies.spin_in_c, bodies.ignore_signals, bodies.stop_itself])
@pytest.mark.parametrize("grace", [0, 0.3])
async def test_force_ends_everything(tmp_path, fn, grace):
    op = start(fn, str(tmp_path / "in"))
    await begun(tmp_path / "in")
    worker = op.body.worker
    before = time.monotonic()
    outcome = await op.stop("now", grace=grace)
    took = time.monotonic() - before
    assert isinstance(outcome, calloff.Cancelled)
    assert outcome.report.rung is Rung.KILLED
    assert outcome.report.survivors == ()
    assert grace <= took < grace + 1 + SLACK
    assert outcome.report.where
    assert any(frame.file.endswith("process_bodies.py") for frame in outcome.report.where)
    assert worker.dead
    assert await calloff.call(calloff.process(bodies.add, 1)) == 1


async def test_a_refusal_is_a_completion_with_a_report(tmp_path):
    op = start(bodies.refuse_once, str(tmp_path / "in"))
    await begun(tmp_path / "in")
    outcome = await op.stop()
    assert isinstance(outcome, calloff.Completed)
    assert outcome.value == "all the same"
    assert outcome.report is not None
    assert outcome.report.refusals == 1


async def test_a_deadline(tmp_path):
    text = r"within .* s: at touch_and_sleep .*process_bodies.py:\d+\): time.sleep"
    op = start(bodies.touch_and_sleep, str(tmp_path / "pid"), timeout=1000)
    await begun(tmp_path / "pid")
    wait_until_it_waits(int((tmp_path / "pid").read_text()))  # a look would let us know where it is
    op.reschedule(0.1)
    with pytest.raises(calloff.TimedOut, match=text):
        await op
    op = start(bodies.swallow, str(tmp_path / "in"), timeout=1000, grace=0.2)
    await begun(tmp_path / "in")
    op.reschedule(0.1)
    assert (await op.outcome()).report.rung is Rung.KILLED


async def test_a_deadline_that_a_blocked_loop_is_late_for(tmp_path):
    """The guard asks in our place; where the function was is told all the same."""
    op = start(bodies.touch_and_sleep, str(tmp_path / "pid"), timeout=1000)
    await begun(tmp_path / "pid")
    wait_until_it_waits(int((tmp_path / "pid").read_text()))  # a look would let us know where it is
    op.reschedule(0.01)
    await asyncio.sleep(0)
    worker = op.body.worker
    while not select.select([worker._files[0]], [], [], 10)[0]:
        pass
    worker._readable()
    with pytest.raises(
        calloff.TimedOut, match=r"within .* s: at touch_and_sleep .*process_bodies.py:\d+\): time.sleep"
    ):
        await op


async def test_the_reason_arrives_at_a_checkpoint(tmp_path):
    op = start(bodies.checkpoints, str(tmp_path / "in"))
    await begun(tmp_path / "in")
    outcome = await op.stop("we are leaving")
    assert isinstance(outcome, calloff.Completed)
    assert outcome.value == ("requested", "we are leaving")


async def test_it_can_call_itself_off():
    outcome = await start(bodies.call_itself_off).outcome()
    assert isinstance(outcome, calloff.Cancelled)
    assert outcome.reason.text == "enough of this"


async def test_a_tree_with_daemons_is_gone_when_the_end_is_told(tmp_path, marker):
    op = start(bodies.tree, str(tmp_path / "in"), marker)
    await begun(tmp_path / "in")
    async with asyncio.timeout(20):
        while len(marked(marker)) < 6:  # the shell begins two of them
            await asyncio.sleep(0.002)
    outcome = await op.stop(grace=0)
    left = marked(marker)
    assert not left
    assert outcome.report.rung is Rung.KILLED


async def test_what_is_left_behind_is_gone_when_the_value_is_told(tmp_path, marker):
    assert await calloff.call(calloff.process(bodies.tree, str(tmp_path / "in"), marker, "return")) == "left them"
    assert not marked(marker)


async def test_a_tree_whose_worker_dies(tmp_path, marker):
    op = start(bodies.tree, str(tmp_path / "in"), marker)
    await begun(tmp_path / "in")
    worker = next(pid for pid in below(os.getpid()) if _name(pid) == "calloff-worker" and below(pid))
    os.kill(worker, signal.SIGKILL)
    with pytest.raises(calloff.WorkerDied, match="SIGKILL"):
        await op
    assert not marked(marker)


async def test_a_guard_that_is_killed_leaves_nothing(tmp_path, marker):
    op = start(bodies.tree, str(tmp_path / "in"), marker)
    await begun(tmp_path / "in")
    guards = [pid for pid in below(os.getpid()) if _name(pid) == "calloff-guard" and len(below(pid)) > 3]
    os.kill(guards[0], signal.SIGKILL)
    with pytest.raises(calloff.WorkerDied, match="guard"):
        await op
    assert until(lambda: not marked(marker))
    assert await calloff.call(calloff.process(bodies.add, 1)) == 1


async def test_a_keeper_that_is_killed_is_replaced(tmp_path):
    await calloff.call(calloff.process(bodies.add, 1))
    assert until(keepers.used_now().look)  # else 0, which means all of us
    keeper = keepers.used_now().pid
    running = start(bodies.touch_and_sleep, str(tmp_path / "pid"))
    await begun(tmp_path / "pid")
    os.kill(keeper, signal.SIGKILL)
    assert until(lambda: gone(keeper))
    calloff.process.configure(max_jobs=1)
    for number in range(6):
        assert await calloff.call(calloff.process(bodies.add, number)) == number
    assert (await running.stop()).report.rung is Rung.ASKED
    assert _name(keeper) != "calloff-keeper" or gone(keeper)


async def test_twenty_that_refuse_end_together(tmp_path):
    calloff.process.configure(size=20)
    ops = [start(bodies.swallow, str(tmp_path / str(number))) for number in range(20)]
    for number in range(20):
        await begun(tmp_path / str(number))
    before = time.monotonic()
    outcomes = await asyncio.gather(*(op.stop(grace=0.5) for op in ops))
    assert time.monotonic() - before < 0.5 + 1 + SLACK
    assert {outcome.report.rung for outcome in outcomes} == {Rung.KILLED}


async def test_a_late_asking_hits_nobody():
    """Short jobs, called off about when they end: each ending is true, and no worker is harmed.

    When that is, a busy machine decides: so it is measured, and some are surely asked in time, and some surely too late.
    """
    chance = random.Random(7)
    took = 0.002
    endings: dict[str, set[type]] = {"in time": set(), "about then": set(), "too late": set()}
    enough = time.monotonic() + 20
    for number in range(300):
        if number > 20 and time.monotonic() > enough:  # a busy machine takes a minute for all of them
            break
        when = {0: "in time", 1: "too late"}.get(number % 20, "about then")
        began = time.monotonic()
        op = start(time.sleep, 1000) if when == "in time" else start(bodies.short, 1)
        if when == "too late":
            await op
            took = time.monotonic() - began
        else:
            await asyncio.sleep(chance.random() * 1.5 * took)
        assert op.cancel("perhaps too late") or op.done()
        after = start(bodies.add, 3)
        outcome = await op.outcome()
        assert isinstance(outcome, (calloff.Completed, calloff.Cancelled)), outcome
        if isinstance(outcome, calloff.Completed):
            assert outcome.value == 1
        endings[when].add(type(outcome))
        assert await after == 3
    assert endings["in time"] == {calloff.Cancelled}
    assert endings["too late"] == {calloff.Completed}


async def test_force_that_comes_too_late_does_not_hit_the_next_function(tmp_path):
    """The result is there, but was not read yet, and with the reading the next one is given to the worker."""
    await calloff.call(calloff.process(bodies.add, 1))
    SETTINGS.size = 1
    go = tmp_path / "go"
    first = start(bodies.waits_for, str(go))
    while str(first.state) == "pending":
        await asyncio.sleep(0)
    second = start(time.sleep, 0.05)
    await asyncio.sleep(0)
    assert str(second.state) == "pending"
    go.touch()
    assert is_readable(first.body.worker._files[0], 30)  # the loop is blocked here all the time
    first.body.force()
    assert await first is None
    assert await second.outcome() == calloff.Completed(None)


async def test_where_it_is(tmp_path):
    op = start(bodies.touch_and_sleep, str(tmp_path / "pid"))
    await begun(tmp_path / "pid")
    async with asyncio.timeout(20):
        while [(frame.function, frame.source) for frame in op.where()] != [("touch_and_sleep", "time.sleep(seconds)")]:
            await asyncio.sleep(0.005)
    await op.stop(grace=0)
    op = start(bodies.spin_in_c, str(tmp_path / "in"))
    await begun(tmp_path / "in")
    async with asyncio.timeout(20):
        while [frame.source for frame in op.where()] != ["return sum(numbers)"]:  # also while C code runs
            await asyncio.sleep(0.005)
    await op.stop(grace=0)
    op = start(bodies.async_spin_in_c, str(tmp_path / "async"))
    await begun(tmp_path / "async")
    for _ in range(3):
        async with asyncio.timeout(20):
            while "async_spin_in_c" not in [frame.function for frame in op.where()][:2]:  # after uvloop's own, or alone
                await asyncio.sleep(0.005)
    assert not op.done(), "looking does it no harm"
    await op.stop(grace=0)
    op = start(bodies.async_line)
    async with asyncio.timeout(20):
        while [frame.function for frame in op.where()][:2] != ["async_line", "inner_await"]:
            await asyncio.sleep(0.005)
    await op.stop()


async def test_where_it_is_before_our_loop_has_heard_of_the_worker(tmp_path):
    pool = pool_of(asyncio.get_running_loop())
    SETTINGS.size = len(pool.workers) + 1
    others = [start(time.sleep, 100) for _ in range(len(pool.idle))]
    op = start(bodies.touch_and_sleep, str(tmp_path / "pid"))
    while not (found := [each for each in pool.workers if each.body is not None and each.body is op.body]):
        await asyncio.sleep(0)
    (new,) = found
    asyncio.get_running_loop().remove_reader(new.guarded._file)  # that it was born comes later than that it is ready
    async with asyncio.timeout(20):
        while not (tmp_path / "pid").exists() or not (tmp_path / "pid").read_text():
            await asyncio.sleep(0.005)
    assert new._looker.pid is None
    seen = []
    looking = threading.Thread(target=lambda: seen.extend(op.where()))
    looking.start()
    looking.join()
    # in time, or what is known without an answer; it may still be at the end of its writing, further in
    assert [frame.function for frame in seen][:1] == ["touch_and_sleep"]
    worker = op.body.pid
    assert str(worker) == (tmp_path / "pid").read_text()
    new.guarded._listen()
    await asyncio.sleep(0)  # now the loop hears of it, too
    assert [frame.function for frame in op.where()][:1] == ["touch_and_sleep"]
    assert op.body.pid == worker
    # a spare may have told its number before its guard has
    while any(each._looker.pid is None for each in pool.workers):
        await asyncio.sleep(0.005)
    files = [os.readlink(f"/proc/self/fd/{file.name}") for file in os.scandir("/proc/self/fd")]
    assert files.count("anon_inode:[pidfd]") == len(pool.workers)
    for each in (op, *others):
        await each.stop()


async def test_looking_does_no_harm():
    op = start(bodies.spin_in_python, 1.0)
    while not op.done():
        op.where()
        await asyncio.sleep(0)
    assert await op == "whole"


async def test_where_does_not_wait_for_a_stopped_worker(tmp_path):
    op = start(bodies.stop_itself, str(tmp_path / "in"))
    await begun(tmp_path / "in")
    before = time.monotonic()
    assert [frame.function for frame in op.where()] == ["stop_itself"]
    assert time.monotonic() - before < 0.05 + SLACK
    await op.stop(grace=0)


async def test_of_a_worker_that_does_not_answer_the_line_is_told_where_it_was_seen_last(tmp_path):
    op = start(bodies.touch_and_sleep, str(tmp_path / "pid"))
    await begun(tmp_path / "pid")
    async with asyncio.timeout(20):
        while [frame.source for frame in op.where()] != ["time.sleep(seconds)"]:
            await asyncio.sleep(0.005)
    os.kill(op.body.pid, signal.SIGSTOP)
    until(lambda: state(op.body.pid) == "T")
    assert [frame.source for frame in op.where()] == ["time.sleep(seconds)"]
    assert [frame[2] for frame in op.body.known_where()] == ["touch_and_sleep"]
    os.kill(op.body.pid, signal.SIGCONT)
    await op.stop(grace=0)


async def killed_while_our_loop_is_blocked(tmp_path, function):
    op = start(function, str(tmp_path / "in"), timeout=2, grace=0.2)
    while not op.body.pid:
        await asyncio.sleep(0.001)
    worker = op.body.pid
    assert until((tmp_path / "in").exists)  # the loop is blocked from here on
    assert until(lambda: gone(worker), 2 + 0.2 + 1 + SLACK)
    outcome = await op.outcome()
    assert isinstance(outcome, calloff.Cancelled)
    assert outcome.reason.kind == "deadline"
    assert outcome.report.rung is Rung.KILLED
    return outcome.report


async def test_the_deadline_holds_while_our_loop_is_blocked(tmp_path):
    await killed_while_our_loop_is_blocked(tmp_path, bodies.ignore_signals)


async def test_where_it_is_is_shown_when_our_loop_does_not_come_to_ask(tmp_path):
    """What was never looked at was told to be in the first line of its function."""
    for number in range(5):  # a busy machine may give it no turn while its guard waits for that
        folder = tmp_path / str(number)
        folder.mkdir()
        report = await killed_while_our_loop_is_blocked(folder, bodies.spin_in_c)
        if report.where[-1].source == "return sum(numbers)":
            return
    raise AssertionError(report.where)


@pytest.mark.parametrize("ends", ["before", "while it shows where it is", "never"])
def test_a_guard_kills_no_function_behind_the_one_whose_limit_was_over(monkeypatch, ends):
    page = SimpleNamespace(done=0, plan=(2, math.inf, math.inf))
    guard = Guard.__new__(Guard)
    vars(guard).update(kind="worker", page=page, _lease=None, _reminder=None, _again=None, _limit=0.0, _limited=1)
    vars(guard).update(_reaper=SimpleNamespace(leader=os.getpid()))
    sent = []

    def signal_work(_, signum):
        sent.append(signum)
        page.done = ends != "never"

    monkeypatch.setattr(Guard, "_signal_work", signal_work)
    monkeypatch.setattr(Guard, "_pause", lambda *_: None)
    if ends == "before":  # between two looks at the page
        monkeypatch.setattr(Guard, "_rings", lambda *_: setattr(page, "done", 1))
    assert guard._overdue() == ("limit" if ends == "never" else "")
    assert len(sent) == (ends != "before")
    monkeypatch.undo()
    assert guard._overdue() == ""
    assert guard._limit is None


async def test_the_limits_of_a_later_function_hold_while_our_loop_is_blocked_though_its_guard_was_told_of_none(
    tmp_path,
):
    """The guard was told of the first one's; when these have passed, it reads those of the second one."""
    first = start(bodies.add, 1, timeout=2)
    assert await first == 1
    op = start(bodies.swallow, str(tmp_path / "in"), timeout=2.5, grace=0.2)
    pid = await first_pid(op)
    assert until((tmp_path / "in").exists)  # the loop is blocked from here on
    assert until(lambda: gone(pid), 20)
    outcome = await op.outcome()
    assert isinstance(outcome, calloff.Cancelled)
    assert outcome.report.rung is Rung.KILLED


async def test_a_function_without_limits_outlives_those_of_the_one_before():
    """The first function of a worker has none, but is asked: its grace passes while the second one runs."""
    SETTINGS.size, SETTINGS.spares = 1, 0
    for _ in range(10):
        op = start(time.sleep, 1000, grace=0.5)
        pid = await first_pid(op)
        outcome = await op.stop()
        if (
            outcome.report.rung is Rung.ASKED
        ):  # else a busy machine had it killed, and there is no worker left to look at
            break
    op = start(time.sleep, 1.2)
    assert await first_pid(op) == pid
    await op


async def test_a_function_that_ends_well_does_not_wake_its_guard():
    async def limited():
        return await calloff.call(calloff.process(os.getppid), timeout=30)

    guard = await limited()
    before = sleeps(guard)
    for _ in range(50):
        assert await limited() == guard
    assert sleeps(guard) - before < 10  # it may hear of something else, but not of each


async def test_a_later_function_with_a_nearer_deadline_has_its_own(tmp_path):
    for timeout in (0.3, 3.0, 15.0):  # a busy machine may not come to begin with it within the first
        assert await start(bodies.add, 1, timeout=60) == 1
        path = tmp_path / str(timeout)
        op = start(bodies.swallow, str(path), timeout=timeout, grace=0.2)
        pid = await first_pid(op)
        if until(path.exists, timeout):
            break
        await op.outcome()
    assert path.exists()
    assert until(lambda: gone(pid), 20)
    assert (await op.outcome()).report.rung is Rung.KILLED


async def first_pid(op):
    """The number of its worker, once it has one."""
    async with asyncio.timeout(20):
        while op.body.pid is None:
            await asyncio.sleep(0)
    return op.body.pid


def sleeps(pid):
    """How often a process has gone to sleep of its own accord."""
    line = next(line for line in Path(f"/proc/{pid}/status").read_text().splitlines() if line.startswith("voluntary"))
    return int(line.split()[1])


async def test_a_new_deadline_reaches_the_guard(tmp_path):
    op = start(bodies.touch_and_sleep, str(tmp_path / "pid"), 1.0, timeout=1000, grace=0)
    await begun(tmp_path / "pid")
    op.reschedule(0.4)
    op.reschedule(30)
    time.sleep(0.7)  # blocks the loop past the former deadline
    assert await op == "slept"


# --- whole programs

PROGRAM = """
    import asyncio, os, sys, time
    import calloff
    from places.process_bodies import swallow, tree, touch_and_sleep

    async def main():
        folder, marker = sys.argv[1:]
        ops = [calloff.start(calloff.process(tree, f"{{folder}}/{{n}}", marker)) for n in range(2)]
        env = dict(os.environ, CALLOFF_TEST=marker)
        ops.append(calloff.start(calloff.command("setsid sleep 1000 & sleep 1000", shell=True, env=env)))
        while not all(os.path.exists(f"{{folder}}/{{n}}") for n in range(2)):
            await asyncio.sleep(0.01)
        await asyncio.sleep(0.2)
        open(f"{{folder}}/ready", "w").close()
        {end}

    asyncio.run(main())
"""


def program(tmp_path, end):
    file = tmp_path / "program.py"
    file.write_text(textwrap.dedent(PROGRAM).format(end=end))
    return file


def run_program(tmp_path, marker, end, **options):
    env = dict(os.environ, PYTHONPATH=os.pathsep.join(entry for entry in sys.path if entry))
    return subprocess.Popen([sys.executable, program(tmp_path, end), tmp_path, marker], env=env, **options)


def test_nothing_survives_the_kill_of_the_owner(tmp_path, marker):
    owner = run_program(tmp_path, marker, "await asyncio.sleep(100)")
    try:
        assert until((tmp_path / "ready").exists, 30)
        ours = below(owner.pid)
        assert len(ours) >= 12
        owner.kill()
        owner.wait()
        assert until(lambda: all(gone(pid) for pid in ours) and not marked(marker), 1 + SLACK)
    finally:
        owner.kill()
        owner.wait()


@pytest.mark.parametrize("end", ["return", "os._exit(0)", "sys.exit(0)"])
def test_nothing_survives_the_end_of_the_interpreter(tmp_path, marker, end):
    owner = run_program(tmp_path, marker, end)
    try:
        assert until((tmp_path / "ready").exists, 30)
        assert owner.wait(10 + SLACK) == 0
        assert until(lambda: not marked(marker), 1 + SLACK)
    finally:
        owner.kill()
        owner.wait()


def test_the_deadline_holds_while_the_owner_is_stopped(tmp_path, marker):
    end = """
        late = calloff.start(calloff.process(swallow, f"{folder}/late"), timeout=1.5, grace=0.3)
        while not (late.body.pid and os.path.exists(f"{folder}/late")):
            await asyncio.sleep(0.001)
        print(late.body.pid, flush=True)
        await asyncio.sleep(100)
    """
    owner = run_program(tmp_path, marker, textwrap.dedent(end).replace("\n", "\n    "), stdout=subprocess.PIPE)
    try:
        assert until((tmp_path / "ready").exists, 30)
        with owner.stdout:
            worker = int(owner.stdout.readline())
        owner.send_signal(signal.SIGSTOP)
        assert until(lambda: gone(worker), 1.5 + 0.3 + 1 + SLACK)
        assert state(owner.pid) == "T"
    finally:
        owner.kill()
        owner.wait()
        assert until(lambda: not marked(marker), 1 + SLACK)


def test_a_fork_of_the_owner_does_not_keep_the_work_alive(tmp_path, marker):
    end = "os.fork() or time.sleep(20); await asyncio.sleep(100)"
    owner = run_program(tmp_path, marker, end)
    left = []
    try:
        assert until((tmp_path / "ready").exists, 30)
        until(lambda: any(_name(pid).startswith("python") for pid in below(owner.pid)), 2)
        left = [pid for pid in below(owner.pid) if not _name(pid).startswith("calloff")]
        owner.kill()
        owner.wait()
        assert until(lambda: not [pid for pid in marked(marker) if _name(pid) == "sleep"], 1 + SLACK)
    finally:
        owner.kill()
        owner.wait()
        for pid in left:
            with contextlib.suppress(OSError):  # it is gone, or ends just now
                if "program.py" in Path(f"/proc/{pid}/cmdline").read_text():
                    os.kill(pid, signal.SIGKILL)


def _name(pid):
    try:
        return Path(f"/proc/{pid}/comm").read_text().strip()
    except OSError:
        return ""


def _busy(pid):
    """A worker that waits for work sleeps in a socket's recv; the others do something else."""
    try:
        waits_in = Path(f"/proc/{pid}/wchan").read_text()
        return "unix" not in waits_in and "skb" not in waits_in
    except OSError:
        return False


@pytest.mark.parametrize("status", [-9, 3, None])
@pytest.mark.parametrize("begun", [False, True])
@pytest.mark.parametrize("reason", [None, calloff.Reason(calloff.Kind.REQUESTED)])
def test_a_worker_that_dies_before_the_begin_of_what_was_called_off(status, begun, reason):
    """It never ran and never will: that is a cancel, whatever became of the worker. Begun, the death is told."""
    told = []

    class Sink:
        def __init__(self):
            self.reason = reason

        def stopped(self, rung=None, survivors=()):
            told.append(("stopped", rung))

        def raised(self, error, survivors=()):
            told.append(("raised", type(error)))

    body = ProcessBody((b"", []), "f", (), None)
    body.sink = cast(Any, Sink())
    body.tries = 99  # it is not given to another worker
    body.died(status, "its worker died", begun)
    expected = ("stopped", calloff.Rung.ASKED) if reason and not begun else ("raised", calloff.WorkerDied)
    assert told == [expected]
