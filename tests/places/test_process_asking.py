"""Moments at which a function in a process must not, or can't, be interrupted: the request waits and is not lost."""

import asyncio
import linecache
import os
import textwrap

import places.process_bodies as bodies
import pytest

import calloff
from calloff import Rung
from calloff._os.proc import seconds_run
from calloff._places.kept import Guarded
from calloff._places.process.pool import SETTINGS

pytestmark = pytest.mark.usefixtures("patient")

linecache.getlines(bodies.__file__)  # whoever reads them is waited for a quarter of a second only

SLOW = """
    import sys
    import time
    from pathlib import Path

    first = 1
    Path({mark!r}).touch()
    operation = sys.modules["_calloff._child.inside"].operation
    end = time.monotonic() + 100
    while ({endless} or operation.page.noted != operation.number) and time.monotonic() < end:
        time.sleep(0.001)
    last = 2
"""


@pytest.fixture(autouse=True)
def one_worker():
    before = vars(SETTINGS).copy()
    calloff.process.configure(size=1, spares=0)
    yield
    vars(SETTINGS).update(before)


async def begun(path):
    async with asyncio.timeout(20):
        while not os.path.exists(path):
            await asyncio.sleep(0.002)


def start(fn, *args, **kwargs):
    return calloff.start(calloff.process(fn, *args), **kwargs)


async def ended_when_asked(op):
    """Ask once; gives the report of a stop for which that was enough."""
    outcome = await op.stop("enough", grace=20)
    assert isinstance(outcome, calloff.Cancelled), outcome
    assert outcome.report.rung is Rung.ASKED
    return outcome.report


def slow_module(tmp_path, name, *, endless):
    """Write a module whose import takes until it is asked, or has no end; returns the file that tells of its begin."""
    mark = tmp_path / f"{name}.begun"
    (tmp_path / f"{name}.py").write_text(textwrap.dedent(SLOW.format(mark=str(mark), endless=endless)))
    return mark


async def test_an_import_is_not_cut_in_two(tmp_path):
    worker, _ = await calloff.call(calloff.process(bodies.look_at_module, "x"))
    name = f"slow_{tmp_path.name}"
    mark = slow_module(tmp_path, name, endless=False)
    op = start(bodies.import_and_wait, str(tmp_path), name, 60.0)
    await begun(mark)
    report = await ended_when_asked(op)
    assert report.refusals == 0
    files = [frame.file for frame in report.where]
    assert any(file.endswith(f"{name}.py") for file in files), "where it was at the request"
    assert await calloff.call(calloff.process(bodies.look_at_module, name)) == (worker, 2)
    calloff.process.restart()  # that worker is more patient than others


async def test_an_import_without_end_is_interrupted_and_the_worker_replaced(tmp_path):
    worker, _ = await calloff.call(calloff.process(bodies.look_at_module, "x"))
    name = f"endless_{tmp_path.name}"
    mark = slow_module(tmp_path, name, endless=True)
    op = start(bodies.import_and_wait, str(tmp_path), name, 0.1)
    await begun(mark)
    await ended_when_asked(op)
    other, last = await calloff.call(calloff.process(bodies.look_at_module, name))
    assert other != worker
    assert last is None


async def test_a_lock_is_not_left_half_given_back(tmp_path):
    path, taken = tmp_path / "in", tmp_path / "taken"
    op = start(bodies.give_back_slowly, str(path), str(taken))
    await begun(path)
    await ended_when_asked(op)
    assert taken.exists(), "Condition.wait takes the lock again on its way out"


async def test_a_request_that_a_destructor_swallows_comes_again(tmp_path):
    path, left = tmp_path / "in", tmp_path / "left"
    op = start(bodies.ask_in_destructor, str(path), str(left))
    await begun(path)
    report = await ended_when_asked(op)
    assert report.refusals == 0
    assert left.exists(), "the first one only ended the destructor"


@pytest.mark.parametrize(
    ("fn", "refusals"),
    [
        (bodies.swallow, 1),
        (bodies.async_swallow, 1),
        (bodies.swallow_from_program, 1),
        (bodies.clean_up, 0),
        (bodies.async_clean_up, 0),
        (bodies.clean_up_in_generator, 0),
        (bodies.clean_up_in_program, 0),
    ],
)
async def test_a_refusal_is_counted_and_a_clean_up_is_none(tmp_path, fn, refusals):
    path = str(tmp_path / "in")
    op = start(fn, *([path] if refusals else [path.removesuffix(".in"), 100]))
    await begun(path if refusals else path + ".in")
    op.cancel("enough", grace=600)
    if refusals:
        async with asyncio.timeout(30):
            while not op.report.refusals:
                await asyncio.sleep(0.005)
    else:
        await asyncio.sleep(0.2)  # the guard has looked a few times
    outcome = await op.stop(grace=0)
    assert isinstance(outcome, calloff.Cancelled), outcome
    assert outcome.report.rung is Rung.KILLED
    assert outcome.report.refusals == refusals


async def test_a_new_deadline_is_known_to_the_function(tmp_path):
    op = start(bodies.told_deadline, str(tmp_path / "in"), timeout=1000)
    await begun(tmp_path / "in")
    op.reschedule(50)
    before, after = await op
    assert all(100 < left <= 1000 for left in before)
    assert all(0 < left <= 50 for left in after)


async def test_c_code_that_never_answers_is_located_all_the_same(tmp_path, monkeypatch):
    monkeypatch.setattr("calloff._places.process.last_look._PATIENCE", 30.0)  # it may have no turn for long
    op = start(bodies.spin_in_c, str(tmp_path / "in"))
    await begun(tmp_path / "in")
    op.cancel("enough", grace=600)
    assert not op.done()
    outcome = await op.stop(grace=0)
    assert outcome.report.rung is Rung.KILLED
    assert outcome.report.refusals == 0
    assert outcome.report.where[-1].source == "return sum(numbers)"


@pytest.mark.parametrize("fn", [bodies.become_another_program, bodies.take_all_handlers_away])
async def test_a_request_that_kills_since_nobody_handles_it_is_told_as_one(tmp_path, fn):
    op = start(fn, str(tmp_path / "in"))
    await begun(tmp_path / "in")
    await ended_when_asked(op)
    with pytest.raises(calloff.OperationCancelled):
        await op


async def test_what_is_forced_at_once_is_asked_before(monkeypatch):
    """`grace=0` is force at once, not instead of asking."""
    sent: list[str] = []
    write_all = Guarded.write_all

    def noted(self, *letters):
        sent.extend(parts[0] for parts in letters)
        write_all(self, *letters)

    op = calloff.start(calloff.process(sum, range(10**12)), grace=0)  # in C, it hears nothing
    async with asyncio.timeout(20):
        while op.body.pid is None:
            await asyncio.sleep(0.002)
        before = seconds_run(op.body.pid)
        while seconds_run(op.body.pid) < before + 0.1:  # before that call an asking is heard
            await asyncio.sleep(0.002)
    monkeypatch.setattr(Guarded, "write_all", noted)
    outcome = await op.stop(grace=0)
    assert isinstance(outcome, calloff.Cancelled)
    assert outcome.report.rung is Rung.KILLED
    assert [kind for kind in sent if kind != "limit"] == ["ask", "kill"]
