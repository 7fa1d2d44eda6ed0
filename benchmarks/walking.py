"""How long the event loop is held while a thousand stubborn coroutines that wait for busy workers climb the ladder.

Each of them waits for a function in a process that computes, and swallows every `CancelledError`: at each step of its stop
its frames are walked, to see whether it is in its clean-up, and on into the worker that it waits for. A beat of a
millisecond says how long one turn of the loop takes at most, from the request to the last end. All thousand are requested
in one turn, and arrive in the next, which the beat sees as one; a single task waits for all ends, so that nothing is
counted but the stops. A thousand bare tasks that wait for a shield, cancelled once, take 0.57 of its instructions.

The turn is measured in processor time of the loop's thread: the hundred workers share the machine with it, and what the
system gives to them in between is not the loop's. The wall clock's figure stands beside it. The workers begin to compute
when all of them are there, and give way to everybody else: each is a session of its own, of which the system gives as much
to one as to another, so that the whole program would get a hundredth of the processors.
"""

import asyncio
import gc
import os
import tempfile
import time
from contextlib import suppress
from time import monotonic, thread_time

import calloff
from calloff import process

from ._alone import take_turns_alone
from ._rows import AtMost, Row

WALKERS, WORKERS = 1000, 100
GRACE = 1.5
GO = "go"


def compute(folder: str, number: int) -> int:
    with open(f"{folder}/{number}", "w", encoding="ascii"):
        while not os.path.exists(f"{folder}/{GO}"):
            time.sleep(0.1)
        os.nice(19)
        with suppress(OSError), open("/proc/self/autogroup", "w", encoding="ascii") as weight:
            weight.write("19")
        return sum(range(10**13))


async def wait_for(worker: "calloff.Operation[int]") -> None:
    while not worker.done():
        try:
            await asyncio.shield(worker.completion())
        except asyncio.CancelledError:
            pass


async def measure(_contender: str, walkers: int) -> dict[str, float]:
    process.configure(size=WORKERS, spares=0)
    folder = tempfile.mkdtemp()
    busy = [calloff.start(process(compute, folder, n), grace=60) for n in range(WORKERS)]
    while len(os.listdir(folder)) < WORKERS:
        await asyncio.sleep(0.1)
    gc.collect()
    gc.freeze()  # what was there before is out of the collector's sight, as in all benchmarks
    with open(f"{folder}/{GO}", "w", encoding="ascii"):
        pass
    walking = [calloff.start(wait_for(busy[n % WORKERS]), grace=GRACE) for n in range(walkers)]
    await asyncio.sleep(1.0)  # all compute by then
    used = wall = 0.0
    over = False

    async def beat() -> None:
        nonlocal used, wall
        cpu, at = thread_time(), monotonic()
        while not over:
            await asyncio.sleep(0.001)
            cpu, before = thread_time(), cpu
            at, then = monotonic(), at
            used, wall = max(used, cpu - before), max(wall, at - then)

    beating = asyncio.create_task(beat())
    await asyncio.sleep(0.1)
    for operation in walking:
        operation.cancel()
    await asyncio.sleep(GRACE)
    outcomes = [await operation.outcome() for operation in walking]
    over = True
    await beating
    assert all(isinstance(outcome, calloff.Cancelled) for outcome in outcomes)
    for path in os.listdir(folder):
        os.unlink(f"{folder}/{path}")
    os.rmdir(folder)
    return {"used": used * 1e3, "wall": wall * 1e3}


def run(quick: bool) -> list[Row]:
    walkers, rounds = (100, 1) if quick else (WALKERS, 3)
    names = {f"{walkers:,} walkers": walkers, "no walkers": 0}
    figures = take_turns_alone(__name__, names, rounds)
    return [
        Row(f"the loop's longest turn, {name} over {WORKERS} busy workers", unit, figures[name][figure], goal=goal)
        for name in names
        for figure, unit, goal in (("used", "ms of cpu", AtMost(20.0)), ("wall", "ms", None))
    ]
