"""A body that blocks the event loop is interrupted where it is, and the other tasks go on.

    python examples/blocked_loop.py
    calloff run --timeout 1 examples/blocked_loop.py:careless     (exit status 124)

Under `asyncio.timeout` nothing can happen before `time.sleep` is over: the loop does not get to run. `calloff.run`
interrupts a blocking call in the main thread (a sleep, a socket read, a lock, a Python loop) once its time is up.
"""

import asyncio
import time

import calloff


async def careless():
    print("Blocking the whole program for a minute...")
    time.sleep(60)


async def main():
    began = time.monotonic()
    op = calloff.start(careless(), timeout=1)
    try:
        await op
    except calloff.TimedOut as error:
        print(error)
    print(f"Ended by {op.report.rung} after {time.monotonic() - began:.0f} s.")
    await asyncio.sleep(0.1)
    print("The event loop is well.")


if __name__ == "__main__":
    calloff.run(main())
