"""What SIGKILL can't reach is named: a child of another user, below an owner that may not signal it."""

import asyncio
import ctypes
import json
import os
import signal
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import pytest
from places.process_table import gone, until

import calloff

needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root can make a child of another user")

PROGRAM = """
    import asyncio, json, os, subprocess, sys, time
    import calloff

    CHILD = [sys.executable, "-I", "-S", "-c", '''if True:
        import os, time
        os.setgroups([])
        os.setgid(65534)
        os.setuid(65534)
        print(os.getpid(), flush=True)
        time.sleep(1000)
    ''']

    def leave_it(file):
        subprocess.Popen(CHILD, stdout=open(file, "w"))
        time.sleep(1000)

    async def main(place, file):
        if place == "command":
            work = calloff.command(*CHILD, stdout=open(file, "w"))
        else:
            work = calloff.process(leave_it, file)
        op = calloff.start(work)
        while not (os.path.exists(file) and os.path.getsize(file)):
            await asyncio.sleep(0.01)
        before = time.monotonic()
        outcome = await op.stop("enough", grace=0.2)
        report = outcome.report
        print(json.dumps([type(outcome).__name__, str(report.rung), report.survivors, time.monotonic() - before]))

    asyncio.run(main(*sys.argv[1:]))
"""
_PR_CAPBSET_DROP, _CAP_KILL = 24, 5


def without_the_right_to_kill():
    """Root below this, but for the right to signal other users' processes."""
    if ctypes.CDLL(None).prctl(_PR_CAPBSET_DROP, _CAP_KILL, 0, 0, 0):
        os._exit(99)


@needs_root
@pytest.mark.parametrize(("place", "expected"), [("command", "ABANDONED"), ("process", "ABANDONED")])
def test_a_child_of_another_user_is_named(tmp_path, place, expected):
    program, file = tmp_path / "program.py", tmp_path / "pid"
    program.write_text(textwrap.dedent(PROGRAM))
    env = dict(os.environ, PYTHONPATH=os.pathsep.join(entry for entry in sys.path if entry))
    try:
        done = subprocess.run(
            [sys.executable, program, place, file],
            env=env,
            preexec_fn=without_the_right_to_kill,
            stdout=subprocess.PIPE,
            timeout=60,
            check=False,
        )
        assert done.returncode == 0
        ending, rung, survivors, took = json.loads(done.stdout)
        pid = int(file.read_text())
        assert not gone(pid), "what is named is there"
        assert (ending, rung) == ("Abandoned", expected)
        assert len(survivors) == 1
        assert survivors[0].startswith(f"process {pid} (")
        assert survivors[0].endswith("): not ours to kill, it runs as user 65534")
        assert took < 0.2 + 1 + 0.25 + 10, "a busy machine, and not for ever"
    finally:
        if file.exists() and (text := file.read_text().strip()):
            os.kill(int(text), signal.SIGKILL)
            assert until(lambda: gone(int(text)), 10)


@needs_root
@pytest.mark.parametrize("place", ["command", "process"])
def test_an_abandoned_operation_is_listed_until_its_survivors_are_gone(tmp_path, place):
    program, file = tmp_path / "program.py", tmp_path / "pid"
    waits = """
        assert op in calloff.operations()
        sys.stdout.flush()
        while op in calloff.operations():
            await asyncio.sleep(0.01)
        print("gone", flush=True)
    """
    text = textwrap.dedent(PROGRAM)
    at = text.index("\nasyncio.run(")
    program.write_text(text[:at] + textwrap.indent(textwrap.dedent(waits), "    ") + text[at:])
    env = dict(os.environ, PYTHONPATH=os.pathsep.join(entry for entry in sys.path if entry))
    command = [sys.executable, program, place, file]
    with subprocess.Popen(
        command, env=env, preexec_fn=without_the_right_to_kill, stdout=subprocess.PIPE, text=True
    ) as owner:
        assert json.loads(owner.stdout.readline())[0] == "Abandoned"
        os.kill(int(file.read_text()), signal.SIGKILL)
        assert owner.communicate(timeout=30)[0] == "gone\n"


async def test_what_lives_is_named_without_the_guard_too():
    """One that is held up can't tell in time who is left."""
    op = calloff.start(calloff.command("sh", "-c", "setsid sleep 1000 & echo up; sleep 1000", stdout="pipe"))
    while op.body.pid is None:
        await asyncio.sleep(0.01)
    while sum("(sleep)" in text for text in op.body.survivors()) != 2:
        await asyncio.sleep(0.01)
    assert any(text.startswith(f"process {op.body.pid} (sh): ") for text in op.body.survivors())
    body = op.body
    await op.stop(grace=0)
    assert body.survivors() == ()


def waits_for_children(path):
    subprocess.Popen(["sleep", "1000"], start_new_session=True)
    Path(path).touch()
    time.sleep(1000)


async def test_what_lives_of_a_function_is_named_without_the_guard_too(tmp_path):
    """Its worker and all below it."""
    op = calloff.start(calloff.process(waits_for_children, str(tmp_path / "in")))
    while not (tmp_path / "in").exists():
        await asyncio.sleep(0.01)
    body = op.body
    while sum("(sleep)" in text for text in body.survivors()) != 1:
        await asyncio.sleep(0.01)
    assert any(text.startswith(f"process {body.pid} (calloff-worker): ") for text in body.survivors())
    await op.stop(grace=0)
    assert body.survivors() == ()
