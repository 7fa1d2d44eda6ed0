"""What a million pieces of work hold while they wait under a limit: resident bytes each."""

import asyncio
import gc
from collections.abc import Callable
from typing import Any

import psutil

import calloff

from ._alone import take_turns_alone
from ._rows import AtMost, Row, compare


async def wait() -> None:
    await asyncio.get_running_loop().create_future()


async def wait_limited() -> None:
    async with asyncio.timeout(3600):
        await asyncio.get_running_loop().create_future()


CONTENDERS: dict[str, Callable[[], Any]] = {
    "calloff.start(timeout=)": lambda: calloff.start(wait(), timeout=3600),
    "create_task + asyncio.timeout": lambda: asyncio.create_task(wait_limited()),
}


async def measure(contender: str, count: int) -> dict[str, float]:
    start = CONTENDERS[contender]
    resident = psutil.Process().memory_info
    kept = [start()]
    await asyncio.sleep(0)  # all modules are loaded now
    gc.collect()
    gc.disable()  # nothing here is garbage, and looking for it takes longer than the rest
    before = resident().rss
    kept += [start() for _ in range(count)]
    await asyncio.sleep(0)
    assert not any(each.done() for each in kept)
    return {"bytes": (resident().rss - before) / count}


def run(quick: bool) -> list[Row]:
    count = 100_000 if quick else 1_000_000
    figures = take_turns_alone(__name__, dict.fromkeys(CONTENDERS, count), 1)
    each = {name: named["bytes"] for name, named in figures.items()}
    ours, theirs = CONTENDERS
    return compare(f"memory of each of {count:,}", "bytes", each, ours, {theirs: AtMost(1.8)})
