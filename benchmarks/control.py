"""Seeing what runs: what it costs a program to be seen, and how long somebody waits who looks.

The programs that are looked at are processes of their own, with sockets in a directory of their own.
"""

import asyncio
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory

import calloff
from calloff._operation import history
from calloff.control import Client, Query, expose

from ._rounds import interleave
from ._rows import AtMost, Figure, Row, compare

HISTORY = 1000
CALLOFF = "from calloff.cli import main; raise SystemExit(main())"
WATCHED = """
import asyncio, sys, calloff

async def waits():
    await asyncio.sleep(3600)

async def main():
    for number in range(int(sys.argv[1])):
        calloff.start(waits(), name=f"waits-{number}", timeout=7200)
    print("ready", flush=True)
    await asyncio.sleep(3600)

calloff.run(main(), expose=True, grace=0)
"""


# --- what being seen costs, while nobody looks


async def work() -> None: ...


async def unseen(times: int) -> float:
    for _ in range(3 * HISTORY):
        await calloff.start(work())
    began = time.process_time()
    for _ in range(times):
        await calloff.start(work())
    return (time.process_time() - began) / times * 1e6


async def seen(times: int) -> float:
    """With a history that is full and takes its rests by the time that counts, as after the first tenth of a second."""
    with expose(history=HISTORY):
        return await unseen(times)


async def noted(times: int) -> float:
    """As if the endings came one by one: the history takes each of them, not only samples of so many."""
    rest, history._REST = history._REST, 0.0
    try:
        return await seen(times)
    finally:
        history._REST = rest


def being_seen(quick: bool) -> list[Row]:
    contenders = {"exposed": seen, "not exposed": unseen, "noted": noted}
    taken = asyncio.run(interleave(contenders, lambda contender: contender(6000), 40 if quick else 120))
    each = taken.pop("noted")
    return [
        *compare("start + await", "us", taken, "exposed", {"not exposed": AtMost(1.03)}),
        Row("start + await, every ending noted", "us", each, "not exposed", taken["not exposed"]),
    ]


# --- looking


@contextmanager
def watched(processes: int, operations: int) -> Iterator[list[int]]:
    """So many processes with so many operations each; their numbers."""
    started = [
        subprocess.Popen([sys.executable, "-c", WATCHED, str(operations)], stdout=subprocess.PIPE)
        for _ in range(processes)
    ]
    try:
        for process in started:
            assert process.stdout is not None
            if process.stdout.readline() != b"ready\n":
                raise RuntimeError("a watched program did not start")
        yield [process.pid for process in started]
    finally:
        for process in started:
            process.kill()
            process.wait()
            if process.stdout is not None:
                process.stdout.close()


def whole(*arguments: str) -> tuple[float, float]:
    """Milliseconds on the wall and of processor time that a whole process of the command line takes."""
    began = time.perf_counter()
    null = os.open(os.devnull, os.O_WRONLY)
    child = os.posix_spawn(
        sys.executable,
        [sys.executable, *arguments],
        os.environ,
        file_actions=[(os.POSIX_SPAWN_DUP2, null, n) for n in (1, 2)],
    )
    os.close(null)
    _, status, used = os.wait4(child, 0)
    if status:
        raise RuntimeError(f"{arguments} failed")
    return (time.perf_counter() - began) * 1e3, (used.ru_utime + used.ru_stime) * 1e3


def listing(quick: bool) -> list[Row]:
    with watched(20, 500):
        first = whole("-c", CALLOFF, "ps", "--json")[0]
        taken = [whole("-c", CALLOFF, "ps", "--json")[0] for _ in range(5 if quick else 15)]
    name = "ps --json of 10,000 operations in 20 processes"
    return [
        Row(name, "ms", Figure(tuple(taken)), goal=AtMost(500)),
        Row(f"{name}, the first time", "ms", Figure((first,)), goal=None),
    ]


def nothing(quick: bool) -> list[Row]:
    figures: dict[str, list[float]] = {"calloff ps": [], "python -I -c pass": []}
    commands = {"calloff ps": ("-c", CALLOFF, "ps"), "python -I -c pass": ("-I", "-c", "pass")}
    for command in commands.values():
        whole(*command)
    for _ in range(20 if quick else 60):
        for each, command in commands.items():
            figures[each].append(whole(*command)[1])
    taken = {each: Figure(tuple(samples)) for each, samples in figures.items()}
    return compare("nothing runs", "ms", taken, "calloff ps", {"python -I -c pass": AtMost(3)})


# --- being looked at


def being_watched(quick: bool) -> list[Row]:
    """What a screen that is drawn once a second costs a program of ten thousand operations: its share of a core."""
    seconds = 5 if quick else 20

    async def look(pid: int) -> list[float]:
        shares: list[float] = []
        async with Client() as client:
            await client.list(Query(limit=50))
            for _ in range(seconds):
                before, began = processor_time(pid), time.perf_counter()
                overview = await client.list(Query(limit=50))
                assert overview.total == 10_001, overview.total
                await asyncio.sleep(1 - (time.perf_counter() - began))
                shares.append((processor_time(pid) - before) * 100)
        # the clock of the processor ticks a hundred times a second: only the mean over all is worth something
        return [sum(shares) / len(shares)]

    with watched(1, 10_000) as (pid,):
        taken = [median(asyncio.run(look(pid))) for _ in range(1 if quick else 3)]
    name = "a program of 10,000 operations, looked at once a second"
    return [Row(name, "% of a core", Figure(tuple(taken)), goal=AtMost(2))]


def processor_time(pid: int) -> float:
    """Seconds."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def run(quick: bool) -> list[Row]:
    with TemporaryDirectory() as folder:
        os.environ["CALLOFF_SOCKETS"] = str(Path(folder) / "sockets")
        try:
            return [*being_seen(quick), *nothing(quick), *listing(quick), *being_watched(quick)]
        finally:
            del os.environ["CALLOFF_SOCKETS"]
