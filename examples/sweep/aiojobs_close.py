"""aiojobs 1.4.0: closing a job absorbs the cancel of the one who closes it.

calloff sweep examples/sweep/aiojobs_close.py:close_a_job --setup scheduler --teardown close
"""

import asyncio

import aiojobs


async def scheduler() -> aiojobs.Scheduler:
    return aiojobs.Scheduler()


async def close_a_job(scheduler: aiojobs.Scheduler) -> None:
    job = await scheduler.spawn(asyncio.sleep(60))
    await job.close()


async def close(scheduler: aiojobs.Scheduler) -> None:
    await scheduler.close()
