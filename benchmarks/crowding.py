"""Thousands that wait for one and the same thing, each behind a shield of its own, are called off at once.

asyncio itself goes through all who wait for a future each time that one of them leaves it, as its shields do. So the time
of plain tasks grows with the square of their number; what calloff adds to that must not.
"""

import asyncio
from time import thread_time

import calloff

from ._alone import take_turns_alone
from ._rows import AtMost, Row

COUNT = 5000


async def wait_for(shared: "asyncio.Future[None]") -> None:
    await asyncio.shield(shared)


async def measure(contender: str, count: int) -> dict[str, float]:
    """Milliseconds of processor time from the first request to the last end."""
    shared: asyncio.Future[None] = asyncio.get_running_loop().create_future()
    if contender == "calloff":
        operations = [calloff.start(wait_for(shared)) for _ in range(count)]
        await asyncio.sleep(0.1)
        began = thread_time()
        for operation in operations:
            operation.cancel()
        outcomes = [await operation.outcome() for operation in operations]
        used = thread_time() - began
        assert all(isinstance(outcome, calloff.Cancelled) for outcome in outcomes)
    else:
        tasks = [asyncio.create_task(wait_for(shared)) for _ in range(count)]
        await asyncio.sleep(0.1)
        began = thread_time()
        for task in tasks:
            task.cancel()
        await asyncio.wait(tasks)
        used = thread_time() - began
        assert all(task.cancelled() for task in tasks)
    assert not shared.done()
    return {"used": used * 1e3}


def run(quick: bool) -> list[Row]:
    count, rounds = (1000, 1) if quick else (COUNT, 5)
    figures = take_turns_alone(__name__, {"calloff": count, "asyncio": count}, rounds)
    ours, theirs = figures["calloff"]["used"], figures["asyncio"]["used"]
    return [
        Row(f"{count:,} that shield one future", "ms of cpu", ours, "asyncio tasks", theirs, goal=AtMost(2.0)),
    ]
