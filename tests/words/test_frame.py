"""Lines of code as evidence."""

import asyncio
import json
import os
import subprocess
import sys

import pytest

from calloff._words import frame
from calloff._words.frame import OURS, Frame, at_line, culprit, develop


def here():
    return None


HERE = (here.__code__, 0)


def test_a_noted_frame_is_developed_with_its_source_line():
    (frame,) = develop((HERE,))
    assert frame == Frame(__file__, here.__code__.co_firstlineno, "here", "def here():")


def test_stacks_come_as_pairs_flat_or_as_plain_text():
    pairs = develop((HERE, HERE))
    assert develop((*HERE, *HERE)) == pairs
    assert len(pairs) == 2
    told = (__file__, here.__code__.co_firstlineno, "here")
    assert develop((told, told)) == pairs
    assert develop((*HERE, told)) == pairs


def test_frames_of_calloff_itself_are_left_out():
    assert develop(((develop.__code__, 0), HERE)) == develop((HERE,))
    assert develop(((os.path.join(OURS, "_api", "start.py"), 3, "start"),)) == ()


def test_an_unreadable_source_leaves_the_line_empty():
    assert develop((("/nowhere/at/all.py", 7, "gone"),)) == (Frame("/nowhere/at/all.py", 7, "gone", ""),)


def test_the_culprit_is_the_innermost_frame_of_the_program():
    mine = Frame(__file__, 3, "mine")
    library = Frame(asyncio.__file__, 4, "sleep")
    other = Frame(json.__file__, 5, "loads")
    assert culprit((mine, library)) == mine
    assert culprit((mine, Frame(__file__, 9, "deeper"), library)).function == "deeper"
    assert culprit((library, other)) == other
    assert culprit(()) is None


def test_the_culprit_is_found_where_nothing_can_be_loaded(monkeypatch):
    """A program that has used up its files is told of all the same."""
    python, program = Frame(asyncio.__file__, 1, "sleep"), Frame("/home/someone/program.py", 2, "main")
    frame._all_foreign.cache_clear()
    with monkeypatch.context() as nothing:
        nothing.setitem(sys.modules, "sysconfig", None)
        assert culprit((program, python)) == program
        assert culprit((program, Frame(pytest.__file__, 1, "main"))) == program
    assert culprit((program, python)) == program


def test_a_line_for_people(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    below = Frame(str(tmp_path / "examples" / "call_api.py"), 6, "call_api", "await asyncio.sleep(delay)")
    assert at_line((below,)) == "call_api (examples/call_api.py:6): await asyncio.sleep(delay)"
    assert at_line((below._replace(source=""),)) == "call_api (examples/call_api.py:6)"
    assert (
        at_line((below._replace(file="/elsewhere/x.py"),)) == "call_api (/elsewhere/x.py:6): await asyncio.sleep(delay)"
    )
    assert at_line(()) == ""


def test_a_removed_current_directory_does_no_harm(tmp_path, monkeypatch):
    def gone():
        raise FileNotFoundError

    monkeypatch.setattr(os, "getcwd", gone)
    assert str(Frame("/a/b.py", 1, "f")) == "f (/a/b.py:1)"


@pytest.mark.parametrize("offset", [-1, 10**6])
def test_an_offset_beyond_the_code_falls_back_to_its_first_line(offset):
    (frame,) = develop(((here.__code__, offset),))
    assert frame.line == here.__code__.co_firstlineno


def test_what_has_no_lines() -> None:
    (command,) = develop((("/bin/sleep", 0, "sleep", "sleep 60 (process 7)"),))
    assert command == Frame("/bin/sleep", 0, "sleep", "sleep 60 (process 7)")
    assert str(command) == "sleep 60 (process 7)"
    assert str(Frame("<built-in>", 0, "sum")) == "sum (<built-in>)"


LATE = """
import asyncio, os, sys, calloff

async def wait():
    await asyncio.get_running_loop().create_future()

class Late:
    def __del__(self, write=os.write, is_over=lambda: sys.meta_path is None):
        write(1, f"{is_over()} {error}".encode())

async def main():
    op = calloff.start(wait(), timeout=0.01)
    await asyncio.wait({op})
    return op.exception()

error = asyncio.run(main())
late = Late()
"""


def test_an_error_can_be_shown_while_the_interpreter_ends():
    done = subprocess.run([sys.executable, "-c", LATE], capture_output=True, text=True, timeout=60)
    assert done.stdout.startswith("True 'wait' did not end within 0.01 s: at wait (<string>:5)"), done.stderr
