"""`calloff attach`: programs that know nothing of calloff, on the interpreter that runs these tests."""

import json
import os
import signal
import subprocess
import sys
import textwrap
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

NEW = pytest.mark.skipif(sys.version_info < (3, 14), reason="sys.remote_exec came with 3.14")
HEAD = "import asyncio, os, sys, threading, time\n"
IDLE = """
async def waits():
    await asyncio.Event().wait()

async def main():
    task = asyncio.create_task(waits(), name="waiting")
    print("ready", flush=True)
    await asyncio.wait([task])
    print("goes on", task.cancelled(), flush=True)

asyncio.run(main())
"""
BUSY = """
async def spins():
    print("ready", flush=True)
    while True:
        sum(range(1000))

asyncio.run(spins())
"""
IN_A_THREAD = """
async def waits():
    print("ready", flush=True)
    await asyncio.Event().wait()

threading.Thread(target=asyncio.run, args=(waits(),), daemon=True).start()
while True:
    time.sleep(0.05)
"""
UNEXPOSED = """
import calloff
async def waits():
    print("ready", flush=True)
    await asyncio.Event().wait()

calloff.run(waits())
"""
TASKLESS = """
print("ready", flush=True)
while True:
    time.sleep(0.02)
"""
ASLEEP = """
print("ready", flush=True)
os.read(0, 1)  # in one call of C, until the test has looked
print("goes on", flush=True)
"""
BROKEN = """
class Broken:
    def find_spec(self, name, path=None, target=None):
        if name.startswith("calloff."):
            raise ImportError("not here")
sys.meta_path.insert(0, Broken())
print("ready", flush=True)
while not os.path.exists("go"):
    time.sleep(0.02)
print("goes on", flush=True)
"""
SEVERAL = """
from concurrent.futures import InterpreterPoolExecutor

def works(begun, go):
    import os, time
    open(begun, "w").close()
    while not os.path.exists(go):
        time.sleep(0.01)
    return "goes on"

async def main():
    with InterpreterPoolExecutor(1) as pool:
        task = asyncio.get_running_loop().run_in_executor(pool, works, "begun", "go")
        while not os.path.exists("begun"):
            await asyncio.sleep(0.01)
        print("ready", flush=True)
        print(await task, flush=True)

asyncio.run(main())
"""


@contextmanager
def program(source: str, folder: Path, **environment: str) -> Generator["subprocess.Popen[str]"]:
    file = folder / "plain.py"
    file.write_text(HEAD + textwrap.dedent(source))
    pipe = subprocess.PIPE
    with subprocess.Popen(
        [sys.executable, str(file)],
        stdin=pipe,
        stdout=pipe,
        stderr=pipe,
        text=True,
        env={**os.environ, **environment},
        cwd=folder,
    ) as process:
        try:
            assert process.stdout is not None
            assert process.stdout.readline() == "ready\n", process.communicate(timeout=60)
            yield process
        finally:
            process.kill()


def cli(*words: object) -> "subprocess.CompletedProcess[str]":
    command = [sys.executable, "-m", "calloff", *map(str, words)]
    return subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)


def rows(pid: int) -> list[dict[str, Any]]:
    told = json.loads(cli("ps", "--tasks", "--json").stdout)
    return [row for row in told["rows"] if row["pid"] == pid]


def after(process: "subprocess.Popen[str]") -> tuple[str, str]:
    """What the program still prints, until its end."""
    return process.communicate(timeout=60)


@NEW
def test_an_idle_program_is_seen_and_called_off(tmp_path: Path) -> None:
    with program(IDLE, tmp_path) as process:
        done = cli("attach", process.pid)
        assert done.returncode == 0, done.stderr
        assert "waits (" in done.stdout
        assert "plain.py:" in done.stdout
        task = next(row for row in rows(process.pid) if "waiting" in row["name"])
        assert os.waitid(os.P_PID, process.pid, os.WSTOPPED | os.WNOHANG) is None  # no shell takes it for stopped
        again = cli("attach", process.pid)
        assert (again.returncode, again.stderr.count("already")) == (0, 1)
        cancelled = cli("cancel", task["id"], "--wait", "30s")
        assert cancelled.returncode == 0, cancelled.stderr
        assert after(process) == ("goes on True\n", "")
        assert process.returncode == 0
    assert rows(process.pid) == []


@NEW
@pytest.mark.parametrize("conditions", [[], ["--name", "wait*"]])
def test_all_of_an_attached_process_is_meant_by_its_number(tmp_path: Path, conditions: list[str]) -> None:
    with program(IDLE, tmp_path) as process:
        assert cli("attach", process.pid).returncode == 0
        done = cli("cancel", "--tasks", "--dry-run", *conditions, process.pid)
        assert done.returncode == 0, done.stderr
        assert "would be called off" in done.stdout
        assert cli("cancel", "--dry-run", process.pid).returncode == 1  # it has no operation


@NEW
def test_a_program_without_tasks_is_attached_all_the_same(tmp_path: Path) -> None:
    with program(TASKLESS, tmp_path) as process:
        done = cli("attach", "--wait", "30s", process.pid)
        assert (done.returncode, done.stdout) == (0, ""), done.stderr
        assert done.stderr == f"calloff attach: process {process.pid} can be seen now: no task runs in it\n"


@NEW
def test_one_that_can_be_seen_and_does_not_answer_is_told_apart(tmp_path: Path) -> None:
    with program(TASKLESS, tmp_path) as process:
        assert cli("attach", "--wait", "30s", process.pid).returncode == 0
        process.send_signal(signal.SIGSTOP)
        done = cli("attach", process.pid)
        process.send_signal(signal.SIGCONT)
    assert done.returncode == 3
    assert done.stderr.endswith(f"calloff attach: process {process.pid} can be seen now, but does not answer\n")


@NEW
@pytest.mark.parametrize("source", [BUSY, IN_A_THREAD, UNEXPOSED])
def test_programs_of_other_kinds(tmp_path: Path, source: str) -> None:
    with program(source, tmp_path) as process:
        done = cli("attach", "--wait", "30s", process.pid)
        assert done.returncode == 0, done.stderr
        assert any("plain.py" in row["where"]["file"] for row in rows(process.pid) if row.get("where"))
        process.send_signal(signal.SIGTERM)
        assert after(process)[1] == ""


@NEW
def test_what_sleeps_can_not_be_reached_and_is_left_as_it_was(tmp_path: Path) -> None:
    with program(ASLEEP, tmp_path) as process:
        done = cli("attach", "--wait", "0.3", process.pid)
        assert done.returncode == 125
        assert "made no step of Python within 0.3 s" in done.stderr
        assert after(process) == ("goes on\n", "")
        assert process.returncode == 0


@NEW
@pytest.mark.parametrize(
    ("source", "why"),
    [
        (BROKEN, "could not load calloff: ImportError: not here"),
        (SEVERAL, "lets in the newest of its interpreters only"),  # which is not the main one
    ],
)
def test_a_program_that_can_not_load_it_is_left_as_it_was(tmp_path: Path, source: str, why: str) -> None:
    with program(source, tmp_path) as process:
        done = cli("attach", "--wait", "30s", process.pid)
        assert done.returncode == 125
        assert why in done.stderr
        (tmp_path / "go").touch()
        assert after(process) == ("goes on\n", "")


@NEW
def test_a_program_that_forbids_it(tmp_path: Path) -> None:
    with program(IDLE, tmp_path, PYTHON_DISABLE_REMOTE_DEBUG="1") as process:
        done = cli("attach", process.pid)
        assert done.returncode == 125
        assert f"process {process.pid} does not allow it (PYTHON_DISABLE_REMOTE_DEBUG" in done.stderr


@NEW
def test_what_is_no_python_program() -> None:
    with subprocess.Popen(["sleep", "60"]) as process:
        done = cli("attach", process.pid)
        process.kill()
    assert done.returncode == 125
    assert f"process {process.pid} (sleep) is no Python program that can be reached" in done.stderr
    gone = cli("attach", process.pid)
    assert (gone.returncode, gone.stderr) == (125, f"calloff attach: there is no process {process.pid}\n")


@pytest.mark.skipif(sys.version_info >= (3, 14), reason="there it can be done")
def test_an_older_python() -> None:
    done = cli("attach", os.getppid())
    assert done.returncode == 125
    assert done.stderr.count("\n") == 1
    assert "3.14 or newer is needed" in done.stderr


@pytest.mark.parametrize("words", [["0"], ["-1"], ["x"], ["4711.2"], [], ["--wait", "0", "1"], ["--wait", "x", "1"]])
def test_a_wrong_command_line(words: list[str]) -> None:
    done = cli("attach", *words)
    assert done.returncode == 2
    assert done.stderr.startswith("calloff attach: ")
    assert done.stderr.count("\n") == 1
