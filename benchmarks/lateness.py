"""How late a limit strikes when a hundred thousand of them strike within three seconds.

Each piece of work waits for ever under a limit of its own, in random order, and notes how long after its point the
cancel reached it. All of them are waiting before the first limit strikes, and what exists then is out of the garbage
collector's sight, whose pauses would drown what is measured.
"""

import asyncio
import gc
from asyncio import AbstractEventLoop, CancelledError
from collections.abc import Awaitable, Callable
from random import Random

import calloff

from ._alone import take_turns_alone
from ._rows import AtMost, Row

RATE = 100_000 / 3  #: limits that strike each second
SET_UP = 80e-6  #: seconds to get one of them waiting, generously


async def asyncio_timeout(due: float, loop: AbstractEventLoop, late: list[float]) -> None:
    try:
        async with asyncio.timeout_at(due):
            await loop.create_future()
    except TimeoutError:
        late.append(loop.time() - due)


async def ours_scope(due: float, loop: AbstractEventLoop, late: list[float]) -> None:
    try:
        with calloff.timeout_at(due):
            await loop.create_future()
    except TimeoutError:
        late.append(loop.time() - due)


async def ours_operation(due: float, loop: AbstractEventLoop, late: list[float]) -> None:
    async def body() -> None:
        try:
            await loop.create_future()
        except CancelledError:
            late.append(loop.time() - due)
            raise

    try:
        await calloff.call(body(), timeout=due - loop.time())
    except TimeoutError:
        pass


CONTENDERS: dict[str, Callable[[float, AbstractEventLoop, list[float]], Awaitable[None]]] = {
    "calloff.timeout_at": ours_scope,
    "calloff.call": ours_operation,
    "asyncio.timeout_at": asyncio_timeout,
}


async def measure(contender: str, count: int) -> dict[str, float]:
    late: list[float] = []
    loop = asyncio.get_running_loop()
    start = loop.time() + 0.5 + count * SET_UP
    random = Random(1)
    dues = [start + random.random() * count / RATE for _ in range(count)]
    tasks = [asyncio.ensure_future(CONTENDERS[contender](due, loop, late)) for due in dues]
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    gc.collect()
    gc.freeze()
    if loop.time() > start:
        raise RuntimeError("the machine is too slow, or too busy: the first limit struck before all were waiting")
    await asyncio.wait(tasks)
    assert len(late) == count
    late.sort()
    return {"p50": late[count // 2] * 1e3, "p99": late[count * 99 // 100] * 1e3, "max": late[-1] * 1e3}


def run(quick: bool) -> list[Row]:
    count, rounds = (20_000, 3) if quick else (100_000, 3)
    figures = take_turns_alone(__name__, dict.fromkeys(CONTENDERS, count), rounds)
    theirs = figures["asyncio.timeout_at"]
    return [
        Row(
            f"lateness of {count:,}, {figure}: {ours}", "ms", figures[ours][figure], "asyncio.timeout_at", theirs[figure],
            AtMost(1.0) if figure == "p99" else None,
        )
        for ours in ("calloff.timeout_at", "calloff.call")
        for figure in ("p50", "p99")
    ]  # fmt: skip
