"""`calloff run SCRIPT.py` and `-m MODULE`: whole programs, as python runs them, with limits and the line where they are."""

import asyncio
import contextlib
import json
import linecache
import os
import signal
import subprocess
import sys
import textwrap
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import IO, Any

import pytest
from places.process_table import wait_until_it_waits

from calloff import start
from calloff._child import script as answers
from calloff._child.wire import DUMP
from calloff._os import proc
from calloff._os.fds import is_readable
from calloff._places import looking
from calloff._places.command import script as of_scripts
from calloff._places.command.script import _LOOK as LOOK
from calloff._places.command.script import script
from calloff._words import frame

RUN = [sys.executable, "-m", "calloff", "run"]
ENVIRONMENT = {**os.environ, "PYTHONUNBUFFERED": "1", "COLUMNS": "100"}

PROGRAMS = {
    "shows": """\
        import sys, os
        here = os.path.dirname(os.path.abspath(__file__))
        print([__name__, os.path.basename(__file__), sys.argv[1:], sys.path[0] == here])
        import neighbour
        print(input())
        sys.exit(7)
        """,
    "neighbour": "x = 1\n",
    "ends_late": """\
        import atexit, threading
        atexit.register(print, "atexit")
        threading.Timer(0.2, print, ["thread"]).start()
        """,
    "spawns": """\
        import multiprocessing
        def square(n):
            return n * n
        if __name__ == "__main__":
            with multiprocessing.get_context("spawn").Pool(1) as pool:
                print(pool.map(square, [1, 2, 3]))
        """,
    "raises": """\
        def inner():
            1 / 0
        inner()
        """,
    "broken": "def f(:\n",
    "tidies": """\
        import asyncio
        async def fetch():
            open("hangs", "w").close()
            try:
                await asyncio.sleep(3600)  # here
            finally:
                print("tidy", flush=True)
        async def main():
            await fetch()
        asyncio.run(main())
        """,
    "in_a_group": """\
        import asyncio
        async def child():
            open("hangs", "w").close()
            await asyncio.sleep(3600)  # here
        async def main():
            await asyncio.gather(asyncio.sleep(0), child())
        asyncio.run(main())
        """,
    "with_calloff": """\
        import asyncio, calloff
        async def child():
            open("hangs", "w").close()
            await asyncio.sleep(3600)  # here
        async def main():
            async with calloff.group() as group:
                group.start(child())
        calloff.run(main())
        """,
    "blocks": """\
        import time
        def slow():
            open("hangs", "w").close()
            time.sleep(3600)  # here
        slow()
        """,
    "blocks_a_loop": """\
        import asyncio, time
        async def main():
            open("hangs", "w").close()
            time.sleep(3600)  # here
        asyncio.run(main())
        """,
    "refuses": """\
        import time
        open("hangs", "w").close()
        while True:
            try:
                time.sleep(3600)  # here
            except KeyboardInterrupt:
                print("no", flush=True)
        """,
    "in_c": """\
        def busy():
            open("hangs", "w").close()
            sum(range(10**12))  # here
        busy()
        """,
    "waits_for_a_thread": """\
        import threading, time
        thread = threading.Thread(target=time.sleep, args=(3600,), daemon=True)
        thread.start()
        open("hangs", "w").close()
        thread.join()  # here
        """,
    "becomes_another": """\
        import os
        open("hangs", "w").close()
        os.execvp("sleep", ["sleep", "3600"])
        """,
    "leaves_a_child": """\
        import subprocess
        child = subprocess.Popen(["sleep", "3600"], start_new_session=True)
        print(child.pid, flush=True)
        open("hangs", "w").close()
        child.wait()  # here
        """,
}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    from textwrap import dedent

    for name, text in PROGRAMS.items():
        (tmp_path / f"{name}.py").write_text(dedent(text))
    package = tmp_path / "package"
    package.mkdir()
    (package / "__init__.py").write_text("")
    (package / "__main__.py").write_text("import sys\nfrom . import __name__ as name\nprint(name, sys.argv[1:])\n")
    (tmp_path / "empty").mkdir()
    return tmp_path


def run(folder: Path, *arguments: str, given: str = "", **environment: str) -> "subprocess.CompletedProcess[str]":
    done = _run(folder, *arguments, given=given, **environment)
    assert "calloff/_child" not in done.stderr, done.stderr
    assert "calloff/cli" not in done.stderr, done.stderr
    return done


def _run(
    folder: Path, *arguments: str, given: str = "", before: Sequence[str] = (), **environment: str
) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(
        [*before, *RUN, *arguments],
        cwd=folder,
        env={**ENVIRONMENT, **environment},
        input=given,
        capture_output=True,
        text=True,
        timeout=120,
    )


def run_until_it_hangs(
    folder: Path, *arguments: str, before: Sequence[str] = ()
) -> "tuple[str, subprocess.CompletedProcess[str]]":
    """With a limit that this machine, however busy, gets to the line in half of: that, and how it ended."""
    hangs = folder / "hangs"
    for limit in ("1", "5", "30"):
        hangs.unlink(missing_ok=True)
        began = time.time()
        done = _run(folder, "--timeout", limit, *arguments, before=before)
        if hangs.exists() and hangs.stat().st_mtime - began < float(limit) / 2:
            assert "calloff/_child" not in done.stderr, done.stderr
            return limit, done
    raise AssertionError(f"it does not get there: {done.stderr}")


def test_it_is_the_program_that_python_would_run(folder: Path) -> None:
    done = run(folder, "shows.py", "--timeout", "a b", "n=1", given="typed\n")
    assert done.returncode == 7
    assert done.stdout == "['__main__', 'shows.py', ['--timeout', 'a b', 'n=1'], True]\ntyped\n"


@pytest.mark.parametrize(
    ("arguments", "printed"),
    [
        (["ends_late.py"], "thread\natexit\n"),
        (["spawns.py"], "[1, 4, 9]\n"),
        (["-m", "package", "--in", "x"], "package ['--in', 'x']\n"),
        (["package/../neighbour.py"], ""),
        (["--grace", "1", "-m", "neighbour"], ""),
    ],
)
def test_what_it_prints_and_how_it_ends_are_its_own(folder: Path, arguments: list[str], printed: str) -> None:
    done = run(folder, *arguments)
    assert (done.returncode, done.stdout, done.stderr) == (0, printed, "")


@pytest.mark.parametrize("name", ["raises", "broken"])
def test_an_error_is_shown_as_python_shows_it(folder: Path, name: str) -> None:
    ours = run(folder, f"{name}.py")
    plain = subprocess.run([sys.executable, folder / f"{name}.py"], capture_output=True, text=True, check=False)
    assert (ours.returncode, ours.stderr) == (plain.returncode, plain.stderr)


@pytest.mark.parametrize(
    ("name", "status", "ending"),
    [
        ("tidies", 124, "it ended when asked by a signal"),
        ("in_a_group", 124, "it ended when asked by a signal"),
        ("with_calloff", 124, "it ended when asked by a signal"),
        ("blocks", 124, "it ended when asked by a signal"),
        ("blocks_a_loop", 124, "it ended when asked by a signal"),
        ("waits_for_a_thread", 124, "it ended when asked by a signal"),
        ("refuses", 137, "killed"),
        ("in_c", 137, "killed"),
    ],
)
def test_a_program_that_hangs_is_stopped_and_the_line_told(folder: Path, name: str, status: int, ending: str) -> None:
    limit, done = run_until_it_hangs(folder, "--grace", "20" if status == 124 else "0.5", f"{name}.py")
    line = next(n for n, text in enumerate((folder / f"{name}.py").read_text().splitlines(), 1) if "# here" in text)
    first, second = (text for text in done.stderr.splitlines() if text.startswith("calloff: "))
    assert done.returncode == status
    assert first.startswith(f"calloff: '{name}.py' did not end within {limit} s: {ending}"), done.stderr
    assert f"{name}.py:{line}): " in second, done.stderr
    if name == "tidies":
        assert "tidy\n" in done.stdout


def test_another_program_that_it_becomes_is_not_hurt_by_looks(folder: Path) -> None:
    _, done = run_until_it_hangs(folder, "--every", "100ms", "--json", "becomes_another.py")
    told = json.loads(done.stdout)
    assert (done.returncode, told["reason"]["kind"], told["rung"]) == (124, "deadline", "TERMINATED")


def test_a_look_that_comes_just_when_it_becomes_another_program_does_not_hurt_that(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What it catches is known a moment before the signal is sent."""
    monkeypatch.chdir(folder)
    monkeypatch.setattr(proc, "catches", lambda pid, number: number != DUMP)

    async def main() -> bool:
        op = start(script("file", "becomes_another.py", []))
        while not op.body or not op.body.pid or proc.name_of(op.body.pid) != "sleep":
            await asyncio.sleep(0.01)
        for _ in range(5):
            op.where()
        ended, _ = await asyncio.wait([op], timeout=0.2)
        await op.stop()
        return bool(ended)

    assert not asyncio.run(main())


def test_what_tells_where_it_is_reads_no_source(monkeypatch: pytest.MonkeyPatch) -> None:
    """That is done in the midst of the program, and whoever waits for a file there looks as if it was busy in C."""
    read: list[str] = []
    found: list[tuple[str, int, str]] = []

    def reads(file: str) -> bool:
        read.append(file)
        return False

    async def main() -> None:
        linecache.clearcache()
        asyncio.get_running_loop().call_soon(lambda: found.extend(answers._stack(None)))
        await asyncio.sleep(0.01)

    monkeypatch.setattr(frame, "_is_read", reads)
    asyncio.run(main())
    assert [each[2] for each in found] == ["main", "sleep"]
    assert read == []


def test_c_is_not_asked_where_an_answer_lies_already(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It came behind the wait for it, before the look whether the program is busy in C."""
    monkeypatch.chdir(folder)
    signals: list[int] = []
    waited: list[float] = []
    answer, send = of_scripts._ScriptBody._answer, of_scripts.sent

    def answers_late(body: Any, seconds: float) -> str:
        waited.append(seconds)
        return "" if len(waited) == 1 else answer(body, seconds)

    def signalled(handle: int | None, number: int) -> bool:
        signals.append(number)
        return send(handle, number)

    async def main() -> None:
        op = start(script("file", "blocks.py", []), grace=0)
        while not (folder / "hangs").exists():
            await asyncio.sleep(0.01)
        body: Any = op.body

        def sleeps(pid: int, ran: float) -> bool:
            while not is_readable(body._stacks, 0.1):
                pass
            return True

        monkeypatch.setattr(of_scripts, "is_in_c", sleeps)
        monkeypatch.setattr(of_scripts, "sent", signalled)
        monkeypatch.setattr(of_scripts._ScriptBody, "_answer", answers_late)
        op.where()
        assert signals == [LOOK]
        await op.stop()

    asyncio.run(main())


def test_what_is_told_too_late_is_not_taken_for_the_next_answer(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(folder)

    async def main() -> None:
        op = start(script("file", "blocks.py", []), grace=0)
        while not (folder / "hangs").exists():
            await asyncio.sleep(0.01)
        body: Any = op.body
        assert body._signal(LOOK)
        while not is_readable(body._stacks, 0.1):
            pass
        os.kill(body.pid, signal.SIGSTOP)  # it will not answer any more, but what it has said lies there
        assert op.where()[-1].line == 0
        os.kill(body.pid, signal.SIGCONT)
        await op.stop()

    asyncio.run(main())


def test_one_that_is_busy_in_c_and_had_no_turn_at_first_is_looked_at_again(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A busy machine gives it none for longer than the first look waits."""
    monkeypatch.chdir(folder)
    looks = []

    def is_seen_late(pid: int, ran: float) -> bool:
        looks.append(pid)
        return len(looks) > 3 and looking.is_in_c(pid, ran)

    async def main() -> None:
        op = start(script("file", "in_c.py", []), grace=0)
        while not (folder / "hangs").exists():
            await asyncio.sleep(0.01)
        monkeypatch.setattr(of_scripts, "is_in_c", is_seen_late)
        for _ in range(30):
            looks.clear()
            frame = op.where()[-1]
            if looks and frame.line == 3:  # it may not have come there yet
                break
        assert (os.path.basename(frame.file), frame.line) == ("in_c.py", 3)
        await op.stop()

    asyncio.run(main())


def test_what_it_has_started_ends_with_it(folder: Path) -> None:
    _, done = run_until_it_hangs(folder, "leaves_a_child.py")
    assert done.returncode == 124
    with pytest.raises(ProcessLookupError):
        os.kill(int(done.stdout), 0)


def test_a_job_of_a_shell_that_ignores_the_request_is_asked_in_another_way(folder: Path) -> None:
    """A shell starts its jobs so that they ignore SIGINT: one took the whole grace, and was killed after that."""
    (folder / "starts_a_job.py").write_text(
        "import subprocess\nsubprocess.run('(touch hangs; exec sleep 300) & wait', shell=True)\n"
    )
    began = time.monotonic()
    limit, done = run_until_it_hangs(folder, "--grace", "60", "starts_a_job.py")
    assert done.returncode == 124, done.stderr
    assert time.monotonic() - began < float(limit) + 50  # of 60


@pytest.mark.parametrize(("signum", "status"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_signal_stops_it(folder: Path, signum: signal.Signals, status: int) -> None:
    (folder / "ready.py").write_text("import os, time\nprint(os.getppid(), flush=True), time.sleep(3600)\n")
    with subprocess.Popen(
        [*RUN, "ready.py"], cwd=folder, env=ENVIRONMENT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as started:
        assert started.stdout is not None
        guard = int(started.stdout.readline())
        for pid in guard, started.pid:  # the guard has told of the start, and that has been heard
            wait_until_it_waits(pid)
        started.send_signal(signum)
        _, said = started.communicate(timeout=30)
    assert started.returncode == status
    assert "at <module> (ready.py:2): " in said


def test_in_the_background_of_a_shell_it_is_asked_all_the_same(folder: Path) -> None:
    """There SIGINT is ignored, by all that is started, and Python leaves that as it is."""
    quiet = ["sh", "-c", 'trap "" INT; exec "$@"', "sh"]
    _, done = run_until_it_hangs(folder, "--grace", "60", "tidies.py", before=quiet)
    assert (done.returncode, done.stdout) == (124, "tidy\n"), done.stderr


@contextlib.contextmanager
def ready(folder: Path, script: str, environment: dict[str, str]) -> Iterator[IO[str]]:
    """A script that has said that it is ready, and what it says after that."""
    command = [*RUN, script]
    with subprocess.Popen(command, cwd=folder, env=environment, stdout=subprocess.PIPE, text=True) as started:
        try:
            assert started.stdout is not None
            assert started.stdout.readline() == "ready\n"
            yield started.stdout
        finally:
            started.send_signal(signal.SIGTERM)


def test_from_outside_it_is_seen_at_its_line(folder: Path, tmp_path: Path) -> None:
    (folder / "tells.py").write_text("import time\nprint('ready', flush=True)\ntime.sleep(3600)\n")
    environment = {**ENVIRONMENT, "CALLOFF_SOCKETS": str(tmp_path)}
    with ready(folder, "tells.py", environment):
        words = [sys.executable, "-m", "calloff", "ps"]
        seen = ""
        until = time.monotonic() + 60
        while "tells.py:3" not in seen and time.monotonic() < until:  # it answers in time, or with what it said last
            seen = subprocess.run(words, cwd=folder, env=environment, capture_output=True, text=True).stdout
        assert "<module> (tells.py:3): time.sleep(3600)" in seen


def test_its_tasks_are_seen_from_outside_and_one_is_called_off(folder: Path, tmp_path: Path) -> None:
    (folder / "waits.py").write_text(
        textwrap.dedent("""\
            import asyncio
            async def child():
                await asyncio.sleep(3600)
            async def main():
                task = asyncio.create_task(child(), name="child-1")
                print("ready", flush=True)
                await asyncio.wait([task])
                print(task.cancelled())
            asyncio.run(main())
            """)
    )
    environment = {**ENVIRONMENT, "CALLOFF_SOCKETS": str(tmp_path)}

    def calloff(*words: str) -> str:
        command = [sys.executable, "-m", "calloff", *words]
        return subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, timeout=60).stdout

    with ready(folder, "waits.py", environment) as said:
        until = time.monotonic() + 60  # it answers in time, or at the next look
        tasks: list[dict[str, Any]] = []
        while not tasks and time.monotonic() < until:
            listed = json.loads(calloff("ps", "--tasks", "--json"))
            tasks = [row for row in listed["rows"] if row["name"].startswith("child-1")]
        assert tasks[0]["place"] == "asyncio"
        assert tasks[0]["where"]["function"] == "child"
        assert not [row for row in listed["rows"] if "_Run" in row["name"]], "what the verb does for itself"
        named = [line.split() for line in calloff("ps", "--tasks").splitlines()]
        assert [str(tasks[0]["pid"]), "waits.py"] in named, "as its user knows it"
        calloff("cancel", "--tasks", tasks[0]["id"])
        assert said.read() == "True\n"
    assert list(tmp_path.glob("*.sock")) == []


def test_without_a_place_for_its_pipe_it_runs_all_the_same(folder: Path) -> None:
    done = run(folder, "--timeout", "2", "blocks.py", TMPDIR="/proc/none", TEMP="/proc/none", TMP="/proc/none")
    assert done.returncode == 124
    assert "blocks.py" in done.stderr


def test_nothing_is_left_in_the_temporary_directory(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> None:
    temporary = tmp_path_factory.mktemp("temporary")
    run(folder, "neighbour.py", TMPDIR=str(temporary))
    run(folder, "--timeout", "0", "neighbour.py", TMPDIR=str(temporary))
    assert list(temporary.iterdir()) == []


@pytest.mark.parametrize(
    ("arguments", "status", "said"),
    [
        (["shwos.py"], 127, "there is no file 'shwos.py'; did you mean 'shows.py'?"),
        (["nowhere/x.py"], 127, "there is no file 'nowhere/x.py'"),
        (["-m"], 2, "MODULE is missing after -m; see calloff run --help"),
        (["-m", "no_such_module"], 127, "there is no module 'no_such_module' (the current directory is on the path)"),
        (["-m", "shows.py"], 2, "-m takes the name of a module, and 'shows.py' is none; a file runs without -m: "
                                "calloff run shows.py"),
        (["--in", "process", "shows.py"], 2, "--in process is for functions; shows.py runs as a program"),
        (["--in", "task", "-m", "package"], 2, "--in task is for functions; -m package runs as a program"),
    ],
)  # fmt: skip
def test_bad_input_is_refused_before_anything_runs(folder: Path, arguments: list[str], status: int, said: str) -> None:
    done = run(folder, *arguments)
    assert (done.returncode, done.stdout, done.stderr) == (status, "", f"calloff run: {said}\n")


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_a_file_that_can_not_be_read(folder: Path) -> None:
    (folder / "shows.py").chmod(0)
    assert run(folder, "shows.py").returncode == 126
