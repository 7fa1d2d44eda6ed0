"""`calloff ps`, `show`, `watch`, `cancel` and `completion`: what they print, and their exit statuses."""

import io
import json
import os
import re
import shutil
import subprocess
import sys
import textwrap
from collections.abc import Iterator
from pathlib import Path

import pytest
from control.programs import Program, cli, eventually

from calloff.cli._listing import at, table
from calloff.cli._text import is_coloured
from calloff.control import Frame, Overview, Row
from calloff.control._peer import _short

WORK = """
async def fetch(number):
    await asyncio.sleep(3600)

async def stubborn():
    while True:
        try:
            await asyncio.sleep(3600)
        except asyncio.CancelledError:
            pass

async def fails():
    raise ValueError("no such page")

async def main():
    async with calloff.group(on_error="collect") as group:
        group.start(fetch(1), name="fetch-1", timeout=600)
        group.start(fetch(2), name="fetch-2")
        group.start(stubborn(), grace=600)
        group.start(calloff.command("sleep", "3600"))
        group.start(fails())
        calloff.progress((1, 4))
        try:
            await asyncio.sleep(3600)
        except asyncio.CancelledError:
            pass
"""


@pytest.fixture(autouse=True)
def sockets(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CALLOFF_SOCKETS", str(tmp_path / "sockets"))
    monkeypatch.setenv("COLUMNS", "100")


@pytest.fixture(autouse=True)
def patience(monkeypatch: pytest.MonkeyPatch) -> None:
    """However busy the machine is, nobody here counts as silent."""
    for module in ("_client", "_stops"):
        monkeypatch.setattr(f"calloff.control.{module}.PATIENCE", 60.0)


@pytest.fixture
def program(tmp_path: Path) -> Iterator[Program]:
    with Program(tmp_path, WORK, "--grace", "0.2") as program:
        eventually(lambda overview: overview.counts == {"running": 5})
        yield program


def test_nothing_runs() -> None:
    for arguments in (["ps"], ["ps", "--name", "x"]):
        done = cli(*arguments)
        assert (done.returncode, done.stdout) == (0, "")
        assert done.stderr == "calloff ps: nothing runs that can be seen\n"
    done = cli("ps", "--json")
    assert (done.returncode, done.stderr) == (0, "calloff ps: nothing runs that can be seen\n"[:0])
    assert json.loads(done.stdout)["rows"] == []
    for verb in ("ps", "show", "watch", "cancel"):
        done = cli(verb, "7")
        assert (done.returncode, done.stdout) == (1, "")
        assert done.stderr == f"calloff {verb}: there is no operation '7'\n"
    done = cli("cancel", "--name", "x")
    assert (done.returncode, done.stderr) == (1, "calloff cancel: nothing matches: nothing was called off\n")


def test_ps(program: Program) -> None:
    done = cli("ps")
    assert (done.returncode, done.stderr) == (0, "")
    head, process, *rows = done.stdout.splitlines()
    assert head.split() == ["ID", "STATE", "PLACE", "AGE", "LEFT", "NAME", "WHERE"]
    assert process.split()[0] == str(program.pid)
    assert process.endswith("work.py:main")
    names = [re.search(r"(main|[├└]─ [\w-]+)", row) for row in rows]
    assert [name and name[0] for name in names] == ["main", "├─ fetch-1", "├─ fetch-2", "├─ stubborn", "└─ sleep"]
    assert "[##........] 25% 1/4" in rows[0]
    assert rows[1].endswith("work.py:5): await asyncio.sleep(3600)")
    assert re.search(r" (10m00s|9m\d\ds) ", rows[1])
    assert rows[4].endswith("  sleep 3600")
    done = cli("ps", "--name", "fetch-*", "--sort", "name", "--reverse", "--limit", "1")
    assert [line.split()[-5] for line in done.stdout.splitlines()[1:]]
    assert "fetch-2" in done.stdout
    assert "fetch-1" not in done.stdout
    assert done.stderr == "calloff ps: 1 of 2 are shown\n"
    assert "ValueError: no such page" in cli("ps", "--all", "--state", "failed").stdout
    assert len(cli("ps", "--tasks").stdout.splitlines()) >= len(rows) + 2
    assert cli("ps", "--older-than", "1h").stderr == "calloff ps: nothing matches\n"
    done = cli("ps", f"{program.pid}.2", f"{program.pid}.99", f"{program.pid}.6")
    assert (done.returncode, len(done.stdout.splitlines())) == (1, 3)
    assert done.stderr.splitlines() == [
        f"calloff ps: there is no operation '{program.pid}.99'",
        f"calloff ps: {program.pid}.6 has ended; --all lists it, and calloff show tells everything",
    ]
    assert cli("ps", "--all", f"{program.pid}.6").returncode == 0
    done = cli("ps", f"{program.pid}.2", "--state", "stopping")  # it is there, and hidden by the filter
    assert (done.returncode, done.stderr) == (0, "calloff ps: nothing matches\n")
    document = json.loads(cli("ps", "--json", "--place", "command").stdout)
    assert set(document) >= {"rows", "total", "counts", "silent", "processes"}
    (row,) = document["rows"]
    assert (row["name"], row["place"], row["where"]["source"]) == ("sleep", "command", "sleep 3600")


def test_show(program: Program) -> None:
    done = cli("show", f"{program.pid}.2")
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.splitlines()[0] == f"{program.pid}.2  fetch-1"
    assert re.search(r"\n  state +running for .* since \d\d:\d\d:\d\d\n", done.stdout)
    assert re.search(r"\n  timeout +10m00s, (10m00s|9m\d\ds) left\n", done.stdout)
    assert f"\n  parent    {program.pid}.1\n" in done.stdout
    assert re.search(r"\n  at\n    fetch \(.*work.py:5\)\n      await asyncio.sleep\(3600\)\n", done.stdout)
    assert "\n  command   sleep 3600\n" in cli("show", f"{program.pid}.5").stdout
    failed = cli("show", f"{program.pid}.6").stdout
    assert re.search(r"\n  state +failed after .*\n", failed)
    assert "\n  error     ValueError: no such page\n" in failed
    document = json.loads(cli("show", "--json", f"{program.pid}.2").stdout)
    assert document["row"]["name"] == "fetch-1"
    assert document["stack"][0]["function"] == "fetch"


def test_cancel(program: Program) -> None:
    name = f"{program.pid}.2"
    done = cli("cancel", "--dry-run", "--name", "fetch-*")
    assert done.returncode == 0
    assert re.findall(r"fetch-\d: would be called off; running", done.stdout)
    done = cli("cancel", name, "--reason", "not needed")
    assert (done.returncode, done.stderr) == (0, "")
    assert re.fullmatch(rf"{name} fetch-1: cancelled .*: it stopped when asked \(ASKED\)\n", done.stdout)
    done = cli("cancel", name)
    assert (done.returncode, done.stdout) == (0, f"{name} fetch-1: had ended already: cancelled\n")
    shown = cli("show", name).stdout
    assert re.search(r"\n  stop +not needed, by \w+ \(pid \d+, .*\)\n", shown)
    assert re.search(r"ended by ASKED after", shown)
    done = cli("cancel", "--name", "stubborn", "--wait", "200ms")
    assert done.returncode == 3
    assert re.search(
        r"stubborn: still runs after 0\.\d+ s.*: stuck at stubborn \(.*work.py:\d+\): await asyncio", done.stdout
    )
    done = cli("show", str(program.pid))
    assert done.returncode == 1
    assert "fits several operations" in done.stderr
    whole = cli("cancel", "--dry-run", str(program.pid)).stdout  # what is at the top: the rest ends with it
    assert re.findall(r"^\S+ (\S+): would be", whole, re.MULTILINE) == ["main"]
    some = cli("cancel", "-n", "st*", "--dry-run", str(program.pid)).stdout  # of it what meets the conditions
    assert re.findall(r"^\S+ (\S+): would be", some, re.MULTILINE) == ["stubborn"]
    for words in (["-n", "nobody", f"{program.pid}.3"], ["--state", "pending", f"{program.pid}.3"]):
        none = cli("cancel", *words)  # it runs, and is not what was meant
        assert (none.returncode, none.stdout) == (1, "")
        assert none.stderr == "calloff cancel: nothing matches: nothing was called off\n"
    none = cli("cancel", "-n", "nobody", str(program.pid))
    assert (none.returncode, none.stderr) == (
        1,
        f"calloff cancel: no operation of process {program.pid} runs that is meant\n",
    )
    done = cli("cancel", "--name", "stubborn", "--place", "task", "--force", "--json")
    assert done.returncode == 0
    stopped = json.loads(done.stdout)
    assert (stopped["outcome"], stopped["row"]["rung"]) == ("cancelled", "FORCED")
    done = cli("cancel", str(program.pid))
    assert done.returncode == 0
    assert " main: cancelled " in done.stdout
    assert program.end() == 1, program.said


@pytest.mark.parametrize("words", ["ps", "show 1", "watch 1", "completion bash"])
def test_a_standard_output_that_is_closed_is_told(program: Program, words: str) -> None:
    line = f"{sys.executable} -m calloff {words} >&-"
    done = subprocess.run(["/bin/sh", "-c", line], stderr=subprocess.PIPE, text=True, timeout=60)
    assert (done.returncode, done.stderr) == (125, f"calloff {words.split()[0]}: standard output is closed\n")


def test_watch(program: Program) -> None:
    watching = subprocess.Popen(
        [sys.executable, "-m", "calloff", "watch", "--every", "50ms", f"{program.pid}.2"],
        stdout=subprocess.PIPE,
        text=True,
    )
    following = subprocess.Popen(
        [sys.executable, "-m", "calloff", "watch", "--json", f"{program.pid}.2"], stdout=subprocess.PIPE, text=True
    )
    assert watching.stdout is not None
    assert following.stdout is not None
    assert "fetch-1  running" in watching.stdout.readline()
    assert "fetch-1  running" in watching.stdout.readline()
    assert json.loads(following.stdout.readline())["state"] == "running"
    assert cli("cancel", f"{program.pid}.2", "--reason", "enough").returncode == 0
    rest = watching.communicate(timeout=30)[0].splitlines()
    assert re.search(r"fetch-1  cancelled  .* of 10m00s  \[enough, by .*\]  ASKED$", rest[-1])
    last = json.loads(following.communicate(timeout=30)[0].splitlines()[-1])
    assert (last["outcome"], last["reason"]["text"]) == ("cancelled", "enough")
    assert (watching.returncode, following.returncode) == (0, 0)
    done = cli("watch", f"{program.pid}.2")  # it has ended: one line
    assert (done.returncode, len(done.stdout.splitlines())) == (0, 1)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (
            ["ps", "--sort", "size"],
            "--sort must be one of tree, age, name, state, place, remaining, silent, not 'size'",
        ),
        (["ps", "--limit", "-1"], "--limit must be a whole number, 0 or more, not '-1'"),
        (["ps", "--older-than", "x"], "--older-than must be a duration"),
        (["ps", "--state", "x"], "--state must be one of pending"),
        (["show"], "ID is missing"),
        (["watch", "--every", "0", "7"], "--every must be more than 0"),
        (["cancel"], "say what to call off: an ID, or --name PATTERN"),
        (["cancel", "--name", "a", "--name", "b"], "--name can be given once"),
        (["cancel", "7", "--force", "--grace", "3"], "--force is --grace 0"),
        (["cancel", "7", "--wait", "-1"], "--wait must be a duration"),
        (["completion"], "name a shell: bash, zsh, fish"),
        (["completion", "csh"], "name a shell"),
    ],
)
def test_a_wrong_command_line(arguments: list[str], words: str) -> None:
    done = cli(*arguments)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith(f"calloff {arguments[0]}: ")
    assert words in done.stderr
    assert len(done.stderr.splitlines()) == 1


@pytest.mark.parametrize("verb", ["ps", "show", "watch", "cancel", "completion"])
def test_help(verb: str) -> None:
    done = cli(verb, "--help")
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith(f"usage: calloff {verb} ")


# --- completion


def words(*typed: str) -> list[str]:
    return [line.partition("\t")[0] for line in cli("completion", "words", *typed).stdout.splitlines()]


def test_what_may_come_next(program: Program) -> None:
    assert words("can") == ["cancel"]
    assert {"run", "ps", "cancel"} <= set(words(""))
    assert "--reason" in words("cancel", "--re")
    assert "--timeout" in words("run", "--t")
    assert words("timeout", "--k") == ["--kill-after"]
    assert words("show", "--") == ["--help", "--version", "--json"]
    assert words("ps", "--sort", "a") == words("top", "--sort", "a") == ["age"]
    assert words("ps", "--state", "st") == ["stopping"]
    assert words("run", "--in", "") == ["task", "thread", "process"]
    assert words("completion", "") == ["bash", "zsh", "fish"]
    assert words("cancel", f"{program.pid}.") == [f"{program.pid}.{number}" for number in range(1, 6)]
    assert len(words("show", "")) == 6  # the ended one, too
    assert words("run", "x") == []  # files are the shell's
    assert words("run", "--", "-") == []
    assert words("dance", "-") == []
    assert words("cancel", "--name", "") == ["main", "fetch-1", "fetch-2", "stubborn", "sleep"]


@pytest.mark.parametrize("verb", ["run", "map", "sweep"])
def test_the_functions_of_a_file_are_offered_without_running_it(verb: str, tmp_path: Path) -> None:
    file = tmp_path / "jobs.py"
    file.write_text("raise SystemExit\nasync def load(): ...\ndef look(): ...\ndef _own(): ...\nclass Thing: ...\n")
    assert words(verb, f"{file}:") == [f"{file}:load", f"{file}:look"]
    assert words(verb, f"{file}:loo") == [f"{file}:look"]
    assert words(verb, f"{file}:_") == [f"{file}:_own"]
    file.write_text("def broken(:")
    assert words(verb, f"{file}:") == words(verb, f"{tmp_path}/none.py:") == []


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_the_scripts_are_accepted_by_their_shells(shell: str, tmp_path: Path) -> None:
    script = cli("completion", shell).stdout
    assert "calloff completion words" in script
    if shutil.which(shell) is None:
        pytest.skip(f"there is no {shell} here")
    bin = tmp_path / "bin"
    bin.mkdir()
    (bin / "calloff").write_text(f'#!/bin/sh\nexec "{sys.executable}" -m calloff "$@"\n')
    (bin / "calloff").chmod(0o755)
    environment = {**os.environ, "PATH": f"{bin}:{os.environ['PATH']}"}
    asked = {
        "bash": script + "\nCOMP_LINE='calloff ps --st'; COMP_POINT=15; _calloff; echo ${COMPREPLY[@]}",
        "zsh": "autoload -U compinit; compinit -u -d /dev/null\n" + script + "\necho --state",
        "fish": script + "\ncomplete -C 'calloff ps --st'",
    }[shell]
    done = subprocess.run(
        [shell, "-c", asked], env=environment, capture_output=True, text=True, timeout=60, check=False
    )
    assert (done.stdout.strip(), done.stderr) == ("--state", "")


def test_bash_completes_what_is_behind_a_colon(tmp_path: Path) -> None:
    (tmp_path / "calloff").write_text(f'#!/bin/sh\nexec "{sys.executable}" -m calloff "$@"\n')
    (tmp_path / "calloff").chmod(0o755)
    (tmp_path / "jobs.py").write_text("async def load(): ...\n")
    environment = {**os.environ, "PATH": f"{tmp_path}:{os.environ['PATH']}"}
    asked = cli("completion", "bash").stdout + "\nCOMP_LINE='calloff run jobs.py:lo'; COMP_POINT=22; _calloff; "
    done = subprocess.run(
        ["bash", "-c", asked + "echo ${COMPREPLY[@]}"],
        cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    assert (done.stdout, done.stderr) == ("load\n", "")


# --- a narrow terminal, and colours


def _overview() -> Overview:
    where = Frame("/x/fetching.py", 7, "fetch", "reply = await connection.read()")
    rows = [
        Row("4312.1", 4312, "main", "task", "running", 0.0, 61.0, where=where),
        Row(
            "4312.2",
            4312,
            "fetch-1",
            "process",
            "stopping",
            0.0,
            60.0,
            parent="4312.1",
            depth=1,
            remaining=3.0,
            where=where,
        ),
    ]
    return Overview(rows=tuple(rows), processes=(), counts={}, total=2)


def test_a_narrow_terminal_keeps_the_line_where_it_is() -> None:
    wide = table(_overview(), tree=True, width=120)
    assert wide[0].split() == ["ID", "STATE", "PLACE", "AGE", "LEFT", "NAME", "WHERE"]
    assert wide[2].endswith("fetch (/x/fetching.py:7): reply = await connection.read()")
    narrow = table(_overview(), tree=True, width=40)
    assert narrow[0].split() == ["ID", "STATE", "AGE", "NAME"]
    assert narrow[3] == "  fetch (/x/fetching.py:7): reply = awa…"
    assert all(len(line) <= 40 for line in narrow)


def test_colours_are_added_to_the_words_and_nothing_else() -> None:
    plain = table(_overview(), tree=True, width=100)
    coloured = table(_overview(), tree=True, width=100, colour=True)
    assert [re.sub("\x1b[^m]*m", "", line) for line in coloured] == plain
    assert "\x1b[32mrunning\x1b[0m" in coloured[2]
    assert "\x1b[33mstopping\x1b[0m" in coloured[3]


@pytest.mark.parametrize(
    ("environment", "terminal", "wanted"),
    [
        ({"TERM": "xterm"}, True, True),
        ({"TERM": "xterm"}, False, False),
        ({"TERM": "dumb"}, True, False),
        ({}, True, False),
        ({"TERM": "xterm", "NO_COLOR": "1"}, True, False),
        ({"NO_COLOR": "1", "FORCE_COLOR": "1"}, True, False),
        ({"FORCE_COLOR": "1"}, False, True),
    ],
)
def test_who_wants_colours(
    environment: dict[str, str], terminal: bool, wanted: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("TERM", "NO_COLOR", "FORCE_COLOR"):
        monkeypatch.delenv(name, raising=False)
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    stream = io.StringIO()
    monkeypatch.setattr(stream, "isatty", lambda: terminal)
    assert is_coloured(stream) is wanted


# --- programs that run without `calloff.run`


@pytest.mark.parametrize("runner", ["asyncio.run", "calloff.run"])
def test_the_environment_lets_a_program_be_seen(runner: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source = f"""
        async def work():
            await asyncio.sleep(3600)
        async def twice():
            await calloff.start(work()).outcome()
            await calloff.start(work()).outcome()
        {runner}(twice())
        print(os.listdir(os.environ["CALLOFF_SOCKETS"]))
        """
    monkeypatch.setenv("CALLOFF_EXPOSE", "1")
    with Program(tmp_path, "import os\n" + textwrap.dedent(source), plain=True) as program:
        for _ in range(2):
            eventually(lambda overview: any(row.name == "work" for row in overview.rows))
            done = cli("cancel", "--name", "work")
            assert done.returncode == 0, done.stderr
        program.process.wait(30)
    assert program.said == "[]\n"


# --- text


@pytest.mark.parametrize(
    ("argv", "text"),
    [
        ("/x/python -m calloff cancel 7", "calloff cancel"),
        ("/x/python3.12 -I /x/bin/calloff cancel 7", "calloff cancel"),
        ("/x/bin/calloff top", "calloff top"),
        ("/x/python /x/calloff/__main__.py ps", "calloff ps"),
        ("python -c pass", "python"),
        ("/x/python work.py", "work.py"),
        ("/bin/tool x", "tool"),
        ("python", "python"),
        ("", ""),
    ],
)
def test_who_asked(argv: str, text: str) -> None:
    assert _short(tuple(argv.split())) == text


def test_texts() -> None:
    assert at(None) == ""
    assert at(Frame("f.py", 3, "g", "x\x1b[2J = 1")) == "g (f.py:3): x [2J = 1"
    assert at(Frame("<built-in>", 0, "sleep")) == "sleep"
