"""Start a call and cancel it at once, because it is not done yet.

python examples/cancel_if_not_done.py
calloff run examples/cancel_if_not_done.py:main
"""

import asyncio

import calloff


async def call_api(message, result=1000, delay=3):
    print(message)
    await asyncio.sleep(delay)
    return result


async def main():
    op = calloff.start(call_api("Calling API...", result=2000, delay=5))
    if not op.done():
        print("Cancelling the task...")
        op.cancel()
    try:
        await op
    except asyncio.CancelledError:
        print("Task has been cancelled.")


if __name__ == "__main__":
    calloff.run(main())
