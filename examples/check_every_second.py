"""Look at a call every second, and call it off when it takes too long.

python examples/check_every_second.py
calloff run examples/check_every_second.py:main
"""

import asyncio

import calloff


async def call_api(message, result=1000, delay=3):
    print(message)
    await asyncio.sleep(delay)
    return result


async def main():
    op = calloff.start(call_api("Calling API...", result=2000, delay=5))
    async for tick in op.watch(every=1):
        print("Task has not completed, checking again in a second")
        if tick.number == 3:
            print("Cancelling the task...")
            op.cancel("took longer than 3 seconds")
    try:
        await op
    except asyncio.CancelledError:
        print("Task has been cancelled.")


if __name__ == "__main__":
    calloff.run(main())
