"""Two programs as one writes them with asyncio, where only two names were replaced.

`asyncio.create_task` became `calloff.start`, `asyncio.run` became `calloff.run`; nothing else was touched.

    python examples/seed_programs_asyncio_style.py
    calloff run examples/seed_programs_asyncio_style.py:check_every_second
"""

import asyncio
from asyncio import CancelledError

import calloff


async def call_api(message, result=1000, delay=3):
    print(message)
    await asyncio.sleep(delay)
    return result


async def cancel_if_not_done():
    task = calloff.start(call_api("Calling API...", result=2000, delay=5))

    if not task.done():
        print("Cancelling the task...")
        task.cancel()

    try:
        await task
    except CancelledError:
        print("Task has been cancelled.")


async def check_every_second():
    task = calloff.start(call_api("Calling API...", result=2000, delay=5))

    time_elapsed = 0
    while not task.done():
        time_elapsed += 1
        await asyncio.sleep(1)
        print("Task has not completed, checking again in a second")
        if time_elapsed == 3:
            print("Cancelling the task...")
            task.cancel()
            break

    try:
        await task
    except CancelledError:
        print("Task has been cancelled.")


if __name__ == "__main__":
    calloff.run(cancel_if_not_done())
    calloff.run(check_every_second())
