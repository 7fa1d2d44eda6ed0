"""One function over many items: what an item costs as a coroutine, in ten threads and in two processes.

Coroutines run in fresh interpreters, a hundred in flight: processor time for an item, and by how much memory has grown,
with a million items, too. Processes and threads: processor time for an item, of all processes together, of a function that
does nothing; the start of the workers counts, the import of the libraries does not, and all of them are compiled.
"""

import asyncio
import itertools
import json
import os
import resource
import subprocess
import sys
import warnings
from collections.abc import AsyncIterator, Awaitable, Callable
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from functools import partial
from time import perf_counter, process_time
from typing import Any

import aiometer
import aiostream
import anyio
import joblib
import loky
import mpire
import pebble
import psutil

import calloff

from . import _bodies
from ._alone import take_turns_alone
from ._rounds import interleave
from ._rows import AtMost, Below, Figure, Row, compare

JOBS, WORKERS = 100, 2
_numbers = itertools.count(1)


async def nothing(item: int) -> int:
    return item


# --- coroutines


async def ours(items: range) -> None:
    async with calloff.map(nothing, iter(items), jobs=JOBS, timeout=30) as results:
        async for _ in results:
            pass


async def group_and_queue(items: range, *, limit: bool = False) -> None:
    queue: asyncio.Queue[int | None] = asyncio.Queue(JOBS)

    async def work() -> None:
        while (item := await queue.get()) is not None:
            if limit:
                async with asyncio.timeout(30):
                    await nothing(item)
            else:
                await nothing(item)

    async with asyncio.TaskGroup() as group:
        for _ in range(JOBS):
            group.create_task(work())
        for item in items:
            await queue.put(item)
        for _ in range(JOBS):
            await queue.put(None)


async def by_aiometer(items: range) -> None:
    async with aiometer.amap(nothing, items, max_at_once=JOBS) as results:
        async for _ in results:
            pass


async def by_aiostream(items: range) -> None:
    results: Any = aiostream.stream.map(aiostream.stream.iterate(items), nothing, ordered=False, task_limit=JOBS)
    async with results.stream() as stream:
        async for _ in stream:
            pass


async def by_anyio(items: range) -> None:
    send, receive = anyio.create_memory_object_stream[int](JOBS)
    told, heard = anyio.create_memory_object_stream[int](JOBS)

    async def work(receive: AsyncIterator[int], told: Any) -> None:
        async with told:
            async for item in receive:
                await told.send(await nothing(item))

    async def feed() -> None:
        async with send:
            for item in items:
                await send.send(item)

    async with anyio.create_task_group() as group:
        group.start_soon(feed)
        for _ in range(JOBS):
            group.start_soon(work, receive.clone(), told.clone())
        receive.close()
        told.close()
        async for _ in heard:
            pass


COROUTINES: dict[str, Callable[[range], Awaitable[None]]] = {
    "calloff.map, with a limit each": ours,
    "TaskGroup + queue": group_and_queue,
    "TaskGroup + queue, with asyncio.timeout": partial(group_and_queue, limit=True),
    "aiometer": by_aiometer,
    "anyio streams": by_anyio,
    "aiostream": by_aiostream,
}


async def measure(contender: str, count: int) -> dict[str, float]:
    """For one interpreter: microseconds of processor time for an item, and MiB by which the process has grown."""
    work = COROUTINES[contender]
    await work(range(300))
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    began = process_time()
    await work(range(count))
    took = process_time() - began
    grown = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
    return {"us": took / count * 1e6, "MiB": max(0.1, grown / 1024)}


# --- processes


def by_map(count: int, batch: Any = "auto", fn: Callable[[Any], Any] = _bodies.same) -> None:
    async def main() -> None:
        results = calloff.map(fn, range(count), jobs=WORKERS, place=calloff.process, batch=batch, timeout=30)
        async with results:
            async for _ in results:
                pass

    calloff.run(main())


def by_executor(count: int, chunk: int, fn: Callable[[Any], Any] = _bodies.same) -> None:
    with ProcessPoolExecutor(WORKERS) as pool:
        for _ in pool.map(fn, range(count), chunksize=chunk):
            pass


def by_loky(count: int) -> None:
    for _ in loky.get_reusable_executor(WORKERS).map(_bodies.same, range(count), chunksize=64):
        pass


def by_pebble(count: int) -> None:
    with pebble.ProcessPool(WORKERS) as pool:
        for _ in pool.map(_bodies.same, range(count), chunksize=64, timeout=30).result():
            pass


def by_joblib(count: int) -> None:
    joblib.Parallel(WORKERS)(joblib.delayed(_bodies.same)(item) for item in range(count))


def by_mpire(count: int) -> None:
    with mpire.WorkerPool(WORKERS) as pool:
        for _ in pool.imap_unordered(_bodies.same, range(count), iterable_len=count, task_timeout=30):
            pass


BATCHES: dict[str, Callable[[int], None]] = {
    "calloff.map": by_map,
    "ProcessPoolExecutor, chunks of 64": partial(by_executor, chunk=64),
    "joblib": by_joblib,
    "loky, chunks of 64": by_loky,
    "pebble, chunks of 64": by_pebble,
    "mpire": by_mpire,
}
ONE_BY_ONE: dict[str, Callable[[int], None]] = {
    "calloff.map, batch=1": partial(by_map, batch=1),
    "ProcessPoolExecutor, chunks of 1": partial(by_executor, chunk=1),
}
#: each item takes a millisecond of processor time
WORKING: dict[str, Callable[[int], None]] = {
    "calloff.map, of 1 ms": partial(by_map, fn=_bodies.busy),
    "ProcessPoolExecutor, chunks of 64, of 1 ms": partial(by_executor, chunk=64, fn=_bodies.busy),
}


# --- threads


def in_threads(count: int) -> None:
    async def main() -> None:
        results = calloff.map(_bodies.same, range(count), jobs=10, place=calloff.thread, timeout=30)
        async with results:
            async for _ in results:
                pass

    calloff.run(main())


def by_thread_executor(count: int) -> None:
    with ThreadPoolExecutor(10) as pool:
        for _ in pool.map(_bodies.same, range(count)):
            pass


THREADS: dict[str, Callable[[int], None]] = {
    "calloff.map, in threads": in_threads,
    "ThreadPoolExecutor": by_thread_executor,
}


#: in the environment of whatever belongs to one measurement: calloff's helpers are no children of the program
_MARK = "CALLOFF_BENCHMARK"


def spent() -> float:
    """Seconds of processor time of this process and all that it has started, those that have ended included."""
    total = 0.0
    for process in psutil.process_iter():
        try:
            if process.environ().get(_MARK) != os.environ[_MARK]:
                continue
            times: Any = process.cpu_times()
        except psutil.Error:
            continue
        total += times.user + times.system + times.children_user + times.children_system
    return total


def alone(contender: str, count: int, elapsed: bool) -> float:
    """Microseconds of processor time, or of time, for an item, the start of the workers included."""
    for name in (
        "calloff._api.map",
        "calloff._map.in_processes",
    ):  # loaded by their first use, like what the door names
        __import__(name)
    calloff.run(asyncio.sleep(0))
    began, at = spent(), perf_counter()
    (BATCHES | ONE_BY_ONE | WORKING | THREADS)[contender](count)
    return (perf_counter() - at if elapsed else spent() - began) / count * 1e6


async def in_a_fresh_interpreter(contender: str, count: int, elapsed: bool = False) -> float:
    code = f"from benchmarks.mapping import alone; print(alone({contender!r}, {count}, {elapsed}))"
    command = [sys.executable, "-W", "ignore", "-c", code]
    marked = {**os.environ, _MARK: f"{os.getpid()}.{next(_numbers)}"}
    marked.pop("PYTHONDONTWRITEBYTECODE", None)  # else what is not compiled yet is compiled by every measurement
    answer = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True, timeout=300, env=marked).stdout
    return float(json.loads(answer.splitlines()[-1]))


def run(quick: bool) -> list[Row]:
    os.environ.setdefault("PYTHONWARNINGS", "ignore")
    rounds = 3 if quick else 7
    count = 20_000 if quick else 100_000
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        found = take_turns_alone("benchmarks.mapping", dict.fromkeys(COROUTINES, count), rounds)
        million = take_turns_alone("benchmarks.mapping", {"calloff.map, with a limit each": 1_000_000}, 1)
        costs = {name: figures["us"] for name, figures in found.items()}
        mine, plain, limited, *peers = costs
        goals: dict[str, Any] = {plain: None, limited: AtMost(2.5), **dict.fromkeys(peers, Below())}
        grown = {name: figures["MiB"] for name, figures in found.items()}
        batches, singly, threads, worked = (
            asyncio.run(interleave({n: n for n in names}, partial(in_a_fresh_interpreter, count=many, **how), rounds))
            for names, many, how in (
                (BATCHES, 100_000, {}),
                (ONE_BY_ONE, 5_000, {}),
                (THREADS, count, {}),
                (WORKING, count // 5, {"elapsed": True}),
            )
        )
    both = f"both cores with {WORKERS} workers"
    worked[both] = Figure((1e3 / WORKERS,) * rounds)
    mapped, *others = batches
    aims: dict[str, Any] = dict.fromkeys(others) | {
        "ProcessPoolExecutor, chunks of 64": AtMost(1.2),
        "joblib": AtMost(1.2),
    }
    return [
        *compare(f"{count} coroutines, an item", "us", costs, mine, goals),
        *compare("the same, growth", "MiB", grown, mine, dict.fromkeys([plain, limited, *peers])),
        Row("1000000 coroutines, growth", "MiB", million[mine]["MiB"], goal=AtMost(5)),
        *compare("100000 calls in processes, an item", "us", batches, mapped, aims),
        *compare("one by one in processes, an item", "us", singly, *singly_goals()),
        *compare("1 ms of work in processes, an item", "us", worked, *working_goals(both)),
        *compare(f"{count} calls in threads, an item", "us", threads, "calloff.map, in threads", thread_goals()),
    ]


def singly_goals() -> tuple[str, dict[str, Any]]:
    ours, peer = ONE_BY_ONE
    return ours, {peer: Below()}


def working_goals(both: str) -> tuple[str, dict[str, Any]]:
    """At least 0.95 of what the cores can do is the items' own."""
    ours, peer = WORKING
    return ours, {both: AtMost(1 / 0.95), peer: None}


def thread_goals() -> dict[str, Any]:
    return {"ThreadPoolExecutor": AtMost(2.0)}
