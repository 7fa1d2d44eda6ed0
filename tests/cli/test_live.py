"""The live line: what it says, how it fits, and that it leaves the program's own output alone."""

import io
import os
import pty
import re
import select
import subprocess
import sys
import time
from pathlib import Path

import pytest

from calloff import Frame, Tick
from calloff._words.state import State
from calloff.cli._live import LiveLine, describe
from calloff.cli._text import cells, fit

FRAME = Frame("/x/work.py", 3, "main", "await asyncio.sleep(9)")


def tick(progress: object = None, state: State = State.RUNNING, where: tuple[Frame, ...] = (FRAME,)) -> Tick:
    return Tick(1, 12.0, None, state, progress, where)


@pytest.mark.parametrize(
    ("progress", "said"),
    [
        (0.25, "[#####...............] 25%"),
        (0, "[....................] 0%"),
        (1, "[####################] 100%"),
        ((3, 4), "[###############.....] 75% 3/4"),
        ([5, 4], "[####################] 100% 5/4"),
        ((3_000_000, 4_000_000), "[###############.....] 75% 3000000/4000000"),
        (17, "17"),
        (12_345_678, "12345678"),
        ("copying\nfiles", "copying files"),
        (True, "True"),
        ((1, 0), "1/0"),
        ({"a": 1}, "{'a': 1}"),
    ],
)
def test_progress(progress: object, said: str) -> None:
    assert describe(tick(progress), None, bar=True) == f"12.0 s  {said}  at {FRAME}"


def test_what_is_not_known_is_left_out() -> None:
    assert describe(tick(where=()), None) == "12.0 s"
    assert describe(tick(where=()), 90.0) == "12.0 s of 1m30s"
    assert describe(tick(0.5, State.STOPPING, ()), None) == "12.0 s  stopping  50%"


@pytest.mark.parametrize("text", ["short", "x" * 50, "日本語のテキスト", "e\u0301" * 30, ""])
@pytest.mark.parametrize("width", [0, 1, 2, 7, 30])
def test_it_fits(text: str, width: int) -> None:
    fitted = fit(text, width)
    assert sum(map(cells, fitted)) <= width
    if sum(map(cells, text)) <= width:
        assert fitted == text
    elif width > 1:
        assert fitted.endswith("…")
        assert text.startswith(fitted[:-1])
        assert sum(map(cells, fitted)) >= width - 1


def test_half_a_line_of_the_program_is_not_overwritten() -> None:
    screen = io.StringIO()
    line = LiveLine(screen)
    line.draw("one")
    line.erase()
    line.printed("Name: ")
    line.draw("two")
    assert "two" not in screen.getvalue()
    line.printed("Bob\n")
    line.draw("three\x1b[2J")
    assert screen.getvalue().endswith("\rthree [2J\x1b[K")


def on_a_terminal(folder: Path, *arguments: str, **environment: str) -> tuple[int, str]:
    """What a terminal of 60 columns gets to see, all streams on it."""
    ours, theirs = pty.openpty()
    import fcntl
    import struct
    import termios

    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 24, 60, 0, 0))
    process = subprocess.Popen(
        [sys.executable, "-m", "calloff", "run", *arguments],
        cwd=folder,
        env={**os.environ, "TERM": "xterm", **environment},
        stdin=theirs,
        stdout=theirs,
        stderr=theirs,
    )
    os.close(theirs)
    seen = b""
    deadline = time.monotonic() + 30
    while time.monotonic() < deadline:
        if select.select([ours], [], [], 1)[0]:
            try:
                data = os.read(ours, 4096)
            except OSError:  # the other side is closed
                break
            if not data:
                break
            seen += data
    status = process.wait(10)
    os.close(ours)
    return status, seen.decode().replace("\r\n", "\n")


WORK = """\
import asyncio, sys, calloff

async def main():
    for n in range(10):
        calloff.progress((n, 10))
        if n == 5:
            print("half of it")
        await asyncio.sleep(0.1)
    return "all of it"
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "work.py").write_text(WORK)
    return tmp_path


def screen(text: str) -> list[str]:
    """The lines that are left on the screen, with carriage returns and erasing carried out."""
    lines = [""]
    column = 0
    while text:
        if text.startswith("\n"):
            lines.append("")
            column, text = 0, text[1:]
        elif text.startswith("\r"):
            column, text = 0, text[1:]
        elif text.startswith(("\x1b[K", "\x1b[J")):
            lines[-1], text = lines[-1][:column], text[3:]
        else:
            lines[-1] = lines[-1][:column] + text[0] + lines[-1][column + 1 :]
            column, text = column + 1, text[1:]
    return lines


def test_the_live_line_leaves_no_trace(folder: Path) -> None:
    status, seen = on_a_terminal(folder, "--every", "0.05", "--timeout", "20", "work.py:main")
    assert status == 0
    assert screen(seen) == ["half of it", '"all of it"', ""]
    drawn = [part for part in seen.replace("\n", "\r").split("\r") if " of 20.0 s" in part]
    assert len(drawn) > 5
    assert any("[#####" in part for part in drawn)
    assert all(len(part.removeprefix("\x1b[J").removesuffix("\x1b[K")) < 60 for part in drawn)


def test_a_terminal_without_abilities_gets_plain_lines(folder: Path) -> None:
    _, seen = on_a_terminal(folder, "--every", "0.2", "work.py:main", TERM="dumb")
    assert "\x1b" not in seen
    first = re.search(r"^calloff: ([\d.]+) s  ", seen, re.MULTILINE)
    assert first is not None, seen
    assert float(first[1]) >= 0.2


def test_without_every_nothing_is_drawn(folder: Path) -> None:
    _, seen = on_a_terminal(folder, "work.py:main")
    assert seen == 'half of it\n"all of it"\n'
