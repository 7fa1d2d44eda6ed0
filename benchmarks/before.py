"""Functions in processes and commands, before a change and after it: `python -m benchmarks.before OTHER/src [SECONDS]`.

A program of each tree runs, and they take turns of some milliseconds, one waiting while the other works, since the machine
is never the same for long. What is printed of each figure are the medians of both, the median of the ratios *now / before*
of two turns that followed each other, half of which begin with the one tree and half with the other, and how far that
median may be off, by the spread of the ratios.
"""

import json
import os
import subprocess
import sys
from math import sqrt
from statistics import median, quantiles
from time import monotonic

HERE = os.path.join(os.path.dirname(os.path.dirname(os.path.abspath(__file__))), "src")
#: a turn of each, and how many of what is measured it has
TURNS = {"trips": 100, "many": 200, "kills": 3, "commands": 3}
ROUNDS_AT_LEAST, SECONDS = 10, 120.0
PROGRAM = """
import asyncio, json, sys, time, calloff

clock = time.perf_counter

async def trips(times):
    await calloff.call(calloff.process(abs, -1))
    began = clock()
    for _ in range(times):
        await calloff.call(calloff.process(abs, -1))
    return {"one round trip": (clock() - began) / times}

async def many(times):
    await asyncio.gather(*(calloff.call(calloff.process(abs, -1)) for _ in range(50)))  # all workers are there
    await asyncio.sleep(0.1)  # and the spare
    began = clock()
    await asyncio.gather(*(calloff.call(calloff.process(abs, -1)) for _ in range(times)))
    return {"one of many at once": (clock() - began) / times}

async def kills(times):
    found = {"a kill": [], "the next answer after it": []}
    for _ in range(times):
        op = calloff.start(calloff.process(time.sleep, 60), grace=0)
        while op.body.pid is None:
            await asyncio.sleep(0.001)
        await asyncio.sleep(0.05)  # it sleeps by now, and the spare is ready
        began = clock()
        await op.stop(grace=0)
        ended = clock()
        await calloff.call(calloff.process(abs, -1))
        found["a kill"].append(ended - began)
        found["the next answer after it"].append(clock() - ended)
        await asyncio.sleep(0.05)
    return {name: sorted(each)[len(each) // 2] for name, each in found.items()}

async def commands(times):
    began = clock()
    for _ in range(times):
        await calloff.call(calloff.command("true"))
    return {"a command": (clock() - began) / times}

async def main():
    await trips(300)
    await many(300)
    await commands(2)
    print("ready", flush=True)
    for line in sys.stdin:
        what, times = line.split()
        print(json.dumps(await globals()[what](int(times))), flush=True)

asyncio.run(main())
"""


class Tree:
    """A program of one tree."""

    def __init__(self, source: str) -> None:
        env = {**os.environ, "PYTHONPATH": source}
        pipe = subprocess.PIPE
        self._program = subprocess.Popen([sys.executable, "-c", PROGRAM], env=env, stdin=pipe, stdout=pipe, text=True)
        self._read()

    def _read(self) -> str:
        assert self._program.stdout is not None
        line = self._program.stdout.readline()
        if not line:
            raise SystemExit("a program has ended")
        return line

    def measure(self, what: str, times: int) -> dict[str, float]:
        """Seconds of each that a turn measures."""
        assert self._program.stdin is not None
        self._program.stdin.write(f"{what} {times}\n")
        self._program.stdin.flush()
        found: dict[str, float] = json.loads(self._read())
        return found

    def close(self) -> None:
        """No more turns."""
        self._program.communicate()


def main() -> None:
    """Print a line for each figure."""
    trees = [Tree(sys.argv[1]), Tree(HERE)]
    seconds = float(sys.argv[2]) if len(sys.argv) > 2 else SECONDS
    until, rounds = monotonic() + seconds, 0
    found: dict[str, tuple[list[float], list[float]]] = {}
    while rounds < ROUNDS_AT_LEAST or monotonic() < until:
        for what, times in TURNS.items():
            for which in (0, 1) if rounds % 2 else (1, 0):
                for name, value in trees[which].measure(what, times).items():
                    found.setdefault(name, ([], []))[which].append(value * 1e6)
        rounds += 1
    for tree in trees:
        tree.close()
    print(f"{rounds} rounds")
    for name, (before, now) in found.items():
        ratios = [late / early for early, late in zip(before, now, strict=True)]
        low, _, high = quantiles(ratios)
        off = 1.57 * (high - low) / sqrt(rounds)  # where half of the ratios lie apart, of a median
        print(
            f"{name:38}{median(before):9.1f} us before {median(now):9.1f} us now"
            f" {median(ratios):6.3f} ± {off:.3f}, of minima {min(now) / min(before):6.3f}"
        )


if __name__ == "__main__":
    main()
