"""Functions in processes of their own: the place for work that must be stoppable, whatever it does.

    python examples/process.py
    calloff run --in process --timeout 1 --grace 1 examples/process.py:deaf     (exit status 137)

When it is asked to stop, `CancelledError` is raised in the function, also inside a call that blocks. After the grace
its process is killed, with everything that it has started.
"""

import contextlib
import os
import subprocess
import time

import calloff


def add(a, b):
    return a + b


def sleepy():
    """A call that blocks; it is interrupted right there, and the clean-up runs."""
    try:
        time.sleep(60)
    finally:
        print("sleepy cleaned up", flush=True)


def deaf():
    """One long call in C, and a child: no Python code runs, so it can't hear anything. It is killed."""
    child = subprocess.Popen(["sleep", "60"])
    calloff.progress(child.pid)
    return sum(range(10**12))


def is_alive(pid):
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, 0)
        return True
    return False


async def main():
    print("2 + 3 =", await calloff.call(calloff.process(add, 2, 3)))
    for function in (sleepy, deaf):
        op = calloff.start(calloff.process(function), timeout=1, grace=0.5)
        outcome = await op.outcome()
        print(f"{function.__name__}: {type(outcome).__name__} by {outcome.report.rung}")
    print("its child is alive:", is_alive(op.progress))


if __name__ == "__main__":
    calloff.run(main())
