"""Taking turns: every contender runs many short rounds, in an order that rotates, in one process.

So whatever else the machine does meets all of them alike. What is counted is the processor time of this process, not
the time on the wall: other processes then disturb only through the caches. Before each round the garbage of the one
before is collected; while it runs the collector is on, as it is in programs, but does not look at what was there before
the benchmark.
"""

import asyncio
import gc
from collections.abc import Awaitable, Callable, Mapping
from time import process_time
from typing import TypeVar

from ._rows import Figure

__all__ = ["interleave", "take_turns", "timed"]

Contender = Callable[[int], Awaitable[object]]
C = TypeVar("C")


def take_turns(contenders: Mapping[str, Contender], times: int, rounds: int) -> dict[str, Figure]:
    """Microseconds that each contender needs for one of `times` repetitions; it repeats them itself."""
    return asyncio.run(interleave(contenders, timed(times), rounds))


def timed(times: int, clock: Callable[[], float] = process_time) -> Callable[[Contender], Awaitable[float]]:
    """Measures one round: microseconds for one of `times` repetitions."""

    async def measure(contender: Contender) -> float:
        began = clock()
        await contender(times)
        return (clock() - began) / times * 1e6

    return measure


async def interleave(
    contenders: Mapping[str, C], measure: Callable[[C], Awaitable[float]], rounds: int
) -> dict[str, Figure]:
    """What `measure` says of each contender in each round, after one round to warm up."""
    samples: dict[str, list[float]] = {name: [] for name in contenders}
    order = list(contenders)
    for contender in contenders.values():
        await measure(contender)
    gc.collect()
    gc.freeze()
    for _ in range(rounds):
        for name in order:
            gc.collect()
            samples[name].append(await measure(contenders[name]))
        order.append(order.pop(0))
    gc.unfreeze()
    return {name: Figure(tuple(taken)) for name, taken in samples.items()}
