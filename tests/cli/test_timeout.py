"""Where `calloff timeout` goes beyond GNU timeout: nothing survives, and the ending is told."""

import contextlib
import json
import os
import shlex
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from calloff._os import proc

OURS = [sys.executable, "-m", "calloff", "timeout"]
STUBBORN = "import signal, time; signal.signal(15, signal.SIG_IGN); open({0!r}, 'w').close(); time.sleep(300)"

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="the subreaper is Linux's")


@pytest.fixture
def marked() -> Iterator[Callable[[], list[int]]]:
    """Lists the processes that carry this test's mark in their environment; the rest of them die at the end."""
    mark = f"CALLOFF_TEST_{os.getpid()}_{time.monotonic_ns()}"
    os.environ[mark] = "1"

    def listed() -> list[int]:
        found = []
        for entry in os.listdir("/proc"):
            if entry.isdigit() and int(entry) != os.getpid():
                with contextlib.suppress(OSError):
                    if mark.encode() in Path("/proc", entry, "environ").read_bytes():
                        found.append(int(entry))
        return found

    yield listed
    del os.environ[mark]
    for pid in listed():
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)


def run(*arguments: str, **settings: Any) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(
        [*OURS, *arguments],
        capture_output=True,
        text=True,
        timeout=30,
        env={**os.environ, "LC_ALL": "C"},
        **settings,
    )


def verdict(done: "subprocess.CompletedProcess[str]") -> dict[str, object]:
    return json.loads(done.stderr.splitlines()[-1])


TREES = {
    "same group": "sleep 300 & sleep 300",
    "own session": "setsid sleep 300 & sleep 300",
    "daemon": "(setsid sh -c 'sleep 300 & sleep 300 &' &) ; sleep 300",
    "daemon, program ends": "(setsid sh -c 'sleep 300 & sleep 300 &' &)",
    "job left behind": "sleep 300 &",
    "stopped": "setsid sleep 300 & kill -STOP $!; sleep 300",
}


@pytest.mark.parametrize("tree", TREES)
@pytest.mark.parametrize("options", [[], ["-s", "KILL"], ["-k", "0.2"]], ids=["TERM", "KILL", "kill-after"])
def test_nothing_survives(tree: str, options: list[str], marked: Callable[[], list[int]]) -> None:
    ends_by_itself = tree in ("daemon, program ends", "job left behind")
    done = run(*options, "20" if ends_by_itself else "0.5", "sh", "-c", TREES[tree])
    assert marked() == []
    assert done.returncode == (0 if ends_by_itself else 137 if "KILL" in options else 124)


def test_a_grandchild_that_ignores_the_signal_is_killed(marked: Callable[[], list[int]], tmp_path: Path) -> None:
    ready = tmp_path / "ready"
    stubborn = shlex.join([sys.executable, "-c", STUBBORN.format(str(ready))])
    program = f"setsid {stubborn} & while [ ! -e {ready} ]; do sleep 0.02; done; sleep 300"
    for limit in (1, 5, 15):  # one within which this machine, however busy, has started a Python
        ready.unlink(missing_ok=True)
        began = time.time()
        done = run("--json", str(limit), "sh", "-c", program)
        assert marked() == []
        assert time.time() - began < limit + 1 + 20
        if ready.exists() and ready.stat().st_mtime - began < limit:
            break
    assert done.returncode == 124
    assert verdict(done)["left_behind"] == 1
    assert verdict(done)["survivors"] == []


def test_what_flees_from_process_to_process_is_caught(marked: Callable[[], list[int]]) -> None:
    hopper = "import os, time\nwhile True:\n    if os.fork(): os._exit(0)\n    os.setsid(); time.sleep(0.002)"
    done = run("-s", "KILL", "0.5", "sh", "-c", f"{shlex.join([sys.executable, '-c', hopper])}; sleep 300")
    assert done.returncode == 137
    assert marked() == []


def test_what_ends_by_itself_is_not_disturbed(tmp_path: Path) -> None:
    """The logger behind a process substitution ends a moment after the shell that nobody waits for it."""
    log = tmp_path / "log"
    slow = (
        "import signal, sys, time; signal.signal(15, lambda *_: sys.exit(1)); "
        f"log = {str(log)!r}; open(log, 'w').close(); text = sys.stdin.read(); "
        "time.sleep(0.03); open(log, 'w').write(text)"
    )
    logger = shlex.join([sys.executable, "-c", slow])
    program = f"exec 3> >({logger}); while [ ! -e {log} ]; do sleep 0.02; done; echo last >&3; exit 6"
    for _ in range(3):  # it has a quarter of a second for that: plenty, unless the machine is very busy
        log.unlink(missing_ok=True)
        assert run("10", "bash", "-c", program).returncode == 6
        if log.read_text():
            break
    assert log.read_text() == "last\n"


def test_clean_up_of_a_grandchild_has_its_time(tmp_path: Path) -> None:
    """The program is gone at once, its child tidies up for a while: it is not killed in the midst of that."""
    ready, tidy = tmp_path / "ready", tmp_path / "tidy"
    child = (
        "import signal, sys, time\n"
        f"def tidy(*_): time.sleep(0.4); open({str(tidy)!r}, 'w').close(); sys.exit()\n"
        f"signal.signal(15, tidy); open({str(ready)!r}, 'w').close(); time.sleep(300)"
    )
    program = f"{shlex.join([sys.executable, '-c', child])} & sleep 300"
    waits = f"while [ ! -e {ready} ]; do sleep 0.02; done"
    process = subprocess.Popen(
        [*OURS, "300", "sh", "-c", f"{program} & {waits}; echo ready; wait"], stdout=subprocess.PIPE
    )
    assert process.stdout is not None
    assert process.stdout.readline() == b"ready\n"
    process.terminate()
    assert process.wait(20) == -signal.SIGTERM
    process.stdout.close()
    assert tidy.exists()


def test_foreground_leaves_the_rest_alone(marked: Callable[[], list[int]]) -> None:
    assert run("-f", "5", "sh", "-c", "sleep 300 >/dev/null 2>&1 &").returncode == 0
    assert len(marked()) == 1


@pytest.mark.parametrize(("arguments", "status"), [(["5", "true"], 0), (["-s", "KILL", "0.5", "sleep", "300"], 137)])
def test_children_from_before_are_not_ours(arguments: list[str], status: int, marked: Callable[[], list[int]]) -> None:
    """A shell that started something and then became `calloff timeout`."""
    ours = shlex.join([*OURS, *arguments])
    done = subprocess.run(["sh", "-c", f"sleep 299 >/dev/null 2>&1 & exec {ours}"], timeout=30)
    assert done.returncode == status
    (left,) = marked()
    assert b"299" in Path("/proc", str(left), "cmdline").read_bytes()


@pytest.mark.parametrize("options", [["-p"], ["-fp"], ["-pf", "-v"]])
def test_the_short_options_of_newer_versions(options: list[str]) -> None:
    assert run(*options, "0.2", "sleep", "9").returncode == 143


def test_a_signal_can_be_passed_on_twice() -> None:
    counts = (
        "import os, signal, sys, time\nseen = []\n"
        "def note(*_):\n    seen.append(1)\n    os.write(1, b'%d\\n' % len(seen))\n    len(seen) == 2 and sys.exit(9)\n"
        "signal.signal(15, note); print('ready', flush=True)\nwhile True: time.sleep(0.02)"
    )
    process = subprocess.Popen([*OURS, "30", sys.executable, "-c", counts], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    assert process.stdout.readline() == "ready\n"
    for _ in range(2):
        process.terminate()
        assert process.stdout.readline().strip().isdigit()
        time.sleep(0.1)
    assert process.wait(20) == 9
    process.stdout.close()


def test_a_hangup_is_ignored_under_nohup() -> None:
    command = shlex.join([*OURS, "30", "sh", "-c", "echo ready; sleep 1; exit 8"])
    process = subprocess.Popen(["sh", "-c", f"trap '' HUP; exec {command}"], stdout=subprocess.PIPE)
    assert process.stdout is not None
    assert process.stdout.readline() == b"ready\n"
    process.send_signal(signal.SIGHUP)
    assert process.wait(20) == 8
    process.stdout.close()


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["5", "true"], {"outcome": "completed", "status": 0, "exited": 0, "reason": None, "rung": None}),
        (["5", "sh", "-c", "exit 3"], {"outcome": "failed", "status": 3, "exited": 3, "signal": None}),
        (
            ["0.2", "sleep", "9"],
            {"outcome": "cancelled", "status": 124, "signal": "TERM", "rung": "TERMINATED"},
        ),
        (["-s", "KILL", "0.2", "sleep", "9"], {"outcome": "cancelled", "status": 137, "rung": "KILLED"}),
        (["5", "no-such-program"], {"outcome": "failed", "status": 127, "exited": None, "signal": None}),
        (["5", "sh", "-c", "kill -9 $$"], {"outcome": "failed", "status": 137, "signal": "KILL"}),
    ],
)
def test_the_verdict_as_json(arguments: list[str], expected: dict[str, object]) -> None:
    told = verdict(run("--json", *arguments))
    assert {key: told[key] for key in expected} == expected
    assert told["survivors"] == []


def test_the_verdict_stands_on_a_line_of_its_own() -> None:
    done = run("--json", "20", "sh", "-c", "printf 'no end of a line' >&2")
    assert done.stderr.startswith("no end of a line\n{")
    assert verdict(done)["status"] == 0
    words = shlex.join([*OURS, "--json", "20", "true"])
    assert subprocess.run(f"{words} 2>&-", shell=True, timeout=30, check=False).returncode == 0


def test_the_kernel_need_not_list_children(monkeypatch: pytest.MonkeyPatch) -> None:

    child = subprocess.Popen(["sh", "-c", "sleep 300 & wait"])
    try:
        deadline = time.monotonic() + 10
        while not proc.descendants(child.pid) and time.monotonic() < deadline:
            time.sleep(0.01)
        listed = proc.descendants(child.pid)
        assert [parent for _, parent in listed] == [child.pid]
        assert (child.pid, os.getpid()) in proc.descendants(os.getpid())
        monkeypatch.setitem(proc._found, "children", False)
        assert proc.descendants(child.pid) == listed
        monkeypatch.setitem(proc._found, os.getpid(), False)
        assert proc.descendants(os.getpid(), child.pid) == [(child.pid, os.getpid())], "and there need not be a /proc"
        assert proc.descendants(os.getpid()) == []
    finally:
        monkeypatch.undo()
        for pid, _ in proc.descendants(child.pid):
            os.kill(pid, signal.SIGKILL)
        child.kill()
        child.wait()


def until(condition: Callable[[], object], what: str) -> None:
    deadline = time.monotonic() + 30
    while not condition():
        assert time.monotonic() < deadline, what
        time.sleep(0.01)


@pytest.mark.parametrize("whole_group", [False, True])
@pytest.mark.parametrize("tree", ["same group", "own session", "daemon", "stopped"])
def test_its_tree_dies_when_it_is_killed(tree: str, whole_group: bool, marked: Callable[[], list[int]]) -> None:
    ours = subprocess.Popen(
        [sys.executable, "-m", "calloff", "timeout", "100", "sh", "-c", f"trap '' TERM; {TREES[tree]}"]
    )
    until(lambda: len(marked()) >= 5, "no tree")  # ours, its heir, the shell, and two or more below that
    (os.killpg if whole_group else os.kill)(ours.pid, signal.SIGKILL)
    ours.wait()
    until(lambda: marked() == [], "something lives on")


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGSTOP])
def test_the_heir_is_hit(number: int, marked: Callable[[], list[int]]) -> None:
    """What stands between it and its program is killed, or stopped: the verdict is the same, and nothing is left."""
    ours = subprocess.Popen(
        [sys.executable, "-m", "calloff", "timeout", "2", "sh", "-c", "setsid sleep 300 & sleep 300"]
    )
    until(
        lambda: [proc.name_of(pid) for pid, _ in proc.descendants(ours.pid)].count("sleep") == 2, "it did not come up"
    )
    os.kill(next(pid for pid, parent in proc.descendants(ours.pid) if parent == ours.pid), number)
    assert ours.wait(30) == 124
    assert marked() == []


BEFORE_IT_TELLS = """
import os, sys
from calloff.cli import _tree, main

tell, started = _tree._say, _tree._spawn

def killed_once(work):
    def instead(*args):
        if not os.path.exists(sys.argv[1]):
            open(sys.argv[1], "w").close()
            os.kill(os.getpid(), 9)
        return work(*args)
    return instead

if sys.argv[2] == "started":
    _tree._say = killed_once(tell)
else:
    _tree._spawn = killed_once(started)
sys.exit(main(["timeout", *sys.argv[3:]]))
"""


@pytest.mark.parametrize("when", ["started", "not started"])
@pytest.mark.parametrize(
    ("limit", "program", "status"), [("3", "setsid sleep 300 & sleep 300", 124), ("100", "sleep 0.3 & exit 3", 3)]
)
def test_the_heir_is_killed_before_it_could_tell(
    tmp_path: Path, when: str, limit: str, program: str, status: int, marked: Callable[[], list[int]]
) -> None:
    ran, words = tmp_path / "ran", [str(tmp_path / "killed"), when, limit, "sh", "-c"]
    ours = subprocess.Popen([sys.executable, "-c", BEFORE_IT_TELLS, *words, f"echo >>{ran}; {program}"])
    assert ours.wait(30) == status
    assert (tmp_path / "killed").exists()
    assert ran.read_text() == "\n", "it was started once"
    assert marked() == []


@pytest.mark.usefixtures("marked")
def test_what_was_killed_and_does_not_end_is_named() -> None:
    """It may wait inside the kernel, or the machine be busy: that is not the same as one that is not ours to kill."""
    code = (
        "import signal, sys; from calloff.cli import main, timeout; really = timeout.kill\n"
        "timeout.kill = lambda pid, number: number == signal.SIGKILL or really(pid, number)\n"
        "sys.exit(main(sys.argv[1:]))"
    )
    ignores = "trap '' TERM; sleep 300"
    words = ["timeout", "-k", "0.1", "0.5", "sh", "-c", f"setsid sh -c {shlex.quote(ignores)} & sleep 300"]
    ours = [sys.executable, "-c", code, *words]
    done = subprocess.run(ours, stderr=subprocess.PIPE, text=True, timeout=60, check=False)
    assert done.returncode == 124
    assert "(sh) was killed, and has not ended yet" in done.stderr
    assert "could not be killed" not in done.stderr


def test_the_heir_is_stopped_before_it_could_tell(marked: Callable[[], list[int]]) -> None:
    ours = subprocess.Popen([*OURS, "2", "sh", "-c", "setsid sleep 300 & sleep 300"])
    until(lambda: proc.descendants(ours.pid), "it did not come up")
    os.kill(proc.descendants(ours.pid)[0][0], signal.SIGSTOP)
    assert ours.wait(30) == 124
    assert marked() == []


@pytest.mark.skipif(os.getuid() != 0, reason="makes namespaces")
@pytest.mark.parametrize("how", ["--mount sh -c 'umount -l /proc; exec \"$@\"' sh", "--pid --fork"])
def test_a_proc_that_is_not_its_own(tmp_path: Path, how: str) -> None:
    """Without /proc, or with that of another PID namespace: what descends from the program is found all the same."""
    if subprocess.run(["unshare", "--mount", "true"], capture_output=True, check=False).returncode:
        pytest.skip("namespaces can't be made here")
    nap = f"300.{os.getpid()}"
    ours = f"{sys.executable} -m calloff timeout -v -k 0.3 0.5 sh -c 'setsid sleep {nap} & sleep {nap}'"
    done = subprocess.run(f"unshare {how} {ours}", shell=True, capture_output=True, text=True, timeout=30, check=False)
    assert (done.returncode, "could not be killed" in done.stderr) == (124, False), done.stderr
    assert subprocess.run(["pgrep", "-f", f"^sleep {nap}$"], capture_output=True, check=False).stdout == b""


def test_it_loads_neither_argparse_nor_an_event_loop() -> None:
    code = (
        "import sys; from calloff.cli import main; main(['timeout', '5', 'true']); "
        "print(sorted({'argparse', 'asyncio', 'typing', 're', 'enum', 'json'} & set(sys.modules) - before))"
    )
    code = "import sys; before = set(sys.modules); " + code
    done = subprocess.run([sys.executable, "-I", "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"


@pytest.mark.parametrize("leads", [False, True])
def test_the_program_gets_the_signal_once(leads: bool) -> None:
    """Also when it leads a process group of its own."""
    counts = (
        "import os, signal, time\nseen = []\n"
        f"{leads} and os.setpgid(0, 0)\n"
        "signal.signal(15, lambda *_: seen.append(1)); print('ready', flush=True)\n"
        "while not seen: time.sleep(0.01)\n"
        "time.sleep(0.3); os._exit(len(seen))"
    )
    assert run("-p", "3", sys.executable, "-c", counts).returncode == 1


def test_a_signal_for_it_alone_is_passed_on_once() -> None:
    program = "import signal, sys, time; n = []\nsignal.signal(signal.SIGTERM, lambda *_: n.append(1))\n"
    program += "print('ready', flush=True)\ntime.sleep(1)\ntime.sleep(1)\nprint(len(n), flush=True)"
    with subprocess.Popen([*OURS, "600", sys.executable, "-c", program], stdout=subprocess.PIPE, text=True) as started:
        assert started.stdout is not None
        assert started.stdout.readline() == "ready\n"
        started.terminate()
        assert started.stdout.readline() == "1\n"
