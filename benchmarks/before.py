"""Functions in processes and commands, before a change and after it: `python -m benchmarks.before OTHER/src`.

The two trees take turns, each in a fresh program, since the machine is never the same for long; what is printed are the
medians, and how many times the figure of before that of now is.
"""

import os
import subprocess
import sys
from statistics import median

ROUNDS = 7
HERE = os.path.join(os.path.dirname(os.path.dirname(os.path.abspath(__file__))), "src")
PROGRAM = """
import asyncio, os, time, calloff

async def timed(name, times, turn):
    began = time.perf_counter()
    await turn(times)
    print(name, (time.perf_counter() - began) / times * 1e6)

async def trips(times):
    for _ in range(times):
        await calloff.call(calloff.process(abs, -1))

async def throughput(times):
    await asyncio.gather(*(calloff.call(calloff.process(abs, -1)) for _ in range(times)))

async def kills(times):
    for _ in range(times):
        op = calloff.start(calloff.process(time.sleep, 60), grace=0)
        while op.body.pid is None:
            await asyncio.sleep(0.001)
        await op.stop(grace=0)

async def commands(times):
    for _ in range(times):
        await calloff.call(calloff.command("true"))

async def main():
    await trips(300)
    await throughput(100)
    await timed("one round trip", 1000, trips)
    await timed("one of many at once", 1000, throughput)
    await timed("a start, a kill, and the next", 20, kills)
    await timed("a command", 50, commands)

asyncio.run(main())
"""


def measure(source: str) -> dict[str, float]:
    """The figures of one tree, in microseconds."""
    env = {**os.environ, "PYTHONPATH": source}
    done = subprocess.run([sys.executable, "-c", PROGRAM], env=env, capture_output=True, text=True, check=True)
    return {name: float(value) for name, _, value in (line.rpartition(" ") for line in done.stdout.splitlines())}


def main() -> None:
    """Print a line for each figure."""
    other = sys.argv[1]
    rounds = [(measure(other), measure(HERE)) for _ in range(ROUNDS)]
    for name in rounds[0][0]:
        before, now = (median(each[which][name] for each in rounds) for which in (0, 1))
        print(f"{name:32}{before:10.0f} us before {now:10.0f} us now {now / before:6.2f}")


if __name__ == "__main__":
    main()
