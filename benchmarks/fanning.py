"""How long a user waits for many calls of which some hang: against what would be ideal, and against what else is written.

Five thousand calls of 10 ms, of which each hundredth never ends, a hundred at once, each limited to half a second; and two
hundred functions of 0.1 s in four processes, each limited to a second. The ideal costs nothing but the calls themselves:
each begins, in order, the moment that a place is free, takes exactly its time, and what hangs takes exactly its limit.

Each round has an interpreter of its own. The time counts from the first call to the last answer: the start of the workers
counts, the import of the libraries does not.
"""

import asyncio
import importlib
from collections.abc import Awaitable, Callable
from heapq import heapreplace
from time import perf_counter, sleep

import calloff

from ._alone import take_turns_alone
from ._rows import AtMost, Figure, Row, compare

CALLS, HANGS, AT_ONCE, TAKES, LIMIT = 5_000, 100, 100, 0.01, 0.5
FUNCTIONS, WORKERS, WORKS = 200, 4, 0.1


async def call(item: int) -> int:
    await asyncio.sleep(TAKES if item % HANGS else 3600)
    return item


async def mapped(count: int) -> int:
    outcomes = await calloff.map(call, range(count), jobs=AT_ONCE, timeout=LIMIT)
    return sum(isinstance(outcome, calloff.Completed) for outcome in outcomes)


async def gathered(count: int) -> int:
    places = asyncio.Semaphore(AT_ONCE)

    async def limited(item: int) -> bool:
        async with places:
            try:
                async with asyncio.timeout(LIMIT):
                    await call(item)
            except TimeoutError:
                return False
            return True

    return sum(await asyncio.gather(*(limited(item) for item in range(count))))


def function(item: int) -> int:
    sleep(WORKS)
    return item


async def mapped_in_processes(count: int) -> int:
    calloff.process.configure(size=WORKERS)
    outcomes = await calloff.map(function, range(count), jobs=WORKERS, place=calloff.process, timeout=1)
    return sum(isinstance(outcome, calloff.Completed) for outcome in outcomes)


async def by_pebble(count: int) -> int:
    import pebble

    with pebble.ProcessPool(max_workers=WORKERS) as pool:
        futures = [pool.schedule(function, args=[item], timeout=1) for item in range(count)]
        return sum(future.exception() is None for future in futures)


CONTENDERS: dict[str, Callable[[int], Awaitable[int]]] = {
    "calloff.map": mapped,
    "gather, Semaphore, timeout": gathered,
    "calloff.map, in processes": mapped_in_processes,
    "pebble": by_pebble,
}
#: whose import does not count; what the door names is loaded when it is first named
LIBRARIES: dict[str, tuple[str, ...]] = {
    "calloff.map": ("calloff._api.map",),
    "calloff.map, in processes": ("calloff._api.map", "calloff._map.in_processes"),
    "pebble": ("pebble",),
}


async def measure(contender: str, count: int) -> dict[str, float]:
    for name in LIBRARIES.get(contender, ()):
        importlib.import_module(name)
    expected = count - len(range(0, count, HANGS)) if count == CALLS else count
    began = perf_counter()
    completed = await CONTENDERS[contender](count)
    took = perf_counter() - began
    if completed != expected:
        raise RuntimeError(f"{contender}: {completed} of {expected} completed")
    return {"s": took}


def ideal(takes: list[float], places: int) -> float:
    """The time that calls of such lengths need, begun in order, in so many places."""
    free = [0.0] * places
    for seconds in takes:
        heapreplace(free, free[0] + seconds)
    return max(free)


def run(quick: bool) -> list[Row]:
    rounds = 3 if quick else 7
    names = list(CONTENDERS)
    calls = {
        name: figures["s"]
        for name, figures in take_turns_alone(__name__, dict.fromkeys(names[:2], CALLS), rounds).items()
    }
    jobs = {
        name: figures["s"]
        for name, figures in take_turns_alone(__name__, dict.fromkeys(names[2:], FUNCTIONS), rounds).items()
    }
    best = ideal([TAKES if item % HANGS else LIMIT for item in range(CALLS)], AT_ONCE)
    calls["the ideal"] = Figure((best,) * rounds)
    jobs["the ideal"] = Figure((ideal([WORKS] * FUNCTIONS, WORKERS),) * rounds)
    return [
        *compare(
            f"{CALLS} calls, of which {CALLS // HANGS} hang",
            "s",
            calls,
            names[0],
            {"the ideal": AtMost(1.1), names[1]: None},
        ),
        *compare(
            f"{FUNCTIONS} functions in {WORKERS} processes",
            "s",
            jobs,
            names[2],
            {"the ideal": AtMost(1.1), names[3]: None},
        ),
    ]
