"""Starting one piece of work and waiting for its end, alone and with a time limit; and a thousand in one group.

The work does nothing, so what is measured is only what is added to it.
"""

import asyncio

import aiojobs
import anyio

import calloff

from ._rounds import take_turns
from ._rows import AtMost, Below, Row, compare


async def work() -> None: ...


# --- one at a time


async def ours(times: int) -> None:
    for _ in range(times):
        await calloff.start(work())


async def create_task(times: int) -> None:
    for _ in range(times):
        await asyncio.create_task(work())


async def asyncio_group(times: int) -> None:
    for _ in range(times):
        async with asyncio.TaskGroup() as group:
            group.create_task(work())


async def anyio_group(times: int) -> None:
    for _ in range(times):
        async with anyio.create_task_group() as group:
            group.start_soon(work)


async def aiojobs_spawn(times: int) -> None:
    async with aiojobs.Scheduler() as scheduler:
        for _ in range(times):
            job = await scheduler.spawn(work())
            await job.wait()


# --- with a limit of ten seconds


async def ours_limited(times: int) -> None:
    for _ in range(times):
        await calloff.start(work(), timeout=10)


async def create_task_limited(times: int) -> None:
    for _ in range(times):
        async with asyncio.timeout(10):
            await asyncio.create_task(work())


async def anyio_limited(times: int) -> None:
    for _ in range(times):
        with anyio.fail_after(10):
            async with anyio.create_task_group() as group:
                group.start_soon(work)


async def aiojobs_limited(times: int) -> None:
    async with aiojobs.Scheduler() as scheduler:
        for _ in range(times):
            job = await scheduler.spawn(work())
            await job.wait(timeout=10)


# --- many in one group


async def ours_many(times: int) -> None:
    async with calloff.group() as group:
        for _ in range(times):
            group.start(work())


async def asyncio_many(times: int) -> None:
    async with asyncio.TaskGroup() as group:
        for _ in range(times):
            group.create_task(work())


async def anyio_many(times: int) -> None:
    async with anyio.create_task_group() as group:
        for _ in range(times):
            group.start_soon(work)


async def aiojobs_many(times: int) -> None:
    async with aiojobs.Scheduler(limit=None) as scheduler:
        for _ in range(times):
            await scheduler.spawn(work())
        await scheduler.wait_and_close()


ONE = {
    "calloff.start": ours,
    "create_task": create_task,
    "asyncio.TaskGroup": asyncio_group,
    "anyio task group": anyio_group,
    "aiojobs": aiojobs_spawn,
}
LIMITED = {
    "calloff.start(timeout=10)": ours_limited,
    "asyncio.timeout + create_task": create_task_limited,
    "anyio.fail_after + task group": anyio_limited,
    "aiojobs": aiojobs_limited,
}
MANY = {
    "calloff.group": ours_many,
    "asyncio.TaskGroup": asyncio_many,
    "anyio task group": anyio_many,
    "aiojobs": aiojobs_many,
}


def run(quick: bool) -> list[Row]:
    rounds = 40 if quick else 150
    one = take_turns(ONE, 300, rounds)
    limited = take_turns(LIMITED, 300, rounds)
    many = take_turns(MANY, 1000, rounds // 4)
    goals = {
        "create_task": AtMost(1.8),
        "asyncio.TaskGroup": None,
        "anyio task group": Below(),
        "aiojobs": Below(),
    }
    return [
        *compare("start + await", "us", one, "calloff.start", goals),
        *compare("start + await", "us", limited, "calloff.start(timeout=10)", dict.fromkeys(list(LIMITED)[1:])),
        *compare("each of 1,000", "us", many, "calloff.group", dict.fromkeys(list(MANY)[1:])),
    ]
