"""How late a limit strikes when a hundred thousand of them strike within ten seconds, and what each costs then.

Each piece of work waits for ever under a limit of its own, in random order, and notes how long after its point the
cancel reached it. All of them are waiting before the first limit strikes. The garbage collector is off, since its
pauses, which depend on all that the process holds, would drown what is measured. The rate leaves every contender time
to spare: packed more densely than one can handle them, limits strike late by the length of the queue, which is the cost
once more.
"""

import asyncio
import gc
from asyncio import AbstractEventLoop, CancelledError
from collections.abc import Callable
from random import Random
from time import process_time
from typing import Any

import calloff

from ._alone import take_turns_alone
from ._rows import AtMost, Row

RATE = 10_000  #: limits that strike each second
SET_UP = 60e-6  #: seconds to get one of them waiting, generously


async def wait(due: float, loop: AbstractEventLoop, late: list[float]) -> None:
    try:
        await loop.create_future()
    except CancelledError:
        late.append(loop.time() - due)
        raise


async def in_asyncio_timeout(due: float, loop: AbstractEventLoop, late: list[float]) -> None:
    try:
        async with asyncio.timeout_at(due):
            await wait(due, loop, late)
    except TimeoutError:
        pass


async def in_our_timeout(due: float, loop: AbstractEventLoop, late: list[float]) -> None:
    try:
        with calloff.timeout_at(due):
            await wait(due, loop, late)
    except TimeoutError:
        pass


Start = Callable[[float, AbstractEventLoop, list[float]], Any]
CONTENDERS: dict[str, Start] = {
    "calloff.timeout_at": lambda *each: asyncio.create_task(in_our_timeout(*each)),
    "calloff.start(timeout=)": lambda due, loop, late: calloff.start(wait(due, loop, late), timeout=due - loop.time()),
    "asyncio.timeout_at": lambda *each: asyncio.create_task(in_asyncio_timeout(*each)),
}


async def measure(contender: str, count: int) -> dict[str, float]:
    late: list[float] = []
    loop = asyncio.get_running_loop()
    start = loop.time() + 0.5 + count * SET_UP
    random = Random(1)
    waiting = [CONTENDERS[contender](start + random.random() * count / RATE, loop, late) for _ in range(count)]
    await asyncio.sleep(0)
    gc.collect()
    gc.disable()
    if loop.time() > start:
        raise RuntimeError("the machine is too slow, or too busy: the first limit was due before all were waiting")
    used = process_time()
    await asyncio.wait(waiting)
    used = process_time() - used
    assert len(late) == count
    for each in waiting:
        each.exception()  # seen: no complaint that nobody looked
    late.sort()
    return {"p50": late[count // 2] * 1e3, "p99": late[count * 99 // 100] * 1e3, "cost": used / count * 1e6}


def run(quick: bool) -> list[Row]:
    count, rounds = (20_000, 2) if quick else (100_000, 2)
    figures = take_turns_alone(__name__, dict.fromkeys(CONTENDERS, count), rounds)
    *ours, peer = CONTENDERS
    return [
        Row(f"{count:,} limits, {figure}: {our}", unit, figures[our][figure], peer, figures[peer][figure], goal)
        for our in ours
        for figure, unit, goal in (("p50", "ms late", None), ("p99", "ms late", AtMost(1.0)), ("cost", "us each", None))
    ]
