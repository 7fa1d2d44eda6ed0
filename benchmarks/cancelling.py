"""A hundred thousand pieces of work called off at once: from the first `cancel` until all have ended and are let go."""

import asyncio
import gc
from collections.abc import Callable
from time import process_time
from typing import Any

import calloff

from ._rounds import interleave
from ._rows import AtMost, Row, compare


async def work() -> None:
    await asyncio.sleep(3600)


async def round_of(start: Callable[..., Any], count: int) -> float:
    """Microseconds for each."""
    started = [start(work()) for _ in range(count)]
    await asyncio.sleep(0)  # each is at its await now
    gc.collect()
    began = process_time()
    for each in started:
        each.cancel()
    await asyncio.wait(started)
    del started, each
    return (process_time() - began) / count * 1e6


def run(quick: bool) -> list[Row]:
    count, rounds = (20_000, 5) if quick else (100_000, 5)
    contenders = {"calloff.start": calloff.start, "create_task": asyncio.create_task}
    figures = asyncio.run(interleave(contenders, lambda start: round_of(start, count), rounds))
    assert not calloff.operations()
    return compare(f"each of {count:,} cancelled", "us", figures, "calloff.start", {"create_task": AtMost(1.5)})
