"""Functions in processes of their own: the place for work that must be stoppable, whatever it does.

    python examples/process.py
    calloff run --in process --timeout 1 --grace 1 examples/process.py:deaf     (exit status 137)

When it is asked to stop, `CancelledError` is raised in the function, also inside a call that blocks. After the grace
its process is killed, with everything that it has started.
"""

import os
import subprocess
import time

import calloff


def add(a, b):
    return a + b


def sleepy():
    """A call that blocks: it is interrupted right there, and the clean-up runs."""
    try:
        time.sleep(60)
    finally:
        print("sleepy cleans up", flush=True)


def deaf():
    """One long call in C, and a child: no Python code runs that could hear anything."""
    child = subprocess.Popen(["sleep", "60"])
    calloff.progress(child.pid)
    return sum(range(10**12))


async def main():
    print("2 + 3 =", await calloff.call(calloff.process(add, 2, 3)))
    for function in (sleepy, deaf):
        op = calloff.start(calloff.process(function), timeout=1, grace=3)
        try:
            await op
        except calloff.TimedOut as error:
            print(f"{op.report.rung}: {error}")
    print("The child of deaf is", "still there" if os.path.exists(f"/proc/{op.progress}") else "gone")


if __name__ == "__main__":
    calloff.run(main())
