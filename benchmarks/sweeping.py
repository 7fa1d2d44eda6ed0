"""What a sweep costs: its time for each time that it has run the function, in process and isolated.

The functions have a hundred awaits each: round trips to an echo server on this machine, timers of a millisecond, and
bare yields to the event loop, which wait for nothing and cost a few microseconds each. A run that is called off half way
makes half of them, and then the function runs again in the same world, where its timers take no time: the awaits that were
made are counted, and a hundred stand for one function, whatever a sweep does in a run. Isolation is a process for each
run. Time on the wall, since those processes are not ours.
"""

import asyncio
import contextlib
import mmap
import subprocess
import sys
from collections.abc import Awaitable, Callable
from time import perf_counter

from calloff.testing import sweep

from ._rows import AtMost, Figure, Row

AWAITS = 100
PORT = 0
#: how many awaits were made, here and in the processes of isolated runs
MADE = memoryview(mmap.mmap(-1, mmap.PAGESIZE)).cast("Q")


async def echo() -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", PORT)
    try:
        for _ in range(AWAITS - 1):
            writer.write(b"x" * 100)
            await reader.readexactly(100)
            MADE[0] += 1
    finally:
        writer.close()


async def timers() -> None:
    for _ in range(AWAITS):
        await asyncio.sleep(0.001)
        MADE[0] += 1


async def yields() -> None:
    for _ in range(AWAITS):
        await asyncio.sleep(0)
        MADE[0] += 1


async def serve() -> None:
    """Send back what comes, until standard input ends. In a process of its own: a sweep sees the threads of its own."""

    async def client(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(ConnectionError):
            while data := await reader.read(4096):
                writer.write(data)
        writer.close()

    server = await asyncio.start_server(client, "127.0.0.1", 0)
    print(server.sockets[0].getsockname()[1], flush=True)
    await asyncio.to_thread(sys.stdin.read)


async def plain(fn: Callable[[], Awaitable[None]], times: int) -> float:
    """Milliseconds for one call."""
    began = perf_counter()
    for _ in range(times):
        await fn()
    return (perf_counter() - began) / times * 1e3


async def swept(fn: Callable[[], Awaitable[None]], cancels: int, isolate: bool) -> tuple[float, float]:
    """Milliseconds for each time that a sweep runs the function, and for each of its runs."""
    MADE[0] = 0
    began = perf_counter()
    report = await sweep(fn, isolate=isolate, phases=("early", "late"), max_runs=cancels)
    if report.verdict != "SAFE":
        raise RuntimeError(f"a benchmark's function is not safe:\n{report}")
    took = (perf_counter() - began) * 1e3
    return took / (MADE[0] / AWAITS), took / report.runs


def run(quick: bool) -> list[Row]:
    global PORT
    command = [sys.executable, "-m", "benchmarks.sweeping"]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as server:
        assert server.stdin is not None
        assert server.stdout is not None
        PORT = int(server.stdout.readline())
        rows = measured(quick)
        server.stdin.close()
    return rows


def measured(quick: bool) -> list[Row]:
    rows: list[Row] = []
    for fn, cancels, goal in ((echo, 60, AtMost(1.5)), (timers, 20, AtMost(1.5)), (yields, 60, None)):
        alone: list[float] = []
        inside: list[tuple[float, float]] = []
        apart: list[tuple[float, float]] = []
        asyncio.run(plain(fn, 3))
        for _ in range(2 if quick else 7):
            alone.append(asyncio.run(plain(fn, 10 if fn is timers else 40)))
            inside.append(asyncio.run(swept(fn, cancels, False)))
            apart.append(asyncio.run(swept(fn, cancels, True)))
        name = f"100 awaits ({fn.__name__})"
        each = Figure(tuple(function for function, _ in inside))
        rows.append(Row(f"{name}, in a sweep in process", "ms", each, "alone", Figure(tuple(alone)), goal))
        added = tuple(both - one for (_, both), (_, one) in zip(apart, inside, strict=True))
        rows.append(Row(f"{name}: isolation adds to a run", "ms", Figure(added), goal=AtMost(10)))
    return rows


if __name__ == "__main__":
    asyncio.run(serve())
