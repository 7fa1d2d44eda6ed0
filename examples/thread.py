"""Blocking functions in threads: what each step of a stop can do there, and what it can't.

    python examples/thread.py
    calloff run --in thread --timeout 1 examples/thread.py:careful     (exit status 124)

A thread can't be killed. One that calls `calloff.checkpoint` obeys at once; other Python code gets `StopForced` when
its grace is over; what waits for another thread is left behind, and the program ends without it.
"""

import logging
import sys
import threading
import time

import calloff


def careful():
    """Looks now and then whether it is to go on; `checkpoint(60)` is a sleep that a stop ends."""
    while True:
        calloff.checkpoint(60)


def careless():
    """Python code that never looks, and catches every ordinary error."""
    while True:
        try:
            time.sleep(0.01)
        except Exception:
            continue


def deaf():
    """A wait that nothing ends: no Python code runs in which something could be raised."""
    threading.Event().wait()


async def main():
    for function in (careful, careless, deaf):
        op = calloff.start(calloff.thread(function), timeout=1, grace=1.5)
        try:
            await op
        except calloff.TimedOut as error:
            print(f"{op.report.rung}: {error}")
    print("Threads left behind:", calloff.thread.counts().abandoned)


if __name__ == "__main__":
    logging.basicConfig(stream=sys.stdout, format="log: %(message)s")
    calloff.run(main())
