"""Running a program that ends by itself, from inside a program and from the shell; the command line's start-up.

And a thousand of them, four at a time: what `calloff map` and GNU parallel need of the processors for each, with all that
they start.
"""

import asyncio
import os
import resource
import shutil
import subprocess
import sys
from collections.abc import Awaitable, Callable
from time import perf_counter

import calloff
from calloff._os import reaper

from ._alone import take_turns_alone
from ._rounds import interleave, timed
from ._rows import AtMost, Figure, Row, compare


async def ours(times: int) -> None:
    for _ in range(times):
        await calloff.call(calloff.command("true"))


async def create_subprocess_exec(times: int) -> None:
    for _ in range(times):
        await (await asyncio.create_subprocess_exec("true", stdout=-1, stderr=-1)).communicate()


LINES = {
    "calloff timeout 5 true": [sys.executable, "-m", "calloff", "timeout", "5", "true"],
    "python -I -c pass": [sys.executable, "-I", "-c", "pass"],
    "timeout 5 true": [shutil.which("timeout") or "timeout", "5", "true"],
}


async def whole(line: list[str]) -> float:
    began = perf_counter()
    child = os.posix_spawn(line[0], line, {**os.environ, "PYTHONDONTWRITEBYTECODE": ""})
    _, status = os.waitpid(child, 0)
    if status:
        raise RuntimeError(f"{line} failed")
    return (perf_counter() - began) * 1e3


async def measure_all(rounds: int) -> tuple[dict[str, Figure], dict[str, Figure]]:
    inside = {"calloff.command": ours, "create_subprocess_exec": create_subprocess_exec}
    lines = {name: (lambda _, line=line: whole(line)) for name, line in LINES.items()}

    async def once(contender: Callable[[int], Awaitable[float]]) -> float:
        return await contender(1)

    return await interleave(inside, timed(20, perf_counter), rounds), await interleave(lines, once, rounds)


MAPS = {
    "calloff map": [
        sys.executable,
        "-m",
        "calloff",
        "map",
        "--no-progress",
        "--jobs",
        "4",
        "--input",
        "-",
        "--",
        "true",
        "{}",
    ],
    "GNU parallel": ["parallel", "--will-cite", "-j4", "true", "{}"],
}


async def measure(contender: str, count: int) -> dict[str, float]:
    """Milliseconds of the processors for each command, with those of all processes that come to an end on the way."""
    reaper.subreaper()  # whoever loses its parent comes here
    items = "".join(f"{number}\n" for number in range(count))
    subprocess.run(MAPS[contender], input=items, text=True, check=True, stdout=subprocess.DEVNULL)
    while True:
        try:
            os.wait()
        except ChildProcessError:
            break
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return {"processors": (used.ru_utime + used.ru_stime) / count * 1e3}


def of_many(quick: bool) -> list[Row]:
    """A map of commands beside GNU parallel, where that is installed."""
    if not shutil.which("parallel"):
        return []
    taken = take_turns_alone("benchmarks.commands", dict.fromkeys(MAPS, 200 if quick else 1000), 3 if quick else 7)
    figures = {name: found["processors"] for name, found in taken.items()}
    return compare("a command of many", "ms", figures, "calloff map", {"GNU parallel": AtMost(1)})


def run(quick: bool) -> list[Row]:
    inside, lines = asyncio.run(measure_all(10 if quick else 40))
    ours, *peers = lines
    return [
        *compare("run `true`", "us", inside, "calloff.command", {"create_subprocess_exec": None}),
        *compare("from the shell", "ms", lines, ours, {peers[0]: AtMost(2.5), peers[1]: None}),
        *of_many(quick),
    ]
