"""`calloff run --foreground`, and scripts, on a real terminal: they can ask at it, and Ctrl-C is theirs."""

import os
import signal
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pexpect
import pytest

from calloff._os import proc

RUN = f"{sys.executable} -m calloff run"
ASK = "printf 'password? ' >/dev/tty; read word </dev/tty; echo got $word"


@pytest.fixture
def terminal(tmp_path: Path):
    """Start a shell command on a terminal of its own; a shell that survives Ctrl-C tells the exit status at the end."""
    started = []

    def start(command: str) -> "pexpect.spawn[str]":
        shell = pexpect.spawn(
            "/bin/sh", ["-c", f"trap : INT; {command}; echo status $?"], cwd=str(tmp_path), encoding="utf-8", timeout=30
        )
        started.append(shell)
        return shell

    yield start
    for each in started:
        each.close(force=True)


def test_without_it_there_is_no_terminal(terminal) -> None:
    told = terminal(f"{RUN} -- sh -c ': </dev/tty'")
    told.expect("status [1-9]")
    assert "/dev/tty" in told.before


@pytest.mark.parametrize("option", ["-f", "--foreground"])
def test_with_it_a_program_can_ask_at_the_terminal(terminal, option: str) -> None:
    told = terminal(f'{RUN} {option} -- sh -c "{ASK.replace("$", chr(92) + "$")}"')
    told.expect("password\\? ")
    told.sendline("open sesame")
    told.expect("got open sesame\r\n")
    told.expect("status 0")


#: says which signals come, until there is a file
HEARS = """\
trap 'echo heard int' INT; trap 'echo heard term' TERM
echo ready
while [ ! -e go ]; do sleep 0.1; done
echo end
"""


def test_ctrl_c_reaches_the_program_itself_and_nothing_else_is_sent(terminal, tmp_path: Path) -> None:
    (tmp_path / "hears.sh").write_text(HEARS)
    told = terminal(f"{RUN} -f --grace 60 -- sh hears.sh")
    told.expect("ready")
    told.sendintr()
    told.expect("heard int")
    (tmp_path / "go").touch()
    told.expect("status 0")
    assert "end" in told.before
    assert "heard" not in told.before


@pytest.mark.parametrize("grace", ["3.2", "6"])
def test_what_ctrl_c_does_not_end_is_asked_by_its_signal_and_then_killed(terminal, tmp_path: Path, grace: str) -> None:
    """When half of its grace is over; whenever others are asked again."""
    (tmp_path / "hears.sh").write_text(HEARS)
    told = terminal(f"{RUN} -f --grace {grace} -- sh hears.sh")
    told.expect("ready")
    told.sendintr()
    told.expect("heard int")
    told.expect("heard term")
    told.expect("killed \\(KILLED\\)")
    told.expect("status 137")


def test_a_limit_ends_it_with_all_that_it_has_started(terminal, tmp_path: Path) -> None:
    told = terminal(f'{RUN} -f --timeout 2 --grace 1 -- sh -c "setsid sleep 3600 & echo \\$! >left; sleep 3600"')
    told.expect("status 124")
    with pytest.raises(ProcessLookupError):
        os.kill(int((tmp_path / "left").read_text()), 0)


def test_a_script_has_the_terminal_by_itself(terminal, tmp_path: Path) -> None:
    (tmp_path / "asks.py").write_text(
        "import time\nprint('hello', input('name? '))\ntry:\n    print('ready'), time.sleep(3600)\n"
        "except KeyboardInterrupt:\n    print('interrupted')\n"
    )
    told = terminal(f"{RUN} asks.py")
    told.expect("name\\? ")
    told.sendline("Ada")
    told.expect("hello Ada")
    told.expect("ready")
    told.sendintr()
    told.expect("interrupted")
    told.expect("status 0")


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ("-f work.py:main", "--foreground is for a PROGRAM behind --"),
        ("-f script.py", "--foreground is for a PROGRAM behind --"),
    ],
)
def test_it_is_for_programs(terminal, words: str, said: str) -> None:
    told = terminal(f"{RUN} {words}")
    told.expect_exact(said)
    told.expect("status 2")


# --- the terminal itself, under a shell with job control


FOREGROUND = f"{RUN} --foreground"


@pytest.fixture
def shell(tmp_path: Path):
    """A shell of its own on a terminal of its own."""
    options = ["--norc", "--noprofile", "-i"]
    started = pexpect.spawn(
        "bash", options, cwd=str(tmp_path), encoding="utf-8", timeout=60, env={**os.environ, "PS1": "ready> "}
    )
    started.expect("ready> ")
    yield started
    started.close(force=True)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
def test_the_echo_is_on_again_when_a_prompt_is_killed(shell, tmp_path: Path, number: int) -> None:
    (tmp_path / "ask.py").write_text(
        "import getpass, os\nopen('pid', 'w').write(str(os.getpid()))\ngetpass.getpass('secret: ')"
    )
    shell.sendline(f"{FOREGROUND} -- {sys.executable} ask.py; stty -a")
    shell.expect("secret: ")
    os.kill(int((tmp_path / "pid").read_text()), number)
    assert shell.expect([r"\s-echo\s", r"\secho\s"]) == 1


def test_what_a_program_has_set_on_purpose_stays(shell) -> None:
    shell.sendline(f"{FOREGROUND} -- stty -echo; stty -a")
    assert shell.expect([r"\s-echo\s", r"\secho\s"]) == 0


def test_ctrl_z_stops_both_and_fg_goes_on(shell) -> None:
    shell.sendline(f"{FOREGROUND} -- sh -c 'echo u''p; read line; echo heard $line'")
    shell.expect("up\r\n")
    shell.sendcontrol("z")
    shell.expect("Stopped.*ready> ")
    shell.sendline("fg")
    shell.expect("calloff run")
    shell.sendline("sesame")
    shell.expect("heard sesame")


def test_in_the_background_it_waits_for_the_terminal(shell) -> None:
    shell.sendline(f"{FOREGROUND} -- sh -c 'echo u''p; read line; echo heard $line' &")
    shell.expect("up\r\n")
    for _ in range(300):  # SIGTTIN comes to the group of the program, and that is ours, too
        shell.sendline("jobs")
        if shell.expect(["Stopped", "Running"]) == 0:
            break
        time.sleep(0.1)
    shell.sendline("fg")
    shell.expect("calloff run")
    shell.sendline("sesame")
    shell.expect("heard sesame")


def test_a_shell_that_is_killed_gives_the_terminal_back(terminal) -> None:
    told = terminal(f"{FOREGROUND} -t 1 -g 0 -- bash --norc -i; read line; echo heard $line")
    told.expect("did not end")
    told.sendline("sesame")
    told.expect("heard sesame")


def test_all_of_it_ends_when_its_owner_is_killed(tmp_path: Path) -> None:
    line = "(setsid sh -c 'echo $$ >> pids; sleep 3600' &); echo $$ >> pids; sleep 3600"
    words = [*RUN.split()[1:], "--foreground", "--", "sh", "-c", line]
    told = pexpect.spawn(sys.executable, words, cwd=str(tmp_path), encoding="utf-8")
    pids = tmp_path / "pids"
    until(lambda: pids.exists() and len(pids.read_text().split()) == 2, "it did not come up")
    os.kill(told.pid, signal.SIGKILL)
    until(lambda: all(proc.state_of(int(pid)) in ("", "Z") for pid in pids.read_text().split()), "something lives on")
    told.close(force=True)


def until(condition: Callable[[], object], what: str) -> None:
    deadline = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < deadline, what
        time.sleep(0.02)
