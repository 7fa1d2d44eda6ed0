"""How far a map is: for the program, on a terminal, elsewhere."""

import asyncio
import io
import itertools
import os
import re
import sys
import types
from typing import Any

import pexpect
import pytest

import calloff
from calloff._map import bar, drawn


async def short(item):
    await asyncio.sleep(0.01)
    return item


async def test_a_function_is_called_meanwhile_and_at_the_end():
    async def one(item):
        await asyncio.sleep(3600 if item == 3 else 0.01)

    seen: list[Any] = []
    async with calloff.map(one, range(20), jobs=4, progress=seen.append) as results:
        for _ in range(19):
            await anext(results)
        while not (seen and seen[-1].counts.completed == 19):
            await asyncio.sleep(0.01)
        assert [op.name for op in results.running()] == ["one"]
    *_, meanwhile, last = seen
    assert meanwhile.counts == (19, 0, 1, 0, 0, 0)
    assert (meanwhile.total, meanwhile.ended, meanwhile.share) == (20, 19, 0.95)
    assert meanwhile.slowest.name == "one"
    assert meanwhile.rate > 0
    assert 0 < meanwhile.left < 60
    assert last.counts == (19, 1, 0, 0, 0, 0)
    assert "20 of" not in str(last)
    seen.clear()


async def test_its_errors_cost_nothing(caplog):
    def broken(progress):
        raise KeyError("mine")

    outcomes = await calloff.map(short, range(60), jobs=2, progress=broken)
    assert [outcome.unwrap() for outcome in outcomes] == list(range(60))
    assert caplog.text.count("is not called again") == 1
    caplog.clear()


async def test_of_an_endless_source_there_is_no_share():
    async with calloff.map(short, itertools.count(), jobs=2) as results:
        async for item, _ in results:
            if item > 5:
                break
        assert results.progress.share is None
        assert results.progress.left is None
        assert "/s" in str(results.progress)


class Terminal(io.StringIO):
    def isatty(self):
        return True


async def test_on_a_terminal_without_rich_it_is_one_line(monkeypatch):
    stream = Terminal()
    monkeypatch.setattr(sys, "stderr", stream)
    monkeypatch.setattr(drawn, "_rich", lambda: None)
    monkeypatch.setenv("TERM", "xterm")
    await calloff.map(short, range(100), jobs=2, progress=True)
    first, *_, last, end = stream.getvalue().split("\r")[1:]
    assert first.startswith("\x1b[Jmap short: [")
    assert last.startswith("\x1b[Jmap short: [####################] 100% of 100  100 done, 0 failed, 0 running  ")
    assert end == stream.getvalue()[-1] == "\n"
    assert stream.getvalue().count("\n") == 1


PROGRAM = """
import asyncio, os, sys, calloff

async def fetch(item):
    if item == 7:
        raise ValueError(item)
    while item == 3 and not os.path.exists(sys.argv[1]):
        await asyncio.sleep(0.02)

async def main():
    await calloff.map(fetch, range(60), jobs=4, progress=True)

asyncio.run(main())
print("over")
"""


class Screen:
    """What a terminal shows: the few sequences that a bar is made of, and no others."""

    def __init__(self):
        self.rows, self.row, self.column = [""], 0, 0

    def write(self, text):
        for sequence, char in re.findall(r"(\x1b\[[0-9;]*[A-Za-z])|(.)", text, re.DOTALL):
            if char == "\r":
                self.column = 0
            elif char == "\n":
                self.row += 1
                self.rows.extend([""] * (self.row + 1 - len(self.rows)))
            elif char:
                row = self.rows[self.row].ljust(self.column)
                self.rows[self.row] = row[: self.column] + char + row[self.column + 1 :]
                self.column += 1
            elif sequence.endswith("J"):
                self.rows[self.row] = self.rows[self.row][: self.column]
                del self.rows[self.row + 1 :]
            elif sequence.endswith("A"):
                self.row -= int(sequence[2:-1])
            else:
                assert sequence.endswith("m"), sequence


@pytest.mark.parametrize("colours", [True, False])
def test_on_a_terminal_rich_draws_it_with_the_slowest_item_below(colours, tmp_path):
    (tmp_path / "program.py").write_text(PROGRAM)
    environment = {**os.environ, "TERM": "xterm-256color"} | ({} if colours else {"NO_COLOR": "1"})
    was_seen = tmp_path / "seen"
    words = [str(tmp_path / "program.py"), str(was_seen)]
    seen, screen, texts = [], Screen(), []
    with pexpect.spawn(sys.executable, words, env=environment, dimensions=(24, 100), encoding="utf-8") as terminal:
        while True:
            try:
                texts.append(terminal.read_nonblocking(100_000, timeout=60))
            except pexpect.EOF:
                break
            screen.write(texts[-1])
            seen.append(tuple(screen.rows))
            if len(screen.rows) > 1 and re.match(r"  slowest: .* at fetch \(", screen.rows[1]):
                was_seen.touch()
    first, second, *rest = screen.rows
    assert re.match(r"map fetch ━{24} 100% of 60  59 done  1 failed  0 running  [0-9.]+/s$", first.rstrip())
    assert second == "over"
    assert not any(rest)
    assert ("\x1b[32m" in "".join(texts)) is colours
    assert all(len(row) < 100 for rows in seen for row in rows)


async def test_elsewhere_it_is_a_line_now_and_then(monkeypatch):
    stream = io.StringIO()
    monkeypatch.setattr(sys, "stderr", stream)
    monkeypatch.setattr(bar, "LINES", 0.0)
    await calloff.map(short, range(100), jobs=2, progress=True)
    lines = stream.getvalue().splitlines()
    assert len(lines) >= 2
    assert lines[-1].startswith("map short: 100% of 100  100 done, 0 failed, 0 running  ")
    assert "\r" not in stream.getvalue()


async def test_in_a_notebook_it_is_one_line_that_is_written_anew(monkeypatch):
    class Handle:
        def update(self, data, *, raw):
            shown.append(data["text/plain"])

    def display(data, *, raw, display_id):
        shown.append(data["text/plain"])
        return Handle()

    shown: list[Any] = []
    notebook: Any = types.ModuleType("IPython.display")
    notebook.display = display
    monkeypatch.setitem(sys.modules, "IPython", types.ModuleType("IPython"))
    monkeypatch.setitem(sys.modules, "IPython.display", notebook)
    monkeypatch.setitem(sys.modules, "ipykernel", types.ModuleType("ipykernel"))
    monkeypatch.setattr(sys, "stderr", io.StringIO())
    await calloff.map(short, range(100), jobs=2, progress=True)
    assert shown[0] == ""
    assert shown[-1].startswith("map short: [####################] 100% of 100")
    shown.clear()
