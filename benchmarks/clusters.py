"""Functions on other machines: what a call costs, and how long it takes from the request until all of it is dead and told.

The engines run on this machine, so that is what they cost by themselves; a network comes on top. Beside calloff stand the
engines' own ways: a task of Ray and ``ray.cancel(force=True)``, a call of Dask and the restart of its worker, a program
over plain SSH and the end of its channel. An observer of our own says when the victim and all below it are dead. Who is not
installed is left out.
"""

import asyncio
import os
import sys
import tempfile
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from importlib.util import find_spec
from pathlib import Path
from time import perf_counter
from typing import Any

import calloff
import calloff.cluster

from . import _bodies
from ._rows import AtMost, Figure, Row
from .killing import SCRIPTS, Ask, Victim, announced

ROOT = Path(__file__).parent.parent
#: seconds after which a victim that lives is given up
PATIENCE = 5.0
SLOTS = 4
READY = 'echo $$ >"$1~"; mv "$1~" "$1";'
#: milliseconds: start and result, and to death; each second: three hundred at once
GOALS = {"local": (0.5, 15, None), "ssh": (2.5, 15, 1500), "ray": (4, 20, 600), "dask": (3, 15, 300)}

Start = Callable[[Victim, str], Awaitable[Ask]]


class Contender:
    """One way to run something elsewhere."""

    def __init__(self, call: Callable[[], Awaitable[object]], start: Start) -> None:
        self.call, self.start = call, start


def on(cluster: calloff.cluster.Cluster) -> Contender:
    async def start(victim: Victim, path: str) -> Ask:
        operation = calloff.start(cluster.process(victim, path))
        return lambda: operation.stop(grace=0)

    return Contender(lambda: calloff.call(cluster.process(_bodies.nothing)), start)


@asynccontextmanager
async def locally() -> AsyncIterator[dict[str, Contender]]:
    async with calloff.cluster.local(1, slots=SLOTS) as cluster:
        yield {"calloff": on(cluster)}


@asynccontextmanager
async def over_ssh() -> AsyncIterator[dict[str, Contender]]:
    import asyncssh

    sys.path.insert(0, str(ROOT / "tests"))
    from cluster.sshd import serving

    python = f"env PYTHONPATH={ROOT} {os.path.realpath(sys.executable)} -s"
    with tempfile.TemporaryDirectory() as folder, serving(Path(folder)) as (host, options):
        name, _, port = host.partition(":")
        node = calloff.cluster.Node(host, SLOTS)
        async with (
            calloff.cluster.ssh([node], python=python, **options) as cluster,
            asyncssh.connect(name, int(port), **options) as connection,
        ):

            async def start(victim: Victim, path: str) -> Ask:
                looping = f'{READY} exec {sys.executable} -c "sum(range(10**12))"'
                script = SCRIPTS.get(victim, looping)
                program = await connection.create_process(f"sh -c '{script}' sh {path}")

                async def ask() -> None:
                    program.kill()
                    program.close()
                    await program.wait_closed()

                return ask

            room = asyncio.Semaphore(8)  # an sshd has ten sessions for a connection

            async def run_true() -> None:
                async with room:
                    await connection.run("true")

            yield {"calloff": on(cluster), "plain ssh": Contender(run_true, start)}


@asynccontextmanager
async def on_dask() -> AsyncIterator[dict[str, Contender]]:
    import distributed

    options: dict[str, Any] = {"processes": True, "dashboard_address": None, "asynchronous": True}
    async with (
        distributed.LocalCluster(n_workers=1, threads_per_worker=SLOTS, **options) as engine,
        distributed.Client(engine, asynchronous=True) as client,
        calloff.cluster.dask(engine.scheduler_address) as cluster,
    ):

        async def start(victim: Victim, path: str) -> Ask:
            future = client.submit(victim, path, pure=False, retries=0)

            async def ask() -> None:
                await future.cancel()
                await client.restart(timeout=30)

            return ask

        yield {
            "calloff": on(cluster),
            "client.restart()": Contender(lambda: client.submit(_bodies.nothing, pure=False), start),
        }


@asynccontextmanager
async def on_ray() -> AsyncIterator[dict[str, Contender]]:
    import ray

    ray.init(num_cpus=2 * SLOTS, include_dashboard=False, log_to_driver=False, logging_level="ERROR")
    try:
        nothing = ray.remote(max_retries=0)(_bodies.nothing)
        async with calloff.cluster.ray(slots=SLOTS) as cluster:

            async def start(victim: Victim, path: str) -> Ask:
                task = ray.remote(max_retries=0)(victim).remote(path)

                async def ask() -> None:
                    ray.cancel(task, force=True)
                    await asyncio.wait([asyncio.ensure_future(_settled(task))])

                return ask

            yield {"calloff": on(cluster), "ray.cancel(force=True)": Contender(nothing.remote, start)}
    finally:
        ray.shutdown()


async def _settled(task: Any) -> None:
    try:
        await task
    except Exception:  # that it was cancelled
        pass


async def _told(start: Start, victim: Victim) -> tuple[float, float]:
    """Milliseconds from the request until it was told, and until everything is dead."""
    with tempfile.TemporaryDirectory() as folder:
        path = os.path.join(folder, "ready")
        ask = await start(victim, path)
        observer = await announced(path)
        loop = asyncio.get_running_loop()
        await loop.run_in_executor(None, int)
        began = perf_counter()
        gone = loop.run_in_executor(None, observer.gone, PATIENCE)
        asked = asyncio.ensure_future(ask())
        await asyncio.wait([asked], timeout=30)
        told = perf_counter() - began
        await gone
        verdict = asked.result() if asked.done() and asked.exception() is None else None
        if isinstance(verdict, calloff.Cancelled) and verdict.report.rung is calloff.Rung.ASKED:
            return await _told(start, victim)  # it obeyed before force came: nothing had to die
        return told * 1e3, (perf_counter() - began) * 1e3


async def _once(call: Callable[[], Awaitable[object]]) -> float:
    began = perf_counter()
    await call()
    return (perf_counter() - began) * 1e3


async def _three_hundred(call: Callable[[], Awaitable[object]]) -> float:
    """Milliseconds for each of them."""

    async def one() -> None:
        await call()

    began = perf_counter()
    await asyncio.gather(*(one() for _ in range(300)))
    return (perf_counter() - began) * 1e3 / 300


async def measure(where: str, made: Any, quick: bool) -> list[Row]:
    single, death, rate = GOALS[where]
    rows: list[Row] = []
    async with made() as contenders:
        our, *peers = contenders
        figures: dict[str, dict[str, list[float]]] = {name: {} for name in contenders}
        for name, contender in contenders.items():
            for _ in range(20):
                await contender.call()
            taken = figures[name]
            taken["start and result"] = [await _once(contender.call) for _ in range(50 if quick else 200)]
            taken["300 at once, each"] = [await _three_hundred(contender.call) for _ in range(2 if quick else 5)]
            for victim in (_bodies.sleeping, _bodies.c_looping, _bodies.daemons):
                both = [await _told(contender.start, victim) for _ in range(2 if quick else 5)]
                taken[f"{victim.__name__}: told"] = [told for told, _ in both]
                taken[f"{victim.__name__}: dead"] = [dead for _, dead in both]
        for what, samples in figures[our].items():
            limit = single if what.startswith("start") else None if rate is None else 1e3 / rate
            goal = AtMost(death) if ":" in what else None if limit is None else AtMost(limit)
            mine = Figure(tuple(samples))
            rows.append(Row(f"{where}, {what}: calloff", "ms", mine, goal=goal))
            rows += [Row(f"{where}, {what}", "ms", mine, peer, Figure(tuple(figures[peer][what]))) for peer in peers]
    return rows


async def measure_all(quick: bool) -> list[Row]:
    rows: list[Row] = []
    for where, made, needs in (
        ("local", locally, "calloff"),
        ("ssh", over_ssh, "asyncssh"),
        ("dask", on_dask, "distributed"),
        ("ray", on_ray, "ray"),
    ):
        if find_spec(needs) is not None:
            rows += await measure(where, made, quick)
        else:
            print(f"clusters: {needs} is not installed, {where} is left out", file=sys.stderr)
    return rows


def run(quick: bool) -> list[Row]:
    os.environ["PYTHONPATH"] = str(ROOT)
    return asyncio.run(measure_all(quick))
