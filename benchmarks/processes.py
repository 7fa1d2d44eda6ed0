"""Work in worker processes: answers a second, one round trip, a payload, the first answer, and what a worker holds.

Two workers for everybody. This is time on the wall, since several processes have a part in it.
"""

import asyncio
import os
import sys
import warnings
from collections.abc import Awaitable, Callable
from concurrent.futures import Executor, ProcessPoolExecutor
from functools import partial
from time import perf_counter
from typing import Any

import anyio
import anyio.to_process
import loky
import pebble
import psutil

import calloff

from . import _bodies
from ._rounds import interleave, timed
from ._rows import AtMost, Figure, Row, compare

WORKERS = 2
PAYLOAD = bytes(1 << 20)

#: calls a function in a worker
Call = Callable[..., Awaitable[Any]]


def in_executor(executor: Executor) -> Call:
    return partial(asyncio.get_running_loop().run_in_executor, executor)


def in_pebble(pool: pebble.ProcessPool) -> Call:
    return lambda work, *args: asyncio.wrap_future(pool.schedule(work, args=args))


def in_anyio() -> Call:
    limiter = anyio.CapacityLimiter(WORKERS)
    return lambda work, *args: anyio.to_process.run_sync(work, *args, limiter=limiter)


def in_calloff(work: Callable[..., Any], *args: Any) -> Awaitable[Any]:
    return calloff.call(calloff.process(work, *args))


async def at_once(call: Call, times: int) -> None:
    await asyncio.gather(*(call(_bodies.nothing) for _ in range(times)))


async def one_by_one(call: Call, times: int) -> None:
    for _ in range(times):
        await call(_bodies.nothing)


async def loaded(call: Call, times: int) -> None:
    for _ in range(times):
        await call(_bodies.same, PAYLOAD)


async def held(call: Call) -> Figure:
    """MiB that a worker holds and shares with nobody."""
    worker = psutil.Process(await call(_bodies.who))
    return Figure((worker.memory_full_info().uss / 2**20,))


FIRST_ANSWER = {
    "calloff.process": "import asyncio, calloff; asyncio.run(calloff.call(calloff.process(int)))",
    "ProcessPoolExecutor": "from concurrent.futures import ProcessPoolExecutor as P; P(2).submit(int).result()",
    "loky": "import loky; loky.get_reusable_executor(2).submit(int).result()",
    "pebble": "import pebble; p = pebble.ProcessPool(2); p.schedule(int).result(); p.stop(); p.join()",
    "anyio.to_process": "import anyio, anyio.to_process; anyio.run(anyio.to_process.run_sync, int)",
}


async def whole_program(code: str) -> float:
    """Milliseconds from the start of a program to its exit, with one answer from a worker in between."""
    began = perf_counter()
    program = await asyncio.create_subprocess_exec(sys.executable, "-c", code)
    if await program.wait():
        raise RuntimeError(f"{code!r} failed")
    return (perf_counter() - began) * 1e3


async def measure_all(quick: bool) -> list[Row]:
    calloff.process.configure(size=WORKERS, spares=0)
    plain, reusable = ProcessPoolExecutor(WORKERS), loky.get_reusable_executor(WORKERS)
    pool = pebble.ProcessPool(WORKERS)
    try:
        calls: dict[str, Call] = {
            "calloff.process": in_calloff,
            "ProcessPoolExecutor": in_executor(plain),
            "loky": in_executor(reusable),
            "pebble": in_pebble(pool),
            "anyio.to_process": in_anyio(),
        }
        ours, *peers = calls
        informs = dict.fromkeys(peers)

        async def compared(what: Callable[[Call, int], Awaitable[None]], times: int, rounds: int) -> dict[str, Figure]:
            contenders = {name: partial(what, call) for name, call in calls.items()}
            return await interleave(contenders, timed(times, perf_counter), rounds)

        rounds = 5 if quick else 15
        throughput = await compared(at_once, 300, rounds)
        round_trip = await compared(one_by_one, 100, rounds)
        payload = await compared(loaded, 10, rounds)
        memory = {name: await held(call) for name, call in calls.items()}
    finally:
        plain.shutdown()
        reusable.shutdown(kill_workers=True)
        pool.stop()
        pool.join()
    first = await interleave(
        {name: partial(whole_program, code) for name, code in FIRST_ANSWER.items()}, first_of, rounds
    )
    return [
        # at least 0.8 of the throughput is at most 1.25 of the time
        *compare("no-op, 300 at once", "us", throughput, ours, {**informs, "ProcessPoolExecutor": AtMost(1.25)}),
        *compare("no-op, one by one", "us", round_trip, ours, informs),
        *compare("1 MiB there and back", "us", payload, ours, informs),
        *compare("program with one answer", "ms", first, ours, informs),
        *compare("memory of a worker", "MiB", memory, ours, informs),
    ]


async def first_of(program: Callable[[], Awaitable[float]]) -> float:
    return await program()


def run(quick: bool) -> list[Row]:
    os.environ.setdefault("PYTHONWARNINGS", "ignore")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of fork in a process with threads, which some of the peers do
        return asyncio.run(measure_all(quick))
