"""Where a process is, also while it runs C code that hears nothing."""

import itertools
import os

import calloff
from calloff._places.looking import Looker, last_stack
from calloff._places.process.facts import OUTERMOST, of_the_user


def counts_for_ever() -> int:
    calloff.progress("counting")
    return sum(itertools.repeat(1, 10**13))  # here


async def test_the_line_that_called_c_is_named() -> None:
    op = calloff.start(calloff.process(counts_for_ever), grace=0)
    async for tick in op.watch(every=0.02):
        if tick.progress and tick.where and "# here" in tick.where[-1].source:
            frame = tick.where[-1]  # at another look a busy machine may have nothing to tell but the function
            break
        assert tick.elapsed < 30, tick.where
    assert (frame.function, frame.source) == ("counts_for_ever", "return sum(itertools.repeat(1, 10**13))  # here")
    assert isinstance(await op.stop(), calloff.Cancelled)


STACK = """Stack (most recent call first):
  File "/work.py", line 3 in in_c
  File "/calloff/_child/worker.py", line 9 in _call
  File "/calloff/_child/__main__.py", line 15 in <module>
  File "/runpy.py", line 88 in _run_code
"""


def test_a_stack_written_by_c_is_read_from_its_header_to_our_own_frames() -> None:
    found = (("/work.py", 3, "in_c"),)
    rest_of_an_earlier_one = (
        '  File "/calloff/_child/__main__.py", line 15 in <module>\n  File "/runpy.py", line 88 in _run_code\n'
    )
    assert last_stack(STACK, of_the_user, OUTERMOST) == found
    assert last_stack(rest_of_an_earlier_one, of_the_user, OUTERMOST) is None
    assert last_stack(rest_of_an_earlier_one + STACK, of_the_user, OUTERMOST) == found
    assert last_stack(STACK + STACK[:60], of_the_user, OUTERMOST) == found, "the last whole one"


def test_a_stack_that_comes_in_parts_is_there_with_our_own_frame_and_not_before() -> None:
    reading, writing = os.pipe()
    os.set_blocking(reading, False)
    looker = Looker(reading, of_the_user, OUTERMOST)
    try:
        os.write(writing, b'  File "/calloff/_child/__main__.py", line 15 in <module>\n')  # the rest of an earlier one
        assert (looker.has_stack(), looker.stack()) == (False, None)
        head, tail = STACK.split(OUTERMOST)
        for part in head.split(" "):
            os.write(writing, f"{part} ".encode())
            assert (looker.has_stack(), looker.stack()) == (False, None)
        os.write(writing, f"{OUTERMOST}{tail}".encode())
        assert (looker.has_stack(), looker.stack()) == (True, (("/work.py", 3, "in_c"),))
        looker.forget()
        assert (looker.has_stack(), looker.stack()) == (False, None)
    finally:
        os.close(writing)
        looker.close()
