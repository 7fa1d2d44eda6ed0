"""Workers are started one by one, and awaited without a word for those that have not ended."""

import asyncio


async def work(number: int) -> int:
    await asyncio.sleep(0.4 * (number - 1) + 0.001)
    return number


async def buggy() -> list[int]:
    tasks = [asyncio.create_task(work(number)) for number in (1, 2)]
    return [await task for task in tasks]  # unsafe: early: tasks


async def mended() -> list[int]:
    async with asyncio.TaskGroup() as group:
        tasks = [group.create_task(work(number)) for number in (1, 2)]
    return [task.result() for task in tasks]
