"""Instructions of the program itself, which no busy machine changes: `python -m benchmarks.counted [OTHER/src ...]`.

For functions in processes and commands, on this tree and on others, by callgrind (valgrind has to be installed). A program
is counted twice, once with more turns than the other time, and the difference is that of the turns. The clock by which
looks are renewed is slowed down as much as callgrind slows down the program. What a worker does for a job is counted in a
program that is nothing else (`counted_worker`); what guards do is not.
"""

import os
import re
import subprocess
import sys
import tempfile

HERE = os.path.join(os.path.dirname(os.path.dirname(os.path.abspath(__file__))), "src")
#: what is counted, and how many more turns the second time
LINES = {
    "one round trip": ("trips", 300),
    "one of 500 at once": ("many", 1000),
    "an item of a map, one by one": ("singly", 300),
    "a command": ("commands", 60),
    "a job in its worker": ("worker", 1000),
}
PROGRAM = """
import asyncio, sys, time, calloff

async def trips(times):
    for _ in range(times):
        await calloff.call(calloff.process(abs, -1))

async def many(times):
    for _ in range(times // 500):
        await asyncio.gather(*(calloff.call(calloff.process(abs, -1)) for _ in range(500)))

async def singly(times):
    async with calloff.map(abs, range(times), place=calloff.process, batch=1, jobs=2) as results:
        async for _ in results:
            pass

async def commands(times):
    for _ in range(times):
        await calloff.call(calloff.command("true"))

async def main(what, times):
    calloff.process.configure(size=2, spares=0)
    try:
        from calloff._places import standing
    except ImportError:  # a tree of before
        pass
    else:
        standing.monotonic = lambda: time.monotonic() / 60
    if what != commands:
        await trips(60)
    await what(times)

asyncio.run(main(globals()[sys.argv[1]], int(sys.argv[2])))
"""


def count(source: str, what: str, times: int) -> int:
    """Instructions of one run."""
    with tempfile.TemporaryDirectory() as folder:
        env = {**os.environ, "PYTHONPATH": source, "PYTHONHASHSEED": "0"}
        program = (
            [os.path.join(os.path.dirname(__file__), "counted_worker.py")] if what == "worker" else ["-c", PROGRAM]
        )
        line = ["valgrind", "--tool=callgrind", f"--callgrind-out-file={folder}/out", sys.executable, *program]
        done = subprocess.run([*line, what, str(times)], env=env, capture_output=True, text=True, check=True)
    found = re.search(r"Collected : (\d+)", done.stderr)
    assert found is not None
    return int(found[1])


def main() -> None:
    """Print a line for each figure, with a column for each tree."""
    sources = [*sys.argv[1:], HERE]
    for source in sources:  # else what is counted first compiles it
        subprocess.run([sys.executable, "-m", "compileall", "-q", source], check=False)
    for name, (what, more) in LINES.items():
        found = []
        for source in sources:
            try:
                first = 500 if what == "many" else more // 3
                found.append(f"{(count(source, what, first + more) - count(source, what, first)) // more:12,}")
            except subprocess.CalledProcessError:
                found.append(f"{'-':>12}")
        print(f"{name:30}", *found, flush=True)


if __name__ == "__main__":
    main()
