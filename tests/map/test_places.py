"""`map` in threads, processes and commands; one bad item loses only itself."""

import asyncio
import functools
import os
import struct
import subprocess
import sys
import threading
import time

import pytest
from map import bodies

import calloff
from calloff import Cancelled, Completed, Failed
from calloff._places.process.pool import SETTINGS


@pytest.mark.parametrize("place", [calloff.thread, calloff.process], ids=repr)
async def test_a_blocking_function(place):
    outcomes = await calloff.map(bodies.fine, range(40), jobs=4, place=place, timeout=30)
    assert [o.unwrap() for o in outcomes] == list(range(40))
    (outcome,) = await calloff.map(bodies.fails, [7], place=place)
    assert isinstance(outcome, Failed)
    assert str(outcome.error) == "item 7"


def test_a_map_loads_no_other_places_than_its_own():
    code = "import calloff, sys; calloff.map(abs, [1], place=calloff.process); print(*sys.modules)"
    loaded = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True).stdout.split()
    assert "calloff._places.process.place" in loaded
    assert "calloff._places.thread.place" not in loaded
    assert "calloff._places.command.place" not in loaded


async def test_an_async_function_in_a_process():
    async def one(item):
        await asyncio.sleep(0)
        return item

    outcomes = await calloff.map(one, range(3), place=calloff.process)
    assert [o.unwrap() for o in outcomes] == [0, 1, 2]


async def test_a_command():
    outcomes = await calloff.map("echo {#} {} {.}", ["a.txt", "b c; $(d)"], place=calloff.command)
    assert [o.unwrap().text for o in outcomes] == ["1 a.txt a\n", "2 b c; $(d) b c; $(d)\n"]
    outcomes = await calloff.map(["sh", "-c", 'exit "$0"', "{}"], [0, 3], place=calloff.command)
    assert isinstance(outcomes[0], Completed)
    assert isinstance(outcomes[1].error, calloff.CommandFailed)
    with pytest.raises(FileNotFoundError, match="no-such-program-here"):
        calloff.map("no-such-program-here", [1, 2], place=calloff.command)
    outcomes = await calloff.map("{}", ["no-such-program-here", "nor-this"], place=calloff.command)
    assert [type(outcome.error) for outcome in outcomes] == [FileNotFoundError] * 2


BAD = {
    "hang": Cancelled,
    "C loop": Cancelled,
    "refuse": Cancelled,
    "crash": Failed,
    "os._exit": Failed,
    "kill": Failed,
    "raise": Failed,
    "sys.exit": Failed,
    "unpicklable": Failed,
    "unpicklable error": Failed,
}


@pytest.mark.parametrize("kind", BAD)
def test_one_bad_item_of_many_in_processes(kind):
    work = functools.partial(bodies.bad, kind=kind)
    limit = 2 if BAD[kind] is Cancelled else 60  # who is held up by the machine for that long is called off, too
    outcomes = calloff.run(calloff.map(work, range(400), jobs=4, place=calloff.process, timeout=limit, grace=0.3))
    for item, outcome in enumerate(outcomes):
        if item == 23:
            assert type(outcome) is BAD[kind], outcome
        else:
            assert outcome == Completed(item)
    if kind in ("crash", "os._exit", "kill"):
        assert isinstance(outcomes[23].error, calloff.WorkerDied)


def test_the_limit_counts_from_the_start_of_the_body_not_from_the_queue(tmp_path):
    begins = tmp_path / "begins"
    begins.write_bytes(bytes(8 * 24))

    async def main():
        outcomes = await calloff.map(slow, range(24), jobs=24, place=calloff.process, timeout=1.5)
        for item, outcome in enumerate(outcomes):
            if outcome != Completed(None):  # a busy machine has held it up for that long, since its begin
                (began,) = struct.unpack_from("d", begins.read_bytes(), 8 * item)
                assert began, outcome
                assert outcome.report.requested_at - began > 0.75, outcome

    def slow(item):
        with open(begins, "r+b") as file:
            os.pwrite(file.fileno(), struct.pack("d", time.monotonic()), 8 * item)
        time.sleep(0.2)

    size = SETTINGS.size
    calloff.process.configure(size=2)  # all of them take 2.4 s: longer than the limit of one
    try:
        calloff.run(main())
    finally:
        calloff.process.configure(size=size)


@pytest.mark.parametrize("place", [calloff.thread, calloff.process], ids=repr)
def test_leaving_the_block_stops_what_is_in_flight(place):
    async def main():
        async with calloff.map(naps, range(1000), jobs=4, place=place, grace=2) as results:
            async for _ in results:
                break
        assert calloff.operations() == (calloff.current(),)

    def naps(item):
        for _ in range(100 if item else 1):
            time.sleep(0.01)

    calloff.run(main())


def test_an_item_that_cannot_be_sent_is_called_so():
    results = calloff.run(calloff.map(len, ["one", [threading.Lock()]], place=calloff.process))
    assert [type(each) for each in results] == [calloff.Completed, calloff.Failed]
    assert "len can't be sent to a process: the item (builtins.list) can't be pickled" in str(results[1].error)
