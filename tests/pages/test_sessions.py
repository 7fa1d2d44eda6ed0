"""What a page shows as typed in a terminal is typed, and what it shows as printed was printed.

The commands of one listing are run by one shell, in a folder that has what the page says is there. Figures, durations and
ids are not compared, and ``...`` in a page stands for any lines. What is not run says why.
"""

import os
import re
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from pages.listings import ROOT, Listing, listings

_BIN = Path(sys.executable).parent
_MARK = "@@@@"

#: the beginning of commands that are not run here
NOT_RUN = {
    "python3 -m venv env": "as the next",
    "python -m pip install": "the job `wheel` builds it, and installs and uses what was built",
    "pip install": "as above; what the extras bring is installed for the tests",
    "scripts/test": "this is run by it",
    "scripts/bench": "takes twelve minutes",
    "uv run --no-default-groups --group site mike": "publishes the site, on a branch of its own",
    "calloff serve": "stays until it is ended: tests/web",
    "calloff top": "a screen: tests/top",
    "calloff asgi main:app": "a server: tests/asgi/test_serve.py",
    "calloff run --grace 5 -- uvicorn": "a server: tests/asgi/test_serve.py",
    "calloff run --grace 15 -- gunicorn": "a server, and gunicorn is not installed: as uvicorn, with another name",
    "calloff cancel 48<Tab>": "a key: tests/cli/test_main.py has the words that complete it",
    "calloff attach 10411": "Python 3.14: tests/control/test_attach.py",
    "calloff cancel 10411.t1": "as above",
    "python -m asyncio pstree": "Python 3.14: tests/system/test_pstree.py",
    "calloff sweep examples/sweep/anyio_release.py": "needs anyio 4.13.0, in which the bug is",
    "pytest aiosqlite/tests/smoke.py": "the suite of another package, which `scripts/suites` runs",
    "pytest ...": "as above",
}

POOL = "examples/pool.py"
_TEST = "async def test_take():\n    pass\n"
_WORK = """\
import asyncio
import calloff
async def fetch():
    reader = asyncio.StreamReader()
    await reader.read()

def crunch():
    return sum(range(10**13))



async def main():
    operations = [
        calloff.start(fetch(), name="fetch-1", timeout=600),
        calloff.start(calloff.process(crunch)),
        calloff.start(calloff.command("sh", "-c", "setsid sleep 3600 & sleep 3600")),
    ]
    calloff.progress((1, 4))
    await asyncio.wait(operations)
"""
_PARSE = """\
async def parse(path):
    if path == "e.txt":
        raise ValueError("no text")
    return {"words": 120}
"""
_REPORT = """\
import time

async def blocks():
    time.sleep(1000)
"""
#: what is there, beside README.md and the examples: a path, and what the file is a copy of or says
FILES = {
    "README.md": {
        "script.py": "print('done')\n",
        "tests/test_pool.py": _TEST,
        "scripts/run": "scripts/run",  # as it is; what makes the environment is not
        "scripts/_setup.sh": 'root=$PWD; setup() { :; }; say() { printf "%s\\n" "$*" >&2; }\n',
        ".venv/bin/calloff": '#!/bin/sh\nexec calloff "$@"\n',
    },
    "docs/how-to/see-and-stop.md": {"work.py": _WORK, "report.py": _REPORT},
    "docs/how-to/sweep-ci.md": {"src/pool.py": POOL, "sweep-known.txt": "", "tests/test_pool.py": _TEST},
    "docs/how-to/sweep-known.md": {
        "sweep-known.txt": "l-3a63ac  a late cancel loses a connection; mended in pool 2.1, which we take in March\n"
    },
    "docs/how-to/sweep-pytest.md": {"tests/test_pool.py": _TEST},
    "docs/how-to/sweep-request.md": {
        "shop.py": "".join(each.text for each in listings("python") if "async def look_up" in each.text)
    },
    "docs/tutorial/ten-thousand-calls.md": {
        "work.py": _PARSE,
        "files.txt": "".join(f"{name}.txt\n" for name in (*"abcdefgh", *range(9992))),
        "a.jpg": "",
        "b.jpg": "",
        "bin/convert": '#!/bin/sh\ncp "$1" "$2"\n',
    },
}
#: what runs meanwhile: the number of its process on the page, and its target
RUNNING = {"docs/how-to/see-and-stop.md": {"4803": "work.py:main", "4810": "report.py:blocks"}}
#: listings of a page that belong to others: what it prints stands there
SHOWN_BELOW = {"calloff sweep shop:app --request 'GET /items'": "UNSAFE early shop.py:24"}


def sessions() -> Iterator[Listing]:
    """Those with something to run; equal ones once."""
    known: set[str] = set()
    for each in listings("console"):
        if each.text not in known and any(why_not(command) is None for command, _ in steps(each)):
            known.add(each.text)
            yield each


def steps(session: Listing) -> list[tuple[str, list[str]]]:
    """The commands, and the lines that are shown below each; `scripts/run` shows commands of its own."""
    if session.first == "$ scripts/run":
        return [("scripts/run", session.text.splitlines()[1:])]
    found = []
    for part in re.split(r"^\$ ", session.text, flags=re.M)[1:]:
        command, *shown = part.splitlines()
        command = re.sub(r" +#.*", "", command).strip()
        found.append((command.replace("scripts/run run", "calloff run"), shown))
    return found


def why_not(command: str) -> str | None:
    """Why a command is not run here."""
    return next((why for beginning, why in NOT_RUN.items() if command.startswith(beginning)), None)


def plain(text: str) -> list[str]:
    """What is compared of it: no durations, no numbers of processes, and equal lines once."""
    text = re.sub(r"\d+h\d\dm|\d+m\d\ds|-?\d+(\.\d+)?(e-\d+)? m?s\b", "TIME", text)
    text = re.sub(r"(after )?TIME( after the request)?|at once", "TIME", text)
    text = re.sub(r"\(process \d+\)", "(process N)", text)
    text = re.sub(r"\d+ refusals?", "N refusals", text)
    text = re.sub(r"Python \d+\.\d+\.\d+\w*( with \w+ [\d.]+)?", "Python N", text)
    text = re.sub(r"[ \t]+", " ", text)
    lines: list[str] = []
    for line in map(str.strip, text.splitlines()):
        if line and "TIME stopping" not in line and line not in lines[-1:]:
            lines.append(line)
    return lines


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """What a checkout has, and the tests' `pytest` and `calloff` on PATH."""
    for name in ("README.md", "examples"):
        (tmp_path / name).symlink_to(ROOT / name)
    (tmp_path / "bin").mkdir()
    for name in ("python", "calloff", "pytest"):
        runs = f'exec {_BIN / "python"} "$@"' if name == "python" else f'exec {_BIN / "python"} -m {name} "$@"'
        _write(tmp_path / "bin" / name, f"#!/bin/sh\n{runs}\n")
    (tmp_path / "sockets").mkdir(mode=0o700)
    return tmp_path


def _write(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    source = ROOT / text
    path.write_text(source.read_text() if "\n" not in text and source.is_file() else text)
    if path.read_text().startswith("#!"):
        path.chmod(0o755)


def environment(folder: Path) -> dict[str, str]:
    """Of all that is run there."""
    mine = {
        "PATH": f"{folder / 'bin'}:{os.environ['PATH']}",
        "HOME": str(folder),
        "CALLOFF_SOCKETS": str(folder / "sockets"),
    }
    return {**os.environ, **mine, "PYTHONUNBUFFERED": "1"}


@contextmanager
def programs(page: str, folder: Path) -> Iterator[dict[str, str]]:
    """What runs meanwhile; gives the number that each process has, for the one that the page has."""
    env = environment(folder)
    running = {
        number: subprocess.Popen(["calloff", "run", target], cwd=folder, env=env)
        for number, target in RUNNING.get(page, {}).items()
    }
    try:
        until = time.monotonic() + 60
        while running and time.monotonic() < until:
            told = subprocess.run(["calloff", "ps"], cwd=folder, env=env, capture_output=True, text=True).stdout
            if all(words in told for words in ("work.py:8", "setsid sleep", "report.py:4", "work.py:19")):
                break
        yield {number: str(program.pid) for number, program in running.items()}
    finally:
        for program in running.values():
            program.terminate()
            program.wait()


#: how often a session is tried: what a page shows with a limit of a second, a busy machine has not begun by then
_TRIES = 3


@pytest.mark.quiet
@pytest.mark.parametrize("session", list(sessions()), ids=str)
def test_it_prints_what_the_page_shows(session: Listing, folder: Path) -> None:
    different = "not tried"
    for _ in range(_TRIES):
        for name, text in FILES.get(session.page, {}).items():
            _write(folder / name, text)
        if not (different := difference(session, folder)):
            return
    pytest.fail(different)


def difference(session: Listing, folder: Path) -> str:
    """Type it, and say what was printed otherwise."""
    asked = [(command, shown) for command, shown in steps(session) if why_not(command) is None]
    with programs(session.page, folder) as numbers:
        script = "".join(f"(exit $status); {command}\nstatus=$?; echo; echo {_MARK}\n" for command, _ in asked)
        for theirs, ours in numbers.items():
            script = script.replace(theirs, ours)
        done = subprocess.run(
            ["bash", "-c", f"exec 2>&1; status=0\n{script}"],
            cwd=folder, env=environment(folder), capture_output=True, text=True, timeout=100,
        )  # fmt: skip
    printed = done.stdout
    for theirs, ours in numbers.items():
        printed = printed.replace(ours, theirs)
    for (command, shown), said in zip(asked, printed.split(f"{_MARK}\n"), strict=False):
        assert not re.search(r"command not found|Traceback|usage:|unrecognized|no tests ran", said), said
        below = next((each.text for each in listings("text") if SHOWN_BELOW.get(command, "\0") in each.text), "")
        wanted = plain(below or "\n".join(shown))
        pattern = "".join(r"(.*\n)*?" if line == "..." else re.escape(line) + "\n" for line in wanted)
        got = plain(said)
        if wanted and not re.fullmatch(pattern, "".join(f"{line}\n" for line in got)):
            return "\n".join([f"{session}: {command}", "shown:", *wanted, "printed:", *got])
    return ""
