"""Programs: what they return, their streams, and how they are stopped with all they started."""

import asyncio
import gc
import io
import os
import signal
import stat
import subprocess
import sys
import threading
import time
import uuid
import warnings
from pathlib import Path

import pytest
from places.process_table import below, gone, marked, until

import calloff
from calloff import Rung, command

pytestmark = pytest.mark.usefixtures("patient")
SLACK = 20.0


@pytest.fixture
def marker():
    return f"calloff-{uuid.uuid4()}"


async def ready(path):
    async with asyncio.timeout(20):
        while not os.path.exists(path):
            await asyncio.sleep(0.005)


def shell(line, marker, **kwargs):
    """A line that says, by making the file $1, that it has come so far."""
    return command(line, shell=True, env=dict(os.environ, CALLOFF_TEST=marker), **kwargs)


async def test_a_success():
    op = calloff.start(command("printf", "%s|", "a b", "$HOME", "*"))
    assert (op.place, op.name) == ("command", "printf")
    done = await op
    assert (done.status, done.stdout, done.stderr, done.dropped) == (0, b"a b|$HOME|*|", b"", 0)
    assert done.text == "a b|$HOME|*|"
    assert done.argv == ("printf", "%s|", "a b", "$HOME", "*")


async def test_a_shell_is_asked_for_by_name():
    done = await calloff.call(command("echo $1; echo $2 | tr a b", "x y", "a", shell=True))
    assert done.text == "x y\nb\n"


async def test_a_failure_shows_the_end_of_standard_error():
    with pytest.raises(calloff.CommandFailed, match=r"'/bin/sh' ended with status 3: (?s:.*)the end") as caught:
        await calloff.call(command("seq 100000 >&2; echo the end >&2; exit 3", shell=True))
    assert caught.value.status == 3
    assert caught.value.stderr.endswith("100000\nthe end\n")
    assert len(caught.value.stderr) < 3000
    done = await calloff.call(command("exit 3", shell=True, check=False))
    assert done.status == 3
    with pytest.raises(calloff.CommandFailed, match="ended by signal 9") as caught:
        await calloff.call(command("kill -9 $$", shell=True))
    assert caught.value.status == -9


async def test_what_can_not_be_run_is_told_before_anything_starts(tmp_path):
    plain = tmp_path / "plain"
    plain.write_text("#!/bin/sh\n")
    for work, error, name in [
        (command("no-such-program"), FileNotFoundError, "no-such-program"),
        (command("./no-such-program"), FileNotFoundError, "no-such-program"),
        (command("true", env={"PATH": str(tmp_path)}), FileNotFoundError, "true"),
        (command(plain), PermissionError, "plain"),
        (command("plain", env={"PATH": str(tmp_path)}), PermissionError, "plain"),
        (command(tmp_path), PermissionError, tmp_path.name),
        (command("true", cwd=tmp_path / "nowhere"), FileNotFoundError, "nowhere"),
        (command("true", cwd=plain), NotADirectoryError, "plain"),
    ]:
        with pytest.raises(error, match=name):
            calloff.start(work)
    assert not calloff.operations()
    plain.write_text("#!/no/such/interpreter\n")
    plain.chmod(stat.S_IRWXU)
    with pytest.raises(FileNotFoundError):
        await calloff.call(command(plain))


@pytest.mark.parametrize(
    ("args", "kwargs", "error", "match"),
    [
        ((3,), {}, TypeError, "program"),
        ((b"true",), {}, TypeError, "program"),
        (("true", 3), {}, TypeError, "an argument"),
        (("true", "a\0b"), {}, ValueError, "zero byte"),
        (("true", "a\ud800b"), {}, ValueError, "the system can take"),
        (("true",), {"stdin": "text"}, ValueError, "stdin"),
        (("true",), {"stdout": "stdout"}, ValueError, "stdout"),
        (("true",), {"stderr": "nope"}, ValueError, "stderr"),
        (("true",), {"stdout": 1.5}, TypeError, "stdout"),
        (("true",), {"limit": 0}, ValueError, "limit"),
        (("true",), {"signal": 400}, ValueError, "400"),
        (("true",), {"limit": "1"}, TypeError, "limit"),
        (("true",), {"stdout": 1 << 20}, ValueError, "stdout"),
        (("true",), {"stdout": io.BytesIO()}, ValueError, "stdout"),
        (("true",), {"stdin": io.BytesIO(b"x")}, ValueError, "stdin"),
        (("true",), {"env": {"A": 1}}, TypeError, "env"),
        (("true",), {"env": [("A", "1")]}, TypeError, "env"),
        (("true",), {"env": {"A=B": "1"}}, ValueError, "env"),
        (("true",), {"env": {"": "1"}}, ValueError, "env"),
    ],
)
def test_arguments_are_checked(args, kwargs, error, match):
    with pytest.raises(error, match=match):
        command(*args, **kwargs)


async def test_work_is_started_once():
    work = command("true")
    await calloff.call(work)
    with pytest.raises(RuntimeError, match="started already"):
        calloff.start(work)


async def test_environment_and_directory(tmp_path):
    done = await calloff.call(command("env", env={"ONE": "1"}))
    assert done.text == "ONE=1\n"
    done = await calloff.call(command("pwd", cwd=tmp_path))
    assert done.text.strip() == os.path.realpath(tmp_path)
    (tmp_path / "here").write_text("#!/bin/sh\necho found\n")
    (tmp_path / "here").chmod(stat.S_IRWXU)
    assert (await calloff.call(command("./here", cwd=tmp_path))).text == "found\n"


async def test_streams(tmp_path, capfd):
    big = os.urandom(3_000_000)
    assert (await calloff.call(command("cat", stdin=big))).stdout == big
    assert (await calloff.call(command("cat"))).stdout == b""
    done = await calloff.call(command("echo out; echo err >&2", shell=True, stderr="stdout"))
    assert done.stdout == b"out\nerr\n"
    with open(tmp_path / "file", "w") as file:
        await calloff.call(command("echo", "into", stdout=file))
    assert (tmp_path / "file").read_text() == "into\n"
    with open(tmp_path / "file") as file:
        assert (await calloff.call(command("cat", stdin=file))).text == "into\n"
    await calloff.call(command("echo shown; echo too >&2", shell=True, stdout="inherit", stderr="inherit"))
    assert capfd.readouterr() == ("shown\n", "too\n")
    await calloff.call(command("echo", "hidden", stdout="null"))
    await calloff.call(command("true", stdin=big))  # which nobody reads


async def test_what_was_not_written_when_the_writer_was_called_off_is_written_before_the_next(tmp_path):
    go = tmp_path / "go"
    os.mkfifo(go)
    work = command("sh", "-c", f"read line < {go}; wc -c", stdin="pipe")
    op = calloff.start(work)
    writing = asyncio.ensure_future(work.stdin.write(b"x" * 1_000_000))
    await asyncio.sleep(0)
    writing.cancel()
    with pytest.raises(asyncio.CancelledError):
        await writing
    last = asyncio.ensure_future(work.stdin.write(bytearray(b"END\n")))
    await asyncio.sleep(0)
    work.stdin.end()
    with pytest.raises(BrokenPipeError):
        await work.stdin.write(b"behind the end")
    go.write_text("now\n")
    await last
    assert (await op).text.strip() == "1000004"


@pytest.mark.parametrize("data", [5, True, "text", [1, 2], None])
async def test_what_is_no_bytes_is_refused(data):
    work = command("cat", stdin="pipe")
    op = calloff.start(work)
    with pytest.raises(TypeError, match=f"reads bytes, not {type(data).__name__}"):
        await work.stdin.write(data)
    await work.stdin.write(b"after it")
    work.stdin.end()
    assert (await op).stdout == b"after it"


async def test_a_limit_keeps_the_newest():
    done = await calloff.call(command("seq", "1000000", limit=8))
    assert done.stdout == b"1000000\n"
    assert done.dropped == sum(len(f"{number}\n") for number in range(1, 1_000_000))


async def test_what_it_has_written_is_known_while_it_runs_and_when_it_was_called_off(tmp_path, marker):
    work = shell(f"echo one; echo two >&2; touch {tmp_path}/ready; sleep 60", marker)
    assert (work.stdout_so_far, work.stderr_so_far) == (b"", b"")
    op = calloff.start(work, grace=5)
    await ready(tmp_path / "ready")
    while (work.stdout_so_far, work.stderr_so_far) != (b"one\n", b"two\n"):
        await asyncio.sleep(0.01)
    assert isinstance(await op.stop(), calloff.Cancelled)
    assert (work.stdout_so_far, work.stderr_so_far) == (b"one\n", b"two\n")


async def test_what_it_wrote_last_before_it_was_killed_is_known(tmp_path, marker):
    work = shell(f"trap 'echo no' TERM; echo one; touch {tmp_path}/ready; while :; do sleep 0.05; done", marker)
    op = calloff.start(work, grace=60)
    await ready(tmp_path / "ready")
    op.cancel()
    while work.stdout_so_far != b"one\nno\n":
        await asyncio.sleep(0.01)
    assert (await op.stop(grace=0)).report.rung is Rung.KILLED
    assert work.stdout_so_far == b"one\nno\n"


@pytest.mark.parametrize("way", ["pipe", "null", "inherit"])
def test_what_is_not_captured_is_not_known(way):
    work = calloff.command("true", stdout=way, stderr="stdout")
    for name in ("stdout", "stderr"):
        with pytest.raises(ValueError, match=f'{name}="capture"'):
            getattr(work, f"{name}_so_far")


async def test_reading_and_writing_while_it_runs():
    work = command("cat", stdin="pipe", stdout="pipe")
    with pytest.raises(RuntimeError, match="not started"):
        await work.stdin.write(b"too early")
    op = calloff.start(work)
    await work.stdin.write(b"one\ntwo\nthr")
    assert await anext(work.stdout) == b"one\n"
    assert await anext(work.stdout) == b"two\n"
    await work.stdin.write(b"ee\n" + b"x" * 300_000)
    work.stdin.end()
    assert await anext(work.stdout) == b"three\n"
    assert await work.stdout.read() == b"x" * 300_000
    assert (await op).stdout == b""
    assert [line async for line in work.stdout] == []
    with pytest.raises(BrokenPipeError):
        await work.stdin.write(b"too late")
    with pytest.raises(ValueError, match='stderr="pipe"'):
        _ = work.stderr


async def test_a_reader_that_is_slow_holds_the_command_up():
    work = command("seq", "300000", stdout="pipe", limit=1000)
    op = calloff.start(work)
    await asyncio.sleep(0.2)
    assert not op.done()
    numbers = [int(line) async for line in work.stdout]
    assert numbers == list(range(1, 300_001))
    assert (await op).status == 0


async def test_a_pipe_held_open_by_a_grandchild_hangs_nothing(marker):
    before = time.monotonic()
    done = await calloff.call(shell("setsid sleep 1000 & sleep 1000 & echo done", marker))
    assert done.text == "done\n"
    assert time.monotonic() - before < 10
    assert not marked(marker)


# --- stopping


@pytest.mark.parametrize(
    ("first", "name"), [(signal.SIGTERM, "TERM"), (signal.SIGINT, "INT"), (signal.SIGUSR1, "USR1")]
)
async def test_the_first_signal_is_polite(tmp_path, marker, first, name):
    path = tmp_path / "ready"
    line = f"trap 'echo cleaned > {tmp_path}/clean; exit 0' {name}; touch $1; while :; do sleep 0.05; done"
    op = calloff.start(shell_at(line, marker, path, signal=first))
    await ready(path)
    outcome = await op.stop("enough")
    assert isinstance(outcome, calloff.Cancelled)
    assert outcome.report.rung is Rung.TERMINATED
    assert outcome.report.started
    assert (tmp_path / "clean").read_text() == "cleaned\n"
    assert not marked(marker)


def shell_at(line, marker, path, **kwargs):
    return command(line, path, shell=True, env=dict(os.environ, CALLOFF_TEST=marker), **kwargs)


async def test_the_rest_of_the_group_has_the_same_grace(tmp_path, marker):
    """The leader obeys at once, a member of its group needs a moment to clean up."""
    member = f"trap 'sleep 0.3; echo cleaned > {tmp_path}/clean; exit' TERM; touch {tmp_path}/ready"
    member += "; while :; do sleep 0.05; done"
    op = calloff.start(shell(f'/bin/sh -c "{member}" & wait', marker))
    await ready(tmp_path / "ready")
    outcome = await op.stop()
    assert outcome.report.rung is Rung.TERMINATED
    assert (tmp_path / "clean").read_text() == "cleaned\n"


@pytest.mark.parametrize("grace", [0, 0.3])
async def test_force_reaches_those_who_left_the_group_and_the_session(tmp_path, marker, grace):
    path = tmp_path / "ready"
    line = "trap '' TERM; setsid sleep 1000 & (setsid setsid sleep 1000 &); sleep 1000 & touch $1"
    line += "; while :; do sleep 1; done"
    op = calloff.start(shell_at(line, marker, path))
    await ready(path)
    assert until(lambda: len(marked(marker)) >= 4)
    before = time.monotonic()
    outcome = await op.stop(grace=grace)
    took = time.monotonic() - before
    assert not marked(marker)
    assert outcome.report.rung is Rung.KILLED
    assert grace <= took < grace + 1 + SLACK


async def test_one_that_forks_and_leaves_for_ever(tmp_path, marker):
    code = (
        "import os,sys,time\n"
        "while True:\n"
        "    if os.fork(): os._exit(0)\n"
        "    os.setsid()\n"
        "    time.sleep(0.002)\n"
        "    open(sys.argv[1],'w').close()\n"
    )
    path = tmp_path / "ready"
    env = dict(os.environ, CALLOFF_TEST=marker)
    done = await calloff.call(command(sys.executable, "-I", "-S", "-c", code, path, env=env))
    assert done.status == 0  # the first one ended at once, by itself
    assert not marked(marker)
    op = calloff.start(shell_at(f'{sys.executable} -I -S -c "{code}" $1; exec sleep 1000', marker, path))
    await ready(path)
    await op.stop(grace=0)
    assert not marked(marker)


async def test_a_stopped_command(tmp_path, marker):
    path = tmp_path / "ready"
    op = calloff.start(shell_at("touch $1; kill -STOP $$; sleep 1000", marker, path))
    await ready(path)
    outcome = await op.stop()
    assert outcome.report.rung is Rung.TERMINATED  # it is woken to hear of it
    assert not marked(marker)


async def test_called_off_before_it_began(tmp_path):
    for _ in range(20):
        path = tmp_path / uuid.uuid4().hex
        op = calloff.start(command("touch", path))
        outcome = await op.stop("changed our mind")
        if isinstance(outcome, calloff.Completed):  # it was quicker
            assert outcome.report.started
            assert path.exists()
            continue
        assert isinstance(outcome, calloff.Cancelled)
        if not outcome.report.started:
            assert outcome.report.rung is Rung.ASKED
            assert not path.exists()


async def test_one_that_runs_before_we_have_heard_so_is_not_told_as_never_begun(tmp_path, marker):
    for _ in range(15):
        path = tmp_path / uuid.uuid4().hex
        op = calloff.start(shell_at("trap '' TERM; touch $1; sleep 1000 & sleep 1000", marker, path))
        await asyncio.sleep(0)
        assert until(path.exists), "the loop is held up: it can't hear that the command was born"
        outcome = await op.stop(grace=0)
        assert (outcome.report.started, outcome.report.rung) == (True, Rung.KILLED)
        assert not marked(marker)


async def test_deadlines_and_stop_texts():
    with pytest.raises(calloff.TimedOut, match=r"'sleep' did not end within 0\.2 s"):
        await calloff.call(command("sleep", "1000"), timeout=0.2)


async def test_its_limits_count_from_the_begin_of_the_program():
    for timeout, stall in ((0, None), (None, 0)):
        op = calloff.start(command("sleep", "1000"), timeout=timeout, stall=stall)
        assert op.deadline is None
        outcome = await op.outcome()
        assert (outcome.report.started, outcome.report.rung) == (True, Rung.TERMINATED)


async def test_a_loop_that_is_blocked_from_the_start_on_keeps_no_limit_up(tmp_path, marker):
    work = shell_at("trap 'touch $1; exit' TERM; while :; do sleep 0.01; done", marker, tmp_path / "asked")
    op = calloff.start(work, timeout=1.5)
    await asyncio.sleep(0)
    assert until((tmp_path / "asked").exists)
    outcome = await op.outcome()
    assert (outcome.reason.kind, outcome.report.rung) == ("deadline", Rung.TERMINATED)


async def test_a_new_limit_before_the_program_begins_is_the_one_that_counts(marker):
    op = calloff.start(shell("sleep 0.5", marker), timeout=0.1, grace=0.1)
    op.reschedule(None)
    assert isinstance(await op.outcome(), calloff.Completed)


@pytest.mark.parametrize("timeout", [None, 60])
async def test_a_limit_that_was_changed_before_the_program_begins_is_not_kept_by_its_guard(marker, timeout):
    """Which asks in our place where the loop is held up."""
    op = calloff.start(shell("sleep 0.5", marker), timeout=0.1, grace=0.1)
    op.reschedule(timeout)
    time.sleep(1)
    assert isinstance(await op.outcome(), calloff.Completed)


async def test_a_limit_that_was_brought_nearer_before_the_program_begins_is_kept_by_its_guard(marker):
    op = calloff.start(shell("exec sleep 1000", marker), timeout=60)
    op.reschedule(0.1)
    until(lambda: marked(marker))
    assert until(lambda: not marked(marker))
    outcome = await op.outcome()
    assert (outcome.reason.kind, outcome.report.rung) == ("deadline", Rung.TERMINATED)


async def test_the_deadline_holds_while_our_loop_is_blocked(tmp_path, marker):
    work = shell_at("trap '' TERM; touch $1; while :; do sleep 1; done", marker, tmp_path / "r")
    op = calloff.start(work, timeout=100, grace=0.2)
    await ready(tmp_path / "r")
    op.reschedule(0.4)  # which its guard is told at once
    assert until(lambda: not marked(marker), 0.6 + 1 + SLACK)
    outcome = await op.outcome()
    assert isinstance(outcome, calloff.Cancelled)
    assert outcome.reason.kind == "deadline"
    assert outcome.report.rung is Rung.KILLED


async def test_twenty_that_refuse_end_together(tmp_path, marker):
    line = "trap '' TERM; touch $1; while :; do sleep 1; done"
    ops = [calloff.start(shell_at(line, marker, tmp_path / str(number))) for number in range(20)]
    for number in range(20):
        await ready(tmp_path / str(number))
    before = time.monotonic()
    outcomes = await asyncio.gather(*(op.stop(grace=0.5) for op in ops))
    assert time.monotonic() - before < 0.5 + 1 + SLACK
    assert {outcome.report.rung for outcome in outcomes} == {Rung.KILLED}
    assert not marked(marker)


async def test_a_guard_that_is_killed_leaves_nothing(tmp_path, marker):
    op = calloff.start(shell_at("setsid sleep 1000 & touch $1; sleep 1000", marker, tmp_path / "ready"))
    await ready(tmp_path / "ready")
    pid = next(pid for pid in marked(marker))
    above = [one for one in below(os.getpid()) if pid in below(one)]
    guard = next(one for one in above if Path(f"/proc/{one}/comm").read_text() == "calloff-guard\n")
    os.kill(guard, signal.SIGKILL)
    with pytest.raises(calloff.CommandFailed, match="guard"):
        await op
    assert until(lambda: gone(guard))
    assert until(lambda: not marked(marker))


async def test_many_at_once():
    ops = [calloff.start(command("echo", str(number))) for number in range(60)]
    assert [(await op).text for op in ops] == [f"{number}\n" for number in range(60)]


def open_files():
    found = []
    for file in os.listdir("/proc/self/fd"):
        try:
            found.append((file, os.readlink(f"/proc/self/fd/{file}")))
        except OSError:  # the one by which the list was read
            continue
    return sorted(found)


async def test_nothing_is_left_open():
    def __file_that_is_no_program():
        path = Path(os.environ.get("TMPDIR", "/tmp")) / f"calloff-{os.getpid()}-noprogram"
        path.write_bytes(b"\x01\x02")
        path.chmod(stat.S_IRWXU)
        return path

    try:
        await calloff.call(command("true"))
        before, threads = open_files(), threading.active_count()
        for _ in range(5):
            await calloff.call(command("cat", stdin=b"x"))
            op = calloff.start(command("sleep", "1000", stdin="pipe", stdout="pipe", stderr="pipe"))
            await op.stop(grace=0)
            with pytest.raises(OSError, match="format"):
                await calloff.call(command(__file_that_is_no_program()))
        assert set(open_files()) - set(before) == set()
        assert threading.active_count() <= threads
    finally:
        __file_that_is_no_program().unlink()


def test_a_program_that_ends_while_its_owner_does(tmp_path, marker):
    """No message of ours on standard error when the interpreter ends with commands running."""
    code = (
        "import asyncio, calloff\n"
        "async def main():\n"
        "    calloff.start(calloff.command('sleep', '1000'))\n"
        "    await asyncio.sleep(0.3)\n"
        "asyncio.run(main())\n"
    )
    env = dict(os.environ, CALLOFF_TEST=marker, PYTHONPATH=os.pathsep.join(entry for entry in sys.path if entry))
    done = subprocess.run(
        [sys.executable, "-W", "always", "-c", code], env=env, capture_output=True, text=True, timeout=30
    )
    assert done.returncode == 0
    assert done.stderr == ""
    assert until(lambda: not marked(marker), 1 + SLACK)


async def test_where_it_is():
    op = calloff.start(command("sleep", "60", "0.5"), timeout=1000)
    assert op.where() == (), "it has not begun"
    while str(op.state) == "pending":
        await asyncio.sleep(0.005)
    (frame,) = op.where()
    assert os.path.basename(frame.file) == frame.function == "sleep"
    assert frame.line == 0
    assert frame.source == f"sleep 60 0.5 (process {op.body.pid})"
    op.reschedule(0)
    with pytest.raises(calloff.TimedOut, match=rf": at sleep 60 0\.5 \(process {op.body.pid or '[0-9]+'}\)$") as caught:
        await op
    assert caught.value.report.where == (frame,)
    assert op.where() == ()
    long = await calloff.start(command("sleep", "60", *["0"] * 100)).stop()
    assert all(len(frame.source) < 130 for frame in long.report.where)


async def test_a_file_that_is_given_stays_open(tmp_path):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ResourceWarning)  # nobody closes the file
        work = command("echo", "kept", stdout=(tmp_path / "out").open("wb"))
        gc.collect()
        others = [os.open(os.devnull, os.O_WRONLY) for _ in range(3)]  # which would get its number
        await calloff.call(work)
        assert (tmp_path / "out").read_text() == "kept\n"
        for file in others:
            os.close(file)
        del work
        gc.collect()
