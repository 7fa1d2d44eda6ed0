"""How far a map is: for the program, on a terminal, elsewhere."""

import asyncio
import io
import itertools
import sys
import types
from typing import Any

import calloff
from calloff._map import bar


async def short(item):
    await asyncio.sleep(0.01)
    return item


def test_a_function_is_called_meanwhile_and_at_the_end(arun):
    async def one(item):
        await asyncio.sleep(3600 if item == 3 else 0.01)

    async def main():
        async with calloff.map(one, range(20), jobs=4, progress=seen.append) as results:
            for _ in range(19):
                await anext(results)
            while not (seen and seen[-1].counts.completed == 19):
                await asyncio.sleep(0.01)
            assert [op.name for op in results.running()] == ["one"]
        *_, meanwhile, last = seen
        assert meanwhile.counts == (19, 0, 1, 0, 0)
        assert (meanwhile.total, meanwhile.ended, meanwhile.share) == (20, 19, 0.95)
        assert meanwhile.slowest.name == "one"
        assert meanwhile.rate > 0
        assert 0 < meanwhile.left < 60
        assert last.counts == (19, 1, 0, 0, 0)
        assert "20 of" not in str(last)
        seen.clear()

    seen = []
    arun(main)


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


async def test_on_a_terminal_it_is_one_line(monkeypatch):
    stream = Terminal()
    monkeypatch.setattr(sys, "stderr", stream)
    monkeypatch.setenv("TERM", "xterm")
    await calloff.map(short, range(100), jobs=2, progress=True)
    first, *_, last = stream.getvalue().split("\r")[1:]
    assert first.startswith("map short: [")
    assert last.startswith("map short: [####################] 100% of 100  100 done, 0 failed, 0 running  ")
    assert last.endswith("\x1b[K\n")
    assert stream.getvalue().count("\n") == 1


async def test_elsewhere_it_is_a_line_now_and_then(monkeypatch):
    stream = io.StringIO()
    monkeypatch.setattr(sys, "stderr", stream)
    monkeypatch.setattr(bar, "LINES", 0.0)
    await calloff.map(short, range(100), jobs=2, progress=True)
    lines = stream.getvalue().splitlines()
    assert len(lines) >= 2
    assert lines[-1].startswith("map short: 100% of 100  100 done, 0 failed, 0 running  ")
    assert "\r" not in stream.getvalue()


def test_in_a_notebook_it_is_one_line_that_is_written_anew(arun, monkeypatch):
    class Handle:
        def update(self, data, *, raw):
            shown.append(data["text/plain"])

    def display(data, *, raw, display_id):
        shown.append(data["text/plain"])
        return Handle()

    async def main():
        await calloff.map(short, range(100), jobs=2, progress=True)
        assert shown[0] == ""
        assert shown[-1].startswith("map short: [####################] 100% of 100")
        shown.clear()

    shown = []
    notebook: Any = types.ModuleType("IPython.display")
    notebook.display = display
    monkeypatch.setitem(sys.modules, "IPython", types.ModuleType("IPython"))
    monkeypatch.setitem(sys.modules, "IPython.display", notebook)
    monkeypatch.setitem(sys.modules, "ipykernel", types.ModuleType("ipykernel"))
    monkeypatch.setattr(sys, "stderr", io.StringIO())
    arun(main)
