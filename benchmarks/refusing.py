"""A thousand pieces of work that refuse to be called off: what the asking costs, in per cent of one core.

Ours are watched for the five seconds of their grace. anyio's, whose scope asks again in every turn of the loop, get a
shorter time, since they would go on for ever; then their process just exits.

And for how long that holds the event loop: the longest turn, in time of the processor, so that a busy machine can't make it
longer, while each of the thousand is walked and asked again.
"""

import asyncio
from time import perf_counter, process_time, thread_time

import anyio

import calloff

from ._alone import take_turns_alone
from ._rows import Below, Row

COUNT = 1000


async def refuse() -> None:
    while True:
        try:
            await asyncio.sleep(3600)
        except BaseException:
            pass


async def share_of_core(seconds: float) -> float:
    """Per cent of one core that this process uses in the next `seconds`."""
    began, used = perf_counter(), process_time()
    await asyncio.sleep(seconds)
    return (process_time() - used) / (perf_counter() - began) * 100


async def ours(seconds: int) -> float:
    operations = [calloff.start(refuse(), grace=seconds) for _ in range(COUNT)]
    await asyncio.sleep(0.1)
    for operation in operations:
        operation.cancel()
    return await share_of_core(seconds)


async def longest_turn(seconds: int) -> float:
    """Milliseconds of the longest turn of the loop from the first asking on."""
    operations = [calloff.start(refuse(), grace=seconds) for _ in range(COUNT)]
    await asyncio.sleep(0.1)
    loop = asyncio.get_running_loop()
    turns: list[float] = []
    last = thread_time()

    def turn() -> None:
        nonlocal last
        now = thread_time()
        turns.append(now - last)
        last = now
        loop.call_soon(turn)

    for operation in operations:
        operation.cancel()
    loop.call_soon(turn)
    await asyncio.sleep(seconds / 2)
    return max(turns[1:]) * 1000


async def anyio_scope(seconds: int) -> float:
    group = await anyio.create_task_group().__aenter__()
    for _ in range(COUNT):
        group.start_soon(refuse)
    await asyncio.sleep(0.1)
    asyncio.get_running_loop().call_soon(group.cancel_scope.cancel)
    with anyio.CancelScope(shield=True):
        return await share_of_core(seconds)


async def measure(contender: str, seconds: int) -> dict[str, float]:
    return {"share": await {"ours": ours, "anyio": anyio_scope, "turn": longest_turn}[contender](seconds)}


def run(quick: bool) -> list[Row]:
    figures = take_turns_alone(__name__, {"ours": 5, "anyio": 2, "turn": 2}, 1 if quick else 3)
    ours, theirs = figures["ours"]["share"], figures["anyio"]["share"]
    name = f"{COUNT:,} that refuse, in 5 s of grace"
    turn = figures["turn"]["share"]
    return [
        Row(name, "% of a core", ours, goal=Below(5)),
        Row(name, "% of a core", ours, "anyio cancel scope", theirs),
        Row(f"{COUNT:,} that refuse, the longest turn of the loop", "ms", turn, goal=Below(20)),
    ]
