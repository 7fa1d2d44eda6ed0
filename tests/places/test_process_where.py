"""Where a process is, also while it runs C code that hears nothing."""

import asyncio
import itertools
import os
import time

import places.process_bodies as bodies
import pytest

import calloff
from calloff._places.looking import Looker, last_stack
from calloff._places.process.body import ProcessBody
from calloff._places.process.facts import OUTERMOST

pytestmark = pytest.mark.usefixtures("patient")


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


async def test_without_a_grace_a_worker_shows_where_it_is_while_it_is_asked_and_is_not_used_again() -> None:
    op = calloff.start(calloff.process(time.sleep, 60), grace=0)
    body = op.body
    assert isinstance(body, ProcessBody)
    while op.state != "running":
        await asyncio.sleep(0.01)
    worker = body.worker
    assert worker is not None
    while worker._looker.pid is None:  # its guard tells of it, perhaps later than itself
        await asyncio.sleep(0.01)
    op.cancel()
    assert worker.spoiled, "what C writes may have met it in the midst of anything"
    assert isinstance(await op.outcome(), calloff.Cancelled)
    assert worker.dead


async def test_a_look_does_not_kill_what_has_no_handler_for_it_any_more(tmp_path) -> None:
    other = calloff.start(calloff.process(bodies.become_another_program, str(tmp_path / "other")))
    same = calloff.start(calloff.process(bodies.take_all_handlers_away, str(tmp_path / "same")))
    async with asyncio.timeout(20):
        while not (tmp_path / "other").exists() or not (tmp_path / "same").exists():
            await asyncio.sleep(0.002)
    assert [other.where()[-1].function, same.where()[-1].function] == [
        "become_another_program",
        "take_all_handlers_away",
    ]
    (tmp_path / "same.go").touch()
    assert await same == "went on"
    other.where()
    assert not other.done()
    outcome = await other.stop("enough", grace=20)
    assert isinstance(outcome, calloff.Cancelled), outcome
    assert outcome.report.rung is calloff.Rung.ASKED


async def test_a_look_from_outside_does_not_kill_what_would_die_of_it(tmp_path) -> None:
    busy = calloff.start(calloff.process(bodies.take_the_handler_of_c_away, str(tmp_path / "busy")))
    async with asyncio.timeout(20):
        while not (tmp_path / "busy").exists():
            await asyncio.sleep(0.002)
    for _ in range(3):
        busy.where()
    assert await busy


STACK = """Stack (most recent call first):
  File "/work.py", line 3 in in_c
  File "/calloff/_child/worker.py", line 9 in _call
  File "/calloff/_child/worker.py", line 5 in serve
  File "/calloff/_child/__main__.py", line 15 in <module>
  File "/runpy.py", line 88 in _run_code
"""


def test_a_stack_written_by_c_is_read_from_its_header_to_our_own_frames() -> None:
    found = (("/work.py", 3, "in_c"),)
    rest_of_an_earlier_one = (
        '  File "/calloff/_child/__main__.py", line 15 in <module>\n  File "/runpy.py", line 88 in _run_code\n'
    )
    assert last_stack(STACK, OUTERMOST) == found
    assert last_stack(rest_of_an_earlier_one, OUTERMOST) is None
    assert last_stack(rest_of_an_earlier_one + STACK, OUTERMOST) == found
    assert last_stack(STACK + STACK[:60], OUTERMOST) == found, "the last whole one"
    for runs_it in ('worker.py", line 9 in _run', 'worker.py", line 7 in _result', 'batch.py", line 3 in <genexpr>'):
        assert last_stack(STACK.replace('worker.py", line 9 in _call', runs_it), OUTERMOST) == found
    its_own = STACK.replace("/calloff/_child/worker.py", "/mine_child/worker.py", 1)
    assert last_stack(its_own, OUTERMOST) == (("/mine_child/worker.py", 9, "_call"), *found), "a name like one of ours"
    a_loop = STACK.replace("/calloff/_child/worker.py", "/lib/asyncio/events.py", 1).replace("in _call", "in _run")
    assert last_stack(a_loop, OUTERMOST) == found
    while_it_is_set_up = STACK.replace("in serve", "in other")
    assert last_stack(while_it_is_set_up, OUTERMOST) == found
    too_deep = STACK.splitlines()[1] + "\n"
    text = "Stack (most recent call first):\n" + 100 * too_deep
    assert last_stack(text, OUTERMOST) is None
    assert last_stack(text + "  ...\n", OUTERMOST) == 100 * found, "of a hundred frames C shows no more"


def test_a_stack_that_comes_in_parts_is_there_with_our_own_frame_and_not_before() -> None:
    reading, writing = os.pipe()
    os.set_blocking(reading, False)
    looker = Looker(reading, OUTERMOST)
    try:
        os.write(writing, b'  File "/calloff/_child/__main__.py", line 15 in <module>\n')  # the rest of an earlier one
        assert (looker.has_stack(), looker.stack()) == (False, None)
        end = OUTERMOST.search(STACK)
        assert end is not None
        head, tail = STACK[: end.start()], STACK[end.end() :]
        for part in head.split(" "):
            os.write(writing, f"{part} ".encode())
            assert (looker.has_stack(), looker.stack()) == (False, None)
        os.write(writing, f"{end[0]}{tail}".encode())
        assert (looker.has_stack(), looker.stack()) == (True, (("/work.py", 3, "in_c"),))
        looker.forget()
        assert (looker.has_stack(), looker.stack()) == (False, None)
    finally:
        os.close(writing)
        looker.close()
