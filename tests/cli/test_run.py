"""`calloff run` as a subprocess: targets, arguments, results, endings, exit statuses, and what it says of bad input."""

import json
import os
import re
import shlex
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

RUN = [sys.executable, "-m", "calloff", "run"]
ENVIRONMENT = {**os.environ, "PYTHONUNBUFFERED": "1", "COLUMNS": "100"}

WORK = """\
import asyncio, sys, threading, time

async def add(a, b=1):
    return a + b

async def echo(*args, **kwargs):
    return [args, kwargs]

async def quiet():
    print("to stdout"); print("to stderr", file=sys.stderr)

async def a_set():
    return {1}

async def nan():
    return float("nan")

async def breaks():
    await inner()

async def inner():
    raise ValueError("it is broken")

async def quits(code=3):
    sys.exit(code)

async def cancels_itself():
    raise asyncio.CancelledError

async def waits():
    print("ready")
    await asyncio.sleep(300)

async def tidies():
    print("ready")
    try:
        await asyncio.sleep(300)
    finally:
        await asyncio.sleep(0.1)
        print("tidy")

async def swallows():
    print("ready")
    while True:
        try:
            await asyncio.sleep(300)
        except asyncio.CancelledError:
            print("no")

async def refuses_all():
    while True:
        try:
            await asyncio.sleep(300)
        except BaseException:
            pass

async def returns_late():
    print("ready")
    try:
        await asyncio.sleep(300)
    except asyncio.CancelledError:
        return "late"

async def leaves_a_thread():
    threading.Thread(target=time.sleep, args=(300,), name="left").start()
    await asyncio.sleep(300)

async def reports():
    import calloff
    for n in range(4):
        calloff.progress((n, 4))
        await asyncio.sleep(0.2)
    calloff.progress(0.5)
    await asyncio.sleep(300)

def crunch(n):
    return sum(range(n))

def waits_for_itself():
    lock = threading.Lock()
    with lock, lock:
        pass


def blocks():
    time.sleep(300)

def generator():
    yield 1

async def nests():
    value = []
    for _ in range(100_000):
        value = [value]
    return value

async def halves():
    return ["\\ud800"]

class Mute:
    def __repr__(self):
        raise ValueError

async def mutes():
    return Mute()

class Thing:
    async def __call__(self):
        return "called"

    @staticmethod
    async def method():
        return "method"

thing = Thing()
number = 3

async def reports_slowly():
    import calloff
    calloff.progress((1, 4))
    await asyncio.sleep(2)
    calloff.progress(0.5)
    await asyncio.sleep(300)
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "work.py").write_text(WORK)
    package = tmp_path / "pack"
    package.mkdir()
    (package / "__init__.py").write_text("")
    (package / "module.py").write_text("from . import other\nasync def main(): return other.value\n")
    (package / "other.py").write_text("value = 'from other'\n")
    (tmp_path / "raises.py").write_text(
        "def load():\n    raise RuntimeError('at import')\nload()\nasync def main(): ...\n"
    )
    (tmp_path / "lacks.py").write_text("import no_such_module_xyz\nasync def main(): ...\n")
    (tmp_path / "broken.py").write_text("async def main(:\n    pass\n")
    (tmp_path / "quits.py").write_text("import sys\nsys.exit(5)\n")
    (tmp_path / "sub").mkdir()
    (tmp_path / "sub" / "json.py").write_text("async def main(): return 'not that json'\n")
    (tmp_path / "with-dash.py").write_text("def f(n): return n\n")
    (tmp_path / "a_folder.py").mkdir()
    return tmp_path


def run(folder: Path, *arguments: str, timeout: float = 30) -> "subprocess.CompletedProcess[str]":
    done = subprocess.run(
        [*RUN, *arguments],
        cwd=folder,
        env=ENVIRONMENT,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=timeout,
    )
    assert "cli/run.py" not in done.stderr, done.stderr
    assert "src/calloff" not in done.stderr, done.stderr
    return done


@pytest.mark.parametrize(
    ("arguments", "printed"),
    [
        (["work.py:add", "1"], "2\n"),
        (["./work.py:add", "1", "b=2.5"], "3.5\n"),
        (["work:add", "text", "b=s"], '"texts"\n'),
        (["work.py:add", "ä", "b=ö"], '"äö"\n'),
        (["work.py:add", '"1"', 'b="2"'], '"12"\n'),
        (["work.py:add", "[1]", "b=[null, true]"], "[1, null, true]\n"),
        (["work.py:echo", "-5", "--flag", "a b=c", "NaN", "d=", 'e={"f": 1}'],
         '[[-5, "--flag", "a b=c", "NaN"], {"d": "", "e": {"f": 1}}]\n'),
        (["work.py:echo", '"--json"'], '[["--json"], {}]\n'),
        (["work.py:quiet"], "to stdout\n"),
        (["work.py:a_set"], "{1}\n"),
        (["work.py:nan"], "nan\n"),
        (["work.py:thing"], '"called"\n'),
        (["work.py:Thing.method"], '"method"\n'),
        (["pack.module:main"], '"from other"\n'),
        (["sub/json.py:main"], '"not that json"\n'),
        (["--in", "task", "work.py:add", "1"], "2\n"),
        (["--timeout", "1m30s", "--grace", "500ms", "--stall", "2h", "work.py:add", "1"], "2\n"),
        (["--timeout=0.5m", "work.py:add", "1"], "2\n"),
        (["-t", "1m", "-g1s", "-s", "1h", "-e", "1h", "work.py:add", "1"], "2\n"),
    ],
)  # fmt: skip
def test_targets_arguments_and_results(folder: Path, arguments: list[str], printed: str) -> None:
    done = run(folder, *arguments)
    assert (done.returncode, done.stdout) == (0, printed)
    assert done.stderr == ("to stderr\n" if "quiet" in arguments[-1] else "")


@pytest.mark.parametrize(
    ("name", "printed"),
    [("nests", r"\[.*\.\.\..*\]"), ("halves", r'\["\\ud800"\]'), ("mutes", "<Mute, whose repr raised ValueError>")],
)
def test_a_result_that_is_hard_to_print_is_no_failure(folder: Path, name: str, printed: str) -> None:
    done = run(folder, f"work.py:{name}")
    assert (done.returncode, done.stderr) == (0, "")
    assert re.fullmatch(printed, done.stdout.strip())


@pytest.mark.parametrize(
    ("arguments", "status", "said"),
    [
        ([], 2, "TARGET is missing"),
        (["--"], 2, "PROGRAM is missing"),
        (["work"], 2, "TARGET must be package.module:function or path/to/file.py:function, not 'work'; the whole"),
        (["work.py:"], 2, "TARGET must be"),
        ([":main"], 2, "TARGET must be"),
        (["no-module:main"], 2, "not the name of a module"),
        (["missing.py:main"], 127, "there is no file 'missing.py'"),
        (["missing:main"], 127, "there is no module 'missing'"),
        (["pack.missing:main"], 127, "there is no module 'pack.missing'"),
        (["work.py:ad"], 127, "has no function 'ad'; did you mean 'add'?"),
        (["work.py:Thing.x"], 127, "has no function 'Thing.x'"),
        (["a_folder.py:main"], 126, "is a directory"),
        (["work.py:number"], 2, "is not a function: it is int 3"),
        (["work.py:generator"], 2, "is a generator"),
        (["work.py:add"], 2, "wrong arguments for add(a, b=1): missing a required argument: 'a'"),
        (["work.py:add", "1", "2", "3"], 2, "too many positional arguments"),
        (["work.py:add", "1", "c=3"], 2, "unexpected keyword argument 'c'"),
        (["work.py:add", "a=1", "a=2"], 2, "'a' is given twice"),
        (["work.py:add", "--timeout", "3"], 2, "options go before TARGET: --timeout"),
        (["work.py:echo", "--grace=3"], 2, "options go before TARGET: --grace=3"),
        (["work.py:crunch", "3"], 2, "is a blocking function: say where it is to run, --in thread or --in process"),
        (["--in", "task", "work.py:crunch", "3"], 2, "choose --in thread or --in process"),
        (["--in", "thread", "work.py:add", "3"], 2, "is an async function"),
        (["--in", "cloud", "work.py:add", "3"], 2, "--in must be one of task, thread, process, not 'cloud'"),
        (["--in", "thread", "--", "ls"], 2, "runs as a program"),
        (["--in", "process", "sub/json.py:main"], 2, "rename the file"),
        (["--timeout", "soon", "work.py:add", "1"], 2, "--timeout must be a duration such as 3, 3s, 500ms"),
        (["--timeout", "-1", "work.py:add", "1"], 2, "--timeout must be a duration"),
        (["--grace", "nan", "work.py:add", "1"], 2, "--grace must be a duration"),
        (["--stall", "1s1m", "work.py:add", "1"], 2, "--stall must be a duration"),
        (["--every", "0", "work.py:add", "1"], 2, "--every must be more than 0"),
        (["--timeout"], 2, "--timeout: expected one argument"),
        (["--bogus", "work.py:add"], 2, "unrecognized arguments: --bogus; see"),
        (["--timout", "3", "work.py:add"], 2, "unrecognized arguments: --timout (did you mean --timeout?); see"),
        (["--timeout", "0", "work.py:add", "1"], 2, "--timeout must be more than 0; leave it out for no limit"),
        (["-t", "soon", "work.py:add", "1"], 2, "--timeout must be a duration such as 3, 3s, 500ms"),
        (["--time", "3", "work.py:add"], 2, "unrecognized arguments: --time"),
        (["--", "no-such-program-xyz"], 127, "'no-such-program-xyz'"),
        (["--", "./work.py"], 126, "'./work.py'"),
    ],
)  # fmt: skip
def test_bad_input_gets_one_sentence(folder: Path, arguments: list[str], status: int, said: str) -> None:
    done = run(folder, *arguments)
    assert said in done.stderr
    assert done.stderr.startswith("calloff run: ")
    assert done.stderr.count("\n") == 1
    assert (done.returncode, done.stdout) == (status, "")


def test_an_unreadable_file(folder: Path) -> None:
    (folder / "work.py").chmod(0)
    if os.access(folder / "work.py", os.R_OK):
        pytest.skip("root can read every file")
    assert run(folder, "work.py:add", "1").returncode == 126


@pytest.mark.parametrize(
    ("target", "status", "lines"),
    [
        ("raises.py:main", 126, ["in load", "RuntimeError: at import", "'raises.py' could not be imported"]),
        ("raises:main", 126, ["in load", "RuntimeError: at import", "'raises' could not be imported"]),
        ("lacks.py:main", 127, ["lacks.py", "No module named 'no_such_module_xyz'", "could not be imported"]),
        ("broken.py:main", 126, ["async def main(:", "SyntaxError", "could not be imported"]),
        ("quits.py:main", 126, ["SystemExit: 5", "could not be imported"]),
    ],
)
def test_a_target_that_breaks_on_import_shows_its_own_traceback(
    folder: Path, target: str, status: int, lines: list[str]
) -> None:
    done = run(folder, target)
    assert done.returncode == status
    assert all(line in done.stderr for line in lines)
    assert "importlib" not in done.stderr


def test_a_function_that_raises(folder: Path) -> None:
    done = run(folder, "work.py:breaks")
    assert (done.returncode, done.stdout) == (1, "")
    lines = done.stderr.splitlines()
    assert lines[0] == "Traceback (most recent call last):"
    assert lines[-1] == "ValueError: it is broken"
    assert [line.split()[-1] for line in lines if line.startswith("  File")] == ["breaks", "inner"]


@pytest.mark.parametrize(("code", "status", "said"), [("3", 3, ""), ("null", 0, ""), ("words", 1, "words\n")])
def test_a_function_that_exits(folder: Path, code: str, status: int, said: str) -> None:
    done = run(folder, "work.py:quits", code)
    assert (done.returncode, done.stdout, done.stderr) == (status, "", said)


def test_a_function_that_cancels_itself(folder: Path) -> None:
    done = run(folder, "work.py:cancels_itself")
    assert done.returncode == 1
    assert "'cancels_itself' was called off (external)" in done.stderr


def test_stopped_by_its_timeout(folder: Path) -> None:
    done = run(folder, "--timeout", "1.5", "work.py:tidies")
    assert (done.returncode, done.stdout) == (124, "ready\ntidy\n")
    assert "'tidies' did not end within 1.5 s: it stopped when asked (ASKED)" in done.stderr
    assert "it was at tidies (work.py:37): await asyncio.sleep(300)" in done.stderr


def test_stopped_by_a_stall(folder: Path) -> None:
    done = run(folder, "--stall", "0.5", "work.py:reports")
    assert done.returncode == 124
    assert "'reports' made no progress for 0.5 s" in done.stderr


def test_force_outranks_the_timeout(folder: Path) -> None:
    done = run(folder, "--timeout", "1.5", "--grace", "0.3", "work.py:swallows")
    assert done.returncode == 137
    assert "ended by force (FORCED)" in done.stderr
    assert "refusals" in done.stderr


def test_what_cant_be_stopped_is_left(folder: Path) -> None:
    began = time.monotonic()
    done = run(folder, "--timeout", "1.5", "--grace", "0.3", "work.py:refuses_all")
    assert done.returncode == 137
    assert time.monotonic() - began < 1.5 + 0.3 + 1 + 20
    assert "could not be stopped and was abandoned (ABANDONED)" in done.stderr
    assert "stuck at refuses_all (work.py:" in done.stderr


def test_a_stuck_thread_does_not_hold_up_the_exit(folder: Path) -> None:
    done = run(folder, "--in", "thread", "--timeout", "1.5", "--grace", "0.3", "work.py:waits_for_itself")
    assert done.returncode == 137
    assert "stuck at waits_for_itself (work.py:" in done.stderr


def test_a_thread_of_the_program_does_not_hold_up_the_exit_after_a_stop(folder: Path) -> None:
    done = run(folder, "--timeout", "1.5", "work.py:leaves_a_thread")
    assert done.returncode == 124
    assert "the process ends without waiting for thread 'left'" in done.stderr


def test_a_value_returned_after_the_request_counts(folder: Path) -> None:
    done = run(folder, "--timeout", "1.5", "work.py:returns_late")
    assert (done.returncode, done.stdout) == (0, 'ready\n"late"\n')
    assert "it came to its own end all the same" in done.stderr
    assert "1 refusal" in done.stderr


@pytest.mark.parametrize("place", ["thread", "process"])
def test_blocking_functions_elsewhere(folder: Path, place: str) -> None:
    assert run(folder, "--in", place, "work.py:crunch", "5").stdout == "10\n"
    assert run(folder, "--in", place, "with-dash.py:f", "5").stdout == "5\n"
    done = run(folder, "--in", place, "work.py:crunch", "x")
    assert done.returncode == 1
    assert [line.split()[-1] for line in done.stderr.splitlines() if line.startswith("  File")] == ["crunch"]
    assert done.stderr.endswith("TypeError: 'str' object cannot be interpreted as an integer\n")


def test_a_process_that_blocks_is_interrupted(folder: Path) -> None:
    assert run(folder, "--in", "process", "--timeout", "0.5", "work.py:blocks").returncode == 124


@pytest.mark.parametrize(
    ("number", "function", "status"),
    [
        (signal.SIGINT, "waits", 130),
        (signal.SIGTERM, "waits", 143),
        (signal.SIGTERM, "tidies", 143),
        (signal.SIGTERM, "returns_late", 0),
    ],
)
def test_a_signal_asks_for_the_stop(folder: Path, number: int, function: str, status: int) -> None:
    process = started(folder, f"work.py:{function}")
    process.send_signal(number)
    out, err = process.communicate(timeout=20)
    assert process.returncode == status
    assert signal.Signals(number).name in err
    assert out == {"tidies": "tidy\n", "returns_late": '"late"\n'}.get(function, "")


def test_a_second_signal_forces(folder: Path) -> None:
    process = started(folder, "--grace", "60", "work.py:swallows")
    assert process.stdout is not None
    process.send_signal(signal.SIGINT)
    assert process.stdout.readline() == "no\n"
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=20)
    assert process.returncode == 137
    assert "(FORCED)" in err


def started(folder: Path, *arguments: str) -> "subprocess.Popen[str]":
    process = subprocess.Popen(
        [*RUN, *arguments],
        cwd=folder,
        env=ENVIRONMENT,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "ready\n"
    return process


# --- programs


@pytest.mark.parametrize(
    ("arguments", "status", "printed"),
    [
        (["--", "echo", "-n", "hi"], 0, "hi"),
        (["--", "sh", "-c", "exit 7"], 7, ""),
        (["--", "sh", "-c", "kill -SEGV $$"], 139, ""),
        (["--timeout", "0.3", "--", "sleep", "300"], 124, ""),
    ],
)
def test_programs(folder: Path, arguments: list[str], status: int, printed: str) -> None:
    done = run(folder, *arguments)
    assert (done.returncode, done.stdout) == (status, printed)


def test_a_program_that_refuses_is_killed(folder: Path) -> None:
    process = started(folder, "--grace", "0.3", "--", "sh", "-c", "trap '' TERM; echo ready; sleep 300; sleep 300")
    process.send_signal(signal.SIGTERM)
    _, err = process.communicate(timeout=60)
    assert process.returncode == 137
    assert "(KILLED)" in err


# --- looking on


def test_a_line_each_second(folder: Path) -> None:
    done = run(folder, "--every", "0.3s", "--timeout", "5", "work.py:reports_slowly")
    lines = [line for line in done.stderr.splitlines() if "work.py" in line][:-1]
    assert len(lines) >= 3
    assert all(line.startswith("calloff: ") and " of 5.0 s" in line for line in lines)
    assert "/4  at reports_slowly (work.py:" in lines[0]
    assert "50%" in lines[-1]
    assert "\r" not in done.stderr
    assert "\x1b" not in done.stderr


# --- JSON


def test_json_of_a_value(folder: Path) -> None:
    done = run(folder, "--json", "work.py:add", "1")
    told = json.loads(done.stdout)
    assert done.stderr == ""
    assert told["outcome"] == "completed"
    assert (told["status"], told["value"], told["repr"], told["error"]) == (0, 2, None, None)
    assert told["operation"] == {"id": told["operation"]["id"], "name": "add", "place": "task"}
    assert (told["reason"], told["rung"], told["refusals"], told["where"]) == (None, None, 0, [])


def test_json_of_what_json_cant_hold(folder: Path) -> None:
    told = json.loads(run(folder, "--json", "work.py:a_set").stdout)
    assert (told["value"], told["repr"]) == (None, "{1}")


def test_json_of_an_error(folder: Path) -> None:
    told = json.loads(run(folder, "--json", "work.py:breaks").stdout)
    assert (told["outcome"], told["status"]) == ("failed", 1)
    assert (told["error"]["type"], told["error"]["message"]) == ("ValueError", "it is broken")
    assert [frame["function"] for frame in told["error"]["traceback"]] == ["breaks", "inner"]


def test_json_of_a_stop(folder: Path) -> None:
    done = run(folder, "--json", "--timeout", "1.5", "--grace", "0.3", "work.py:refuses_all")
    told = json.loads(done.stdout)
    assert (told["outcome"], told["status"], told["rung"]) == ("abandoned", 137, "ABANDONED")
    assert told["reason"] == {"kind": "deadline", "text": "within 1.5 s", "by": None}
    assert told["refusals"] > 2
    assert told["stuck_at"][0]["function"] == "refuses_all"
    assert told["where"][0]["source"] == "await asyncio.sleep(300)"
    assert told["survivors"] == []
    assert 1.7 < told["seconds"] < 30


def test_json_comes_last_on_stdout(folder: Path) -> None:
    done = run(folder, "--json", "work.py:quiet")
    assert done.stdout.startswith("to stdout\n{")
    assert json.loads(done.stdout.splitlines()[-1])["value"] is None


def test_json_stands_on_a_line_of_its_own_behind_what_a_program_has_not_ended(folder: Path) -> None:
    done = run(folder, "--json", "--", "printf", "no end of a line")
    assert done.stdout.startswith("no end of a line\n{")
    assert json.loads(done.stdout.splitlines()[-1])["status"] == 0
    words = shlex.join([*RUN, "--json", "--", "true"])
    assert subprocess.run(f"{words} >&-", shell=True, env=ENVIRONMENT, timeout=60, check=False).returncode == 0


# --- where the output goes


def test_a_full_disk_is_told(folder: Path) -> None:
    if not os.path.exists("/dev/full"):
        pytest.skip("needs /dev/full")
    with open("/dev/full", "w") as full:
        done = subprocess.run(
            [*RUN, "work.py:add", "1"],
            cwd=folder,
            env=ENVIRONMENT,
            stdout=full,
            stderr=subprocess.PIPE,
            text=True,
        )
    assert done.returncode == 125
    assert done.stderr == "calloff run: the result could not be written: [Errno 28] No space left on device\n"
