"""The same command lines given to GNU timeout and to ours: exit statuses, messages and signals are the same.

Where ours differs on purpose, the case says so, and `test_timeout.py` tests the difference.
"""

import os
import shutil
import signal
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

import calloff

GNU = shutil.which("timeout")
OURS = [sys.executable, "-m", "calloff", "timeout"]
IGNORES = "import signal, sys, time; signal.signal(15, signal.SIG_IGN); print('ready', flush=True); time.sleep({})"
TELLS = (
    "import os, signal, time; signal.signal({}, lambda n, f: os._exit(n)); print('ready', flush=True); time.sleep(9)"
)


def _is_gnu() -> bool:
    if GNU is None:
        return False
    return "GNU coreutils" in subprocess.run([GNU, "--version"], capture_output=True, text=True).stdout


pytestmark = pytest.mark.skipif(not _is_gnu(), reason="needs GNU timeout to compare with")

PYTHON = sys.executable


def ignoring(seconds: float) -> list[str]:
    """A program that ignores TERM, from its first moments on: a shell begins soon on a busy machine, too."""
    return ["sh", "-c", f"trap '' TERM; echo ready; exec sleep {seconds}"]


CASES = {
    # the status of the program
    "true": ["5", "true"],
    "false": ["5", "false"],
    "status 7": ["5", "sh", "-c", "exit 7"],
    "status 124 of its own": ["5", "sh", "-c", "exit 124"],
    "output": ["5", "sh", "-c", "echo out; echo err >&2"],
    "ended by TERM": ["5", "sh", "-c", "kill -TERM $$"],
    "ended by KILL": ["5", "sh", "-c", "kill -KILL $$"],
    "ended by SEGV": ["5", "sh", "-c", "ulimit -c 0; kill -SEGV $$"],
    "ended by PIPE": ["5", PYTHON, "-c", "import os, signal; signal.signal(13, 0); os.kill(os.getpid(), 13)"],
    "SIGPIPE is not ignored": ["5", "sh", "-c", "yes | head -n 1"],
    # not run
    "not found": ["5", "no-such-program-xyz"],
    "not found by path": ["5", "/no/such/program"],
    "no name": ["5", ""],
    "not executable": ["5", "./plain.txt"],
    "a directory": ["5", "/"],
    "script without #!": ["5", "./bare.sh"],
    "script without #!, on the path": ["5", "bare.sh"],
    # timed out
    "timed out": ["0.2", "sleep", "9"],
    "timed out, preserved": ["--preserve-status", "0.2", "sleep", "9"],
    "timed out, its own status": ["1", "sh", "-c", "trap 'exit 3' TERM; sleep 9 & wait"],
    "timed out, its own status, preserved": [
        "--preserve-status",
        "1",
        "sh",
        "-c",
        "trap 'exit 3' TERM; sleep 9 & wait",
    ],
    "signal by name": ["-s", "INT", "0.2", "sleep", "9"],
    "signal by SIG name": ["--signal=SIGHUP", "0.2", "sleep", "9"],
    "signal in small letters": ["-s", "usr1", "--preserve-status", "0.2", "sleep", "9"],
    "signal by number": ["-s2", "--preserve-status", "0.2", "sleep", "9"],
    "signal by status": ["-s", "130", "--preserve-status", "0.2", "sleep", "9"],
    "signal real time": ["-s", "RTMIN+1", "--preserve-status", "0.2", "sleep", "9"],
    "a signal that is ignored": ["-s", "URG", "0.2", "sleep", "1.2"],
    "signal 0": ["-s", "0", "0.2", "sleep", "1.2"],
    "KILL": ["-s", "KILL", "0.2", "sleep", "9"],
    "KILL, preserved": ["--preserve-status", "-s", "KILL", "0.2", "sleep", "9"],
    "TERM ignored, ends by itself": ["1", *ignoring(2)],
    "kill after": ["-k", "0.3", "1", *ignoring(9)],
    "kill after, long option": ["--kill-after=0.3s", "1s", *ignoring(9)],
    "kill after was not needed": ["-k", "5", "0.2", "sleep", "9"],
    "foreground": ["--foreground", "0.2", "sleep", "9"],
    "foreground kill after": ["--foreground", "-k", "0.3", "1", *ignoring(9)],
    "foreground KILL": ["--foreground", "-s", "KILL", "0.2", "sleep", "9"],
    "verbose": ["-v", "0.2", "sleep", "9"],
    "verbose kill after": ["-v", "-k", "0.3", "1", *ignoring(9)],
    "verbose other signal": ["-vs", "HUP", "0.2", "sleep", "9"],
    "verbose real time signal": ["-v", "-s", "RTMIN+2", "0.2", "sleep", "9"],
    "verbose last real time signal": ["-v", "-s", "rtmax-3", "0.2", "sleep", "9"],
    "stopped by itself": ["0.3", "sh", "-c", "kill -STOP $$"],
    # durations
    "0 is no limit": ["0", "sleep", "0.2"],
    "-k 0": ["-k", "0", "0.2", "sleep", "9"],
    "suffix s": ["0.2s", "sleep", "9"],
    "suffix m": ["0.004m", "sleep", "9"],
    "suffix h": ["0.0001h", "sleep", "9"],
    "suffix d": ["0.000002d", "sleep", "9"],
    "exponent": ["2e-1", "sleep", "9"],
    "hexadecimal": ["0x0.4", "sleep", "9"],
    "infinity": ["inf", "true"],
    "huge": ["1e999d", "true"],
    "duration a word": ["abc", "true"],
    "duration empty": ["", "true"],
    "duration with two suffixes": ["1ms", "true"],
    "duration negative": ["--", "-1", "true"],
    "duration nan": ["nan", "true"],
    "duration with a blank after it": ["1 ", "true"],
    "duration with a blank before it": [" 1", "true"],
    "duration with an underscore": ["1_0", "true"],
    "kill after a word": ["-k", "abc", "1", "true"],
    # the command line
    "nothing": [],
    "no program": ["5"],
    "unknown signal": ["-s", "FOO", "1", "true"],
    "unknown signal number": ["-s", "999", "1", "true"],
    "unknown long option": ["--foo", "1", "true"],
    "unknown short option": ["-x", "1", "true"],
    "-k without value": ["-k"],
    "--signal without value": ["--signal"],
    "value for a flag": ["--verbose=yes", "1", "true"],
    "shortened long option": ["--pres", "0.2", "sleep", "9"],
    "shortened long option with value": ["--sig=INT", "--pres", "0.2", "sleep", "9"],
    "options of the program": ["5", "sh", "-c", "exit 4", "-k", "-v"],
    "--": ["--", "5", "sh", "-c", "exit 4"],
    "-k given twice": ["-k", "9", "-k", "0.3", "1", *ignoring(9)],
}

#: GNU timeout kills itself together with its process group; ours lives on and returns the status of that.
DIES_OF_ITS_KILL = {
    "KILL", "KILL, preserved", "kill after", "kill after, long option", "verbose kill after", "-k given twice",
}  # fmt: skip


def run(command: list[str], cwd: Path, locale: str = "C") -> tuple[int, str, str]:
    environment = {**os.environ, "LC_ALL": locale, "PATH": f"{cwd}:{os.environ['PATH']}"}
    done = subprocess.run(
        command,
        cwd=cwd,
        env=environment,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=30,
    )
    return done.returncode, done.stdout, done.stderr


def fill(folder: Path) -> None:
    (folder / "plain.txt").write_text("nothing\n")
    bare = folder / "bare.sh"
    bare.write_text("echo bare $#\nexit 5\n")
    bare.chmod(0o755)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    fill(tmp_path)
    return tmp_path


def both(arguments: list[str], folder: Path, locale: str = "C") -> tuple[tuple[int, str, str], tuple[int, str, str]]:
    """What ours and what GNU timeout say, run side by side."""
    with ThreadPoolExecutor(2) as pool:
        ours = pool.submit(run, [*OURS, *arguments], folder, locale)
        theirs = pool.submit(run, ["timeout", *arguments], folder, locale)
        return ours.result(), theirs.result()


def compared(name: str, folder: Path) -> tuple[tuple[int, str, str], tuple[int, str, str]]:
    """Both answers; anew where a shell may have had no turn to set its trap before its time was up."""
    for _ in range(3 if "trap" in " ".join(CASES[name]) else 1):
        ours, theirs = both(CASES[name], folder)
        if name not in DIES_OF_ITS_KILL and ours == theirs:
            break
        if name in DIES_OF_ITS_KILL and theirs[0] == -signal.SIGKILL and ours == (128 + signal.SIGKILL, *theirs[1:]):
            break
    return ours, theirs


@pytest.mark.parametrize("part", range(6))
def test_same_answer(part: int, folder: Path) -> None:
    names = list(CASES)[part::6]
    with ThreadPoolExecutor(4) as pool:  # they mostly wait
        answers = dict(zip(names, pool.map(lambda name: compared(name, folder), names), strict=True))
    for name in DIES_OF_ITS_KILL.intersection(names):
        ours, theirs = answers[name]
        assert theirs[0] == -signal.SIGKILL, name
        answers[name] = ours, (128 + signal.SIGKILL, *theirs[1:])
    assert {name: both for name, both in answers.items() if both[0] != both[1]} == {}


@pytest.mark.parametrize("name", ["not found", "unknown signal", "duration a word", "verbose"])
@pytest.mark.parametrize("locale", ["C.UTF-8", "POSIX"])
def test_same_quotes(name: str, locale: str, folder: Path) -> None:
    ours, theirs = both(CASES[name], folder, locale)
    assert ours == theirs


def signalled(command: list[str], *numbers: int) -> tuple[int, str]:
    """Start it, send it signals once the program below it is ready, and wait."""
    environment = {**os.environ, "LC_ALL": "C"}
    process = subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    assert process.stdout is not None
    assert process.stdout.readline() == "ready\n"
    for number in numbers:
        time.sleep(0.1)
        process.send_signal(number)
    _, err = process.communicate(timeout=30)
    return process.returncode, err


@pytest.mark.parametrize(
    ("options", "program", "numbers"),
    [
        ([], TELLS.format(15), [15]),
        ([], TELLS.format(2), [2]),
        ([], TELLS.format(1), [1]),
        ([], TELLS.format(3), [3]),
        (["-v"], TELLS.format(15), [15]),
        (["-s", "USR1"], TELLS.format(10), [10]),
        ([], "import time; print('ready', flush=True); time.sleep(9)", [15]),
        ([], "import time; print('ready', flush=True); time.sleep(9)", [1]),
        (["--preserve-status"], TELLS.format(15), [15]),
        (["--foreground"], TELLS.format(15), [15]),
        ([], TELLS.format(15), [14]),
        (["--foreground", "-k", "0.3"], IGNORES.format(9), [15]),
    ],
)
def test_a_signal_is_passed_on(options: list[str], program: str, numbers: list[int]) -> None:
    rest = [*options, "20", PYTHON, "-c", program]
    with ThreadPoolExecutor(2) as pool:
        ours = pool.submit(signalled, [*OURS, *rest], *numbers)
        theirs = pool.submit(signalled, ["timeout", *rest], *numbers)
        assert ours.result() == theirs.result()


def test_the_environment_is_passed_on_unchanged() -> None:
    bare = {"PATH": os.environ["PATH"]}
    source = str(Path(calloff.__file__).parent.parent)
    ours = subprocess.run([*OURS, "5", "env"], env={**bare, "PYTHONPATH": source}, capture_output=True, text=True)
    theirs = subprocess.run(["timeout", "5", "env"], env={**bare, "PYTHONPATH": source}, capture_output=True, text=True)
    assert sorted(ours.stdout.splitlines()) == sorted(theirs.stdout.splitlines())
