"""What somebody is told who holds the command line wrongly: one sentence, with what was meant, before anything starts."""

import subprocess
import sys
from pathlib import Path

import pytest

from calloff import cli

WRONG = [
    ("--verson", "there is no option '--verson' (did you mean '--version'?)"),
    ("help sweeep", "there is no verb 'sweeep' (did you mean 'sweep'?)"),
    ("show", "ID is missing; see calloff show --help"),
    ("sweep", "TARGET is missing; see calloff sweep --help"),
    ("sweep --how cancle x.py:f", "interrupt, disconnect, not 'cancle' (did you mean cancel?)"),
    ("sweep --replya x", "(did you mean --replay?)"),
    ("ps --state runing", "--state must be one of pending, running,"),
    ("ps --state runing", "not 'runing' (did you mean running?)"),
    ("run --in proces x.py:f", "--in must be one of task, thread, process, not 'proces' (did you mean process?)"),
    ("completion zhs", "name a shell: bash, zsh, fish (did you mean zsh?)"),
    ("ps --limit x", "--limit must be a whole number, 0 or more, not 'x'"),
    ("top --sort agee", "(did you mean age?)"),
    ("run --timeout jobs.py", "--timeout must be a duration such as 3, 3s, 500ms, 1m30s or 2h, not 'jobs.py'"),
    ("run jobz.py", "there is no file 'jobz.py'; did you mean 'jobs.py'?"),
    ("run unlike.py", "there is no file 'unlike.py'\n"),
    ("run jobs", "the whole script is jobs.py, a function in it is jobs:NAME"),
    ("run sh", "the program of that name runs behind --, as in: calloff run -- sh"),
    ("run -- sh%-c%true", "no such program on PATH (its arguments are words of their own, behind it): 'sh -c true'"),
    ("map jobs:load ::: 1 2", "::: is for a PROGRAM behind --; a function gets its items from --input"),
    ("map -- echo {}", "--input is missing: a file with an item a line, or - for stdin; or ::: ITEM..."),
]


@pytest.mark.parametrize(("words", "said"), WRONG)
def test_one_sentence(
    words: str, said: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "jobs.py").write_text("async def load(n): pass\n")
    monkeypatch.chdir(tmp_path)
    status = cli.main([word.replace("%", " ") for word in words.split()])
    out, err = capsys.readouterr()
    assert (status in (2, 127), out) == (True, "")
    assert said in err
    assert err.count("\n") == 1


@pytest.mark.parametrize("words", ["run jobs:load 1", "run -m jobs"])
def test_a_directory_that_is_gone(
    words: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    gone = tmp_path / "gone"
    gone.mkdir()
    monkeypatch.chdir(gone)
    gone.rmdir()
    assert cli.main(words.split()) == 127
    assert capsys.readouterr().err == f"calloff {words.split()[0]}: the current directory is not there any more\n"


@pytest.mark.parametrize("words", ["--help", "ps --json", "completion bash"])
def test_output_that_can_not_be_written_is_told_in_a_line(words: str) -> None:
    with open("/dev/full", "w") as full:
        command = [sys.executable, "-m", "calloff", *words.split()]
        done = subprocess.run(command, stdout=full, stderr=subprocess.PIPE, text=True, timeout=60)
    who = "calloff" if words == "--help" else f"calloff {words.split()[0]}"
    assert done.stderr == f"{who}: the output could not be written: No space left on device\n"
    assert done.returncode == 125


@pytest.mark.parametrize("stream", ["2>&-", "2>/dev/full"])
@pytest.mark.parametrize(
    ("words", "status"), [("map -- echo {} ::: 1", 0), ("map -- false {} ::: 1", 1), ("ps", 0), ("mep", 2)]
)
def test_a_standard_error_that_takes_nothing_changes_nothing(
    words: str, status: int, stream: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CALLOFF_SOCKETS", str(tmp_path / "sockets"))  # else `ps` asks what runs beside it, too
    line = f"{sys.executable} -m calloff {words} {stream}"
    done = subprocess.run(["/bin/sh", "-c", line], stdout=subprocess.PIPE, text=True, timeout=60)
    assert done.returncode == status
    assert "echo" not in words or done.stdout == "1\n"


def test_a_closed_standard_output_is_told_in_a_line() -> None:
    line = f"{sys.executable} -m calloff --help >&-"
    done = subprocess.run(["/bin/sh", "-c", line], stderr=subprocess.PIPE, text=True, timeout=60)
    assert (done.returncode, done.stderr) == (125, "calloff: standard output is closed\n")
