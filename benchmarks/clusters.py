"""Functions on other machines: what a call and an item of a map cost, how long a look takes, and how long it takes from
the request until all of it is dead and told.

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
from contextlib import AsyncExitStack, asynccontextmanager
from importlib.util import find_spec
from pathlib import Path
from time import perf_counter
from typing import Any

import calloff
import calloff.cluster
from calloff._operation.snapshot import History
from calloff.control._records import Query
from calloff.control._rows import Registry

from . import _bodies
from ._rows import AtMost, Figure, Row
from .killing import SCRIPTS, Ask, Victim, announced

ROOT = Path(__file__).parent.parent
SLOTS = 4
READY = 'echo $$ >"$1~"; mv "$1~" "$1";'
#: milliseconds: start and result, and to death; each second: three hundred at once
GOALS = {"local": (0.5, 15, None), "ssh": (2.5, 15, 1500), "ray": (4, 20, 600), "dask": (3, 15, 300)}
#: milliseconds of a look; an item of a map by a task of the engine
LOOK, ITEM = 20, 0.1
LOOKS = ("where()", "a listing of ps")
ITEMS = 10_000
_MANY = "10,000 items that do nothing, each"

Start = Callable[[Victim, str], Awaitable[Ask]]
Many = Callable[[range], Awaitable[object]]


class Contender:
    """One way to run something elsewhere; not each has one for many items."""

    #: seconds after which a victim that lives is given up, and killed
    patience = 5.0

    def __init__(self, call: Callable[[], Awaitable[object]], start: Start, many: Many | None = None) -> None:
        self.call, self.start, self.many = call, start, many


class Ours(Contender):
    """That of calloff."""

    def __init__(self, cluster: calloff.cluster.Cluster) -> None:
        self.cluster = cluster
        super().__init__(lambda: calloff.call(cluster.process(_bodies.nothing)), self._begin, self._map)

    async def _begin(self, victim: Victim, path: str) -> Ask:
        operation = calloff.start(self.cluster.process(victim, path))
        return lambda: operation.stop(grace=0)

    async def _map(self, items: range) -> None:
        outcomes = await calloff.map(_bodies.same, items, place=self.cluster, jobs=2 * SLOTS)
        assert all(isinstance(outcome, calloff.Completed) for outcome in outcomes)

    async def looked_at(self, times: int) -> dict[str, list[float]]:
        """Milliseconds until it is known where a function is, and until ps has the row of it."""
        history = History(10)
        history.open()
        registry = Registry(history, lambda: ())
        with tempfile.TemporaryDirectory() as folder:
            path = os.path.join(folder, "ready")
            operation = calloff.start(self.cluster.process(_bodies.sleeping, path), grace=0)
            await announced(path)
            looks: tuple[Callable[[], object], ...] = (operation.where, lambda: registry.listing(Query()))
            taken: dict[str, list[float]] = {name: [] for name in LOOKS}
            for _ in range(times):
                for name, look in zip(LOOKS, looks, strict=True):
                    began = perf_counter()
                    await asyncio.to_thread(look)
                    taken[name].append((perf_counter() - began) * 1e3)
            assert "sleep" in operation.where()[-1].source
            await operation.stop()
        history.close()
        return taken


@asynccontextmanager
async def locally() -> AsyncIterator[dict[str, Contender]]:
    async with calloff.cluster.local(2, slots=SLOTS // 2) as cluster:
        yield {"calloff": Ours(cluster)}


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

            yield {"calloff": Ours(cluster), "plain ssh": Contender(run_true, start)}


@asynccontextmanager
async def on_dask() -> AsyncIterator[dict[str, Contender]]:
    import distributed

    options: dict[str, Any] = {"processes": True, "dashboard_address": None, "asynchronous": True}
    async with (
        distributed.LocalCluster(n_workers=2, threads_per_worker=SLOTS // 2, **options) as engine,
        distributed.Client(engine, asynchronous=True) as client,
        calloff.cluster.dask(engine.scheduler_address) as cluster,
        AsyncExitStack() as own,
    ):

        async def start(victim: Victim, path: str) -> Ask:
            # a cluster of its own for each: after a restart that had something to kill, not all workers come back
            await own.aclose()
            crowd = await own.enter_async_context(distributed.LocalCluster(n_workers=1, **options))
            user = await own.enter_async_context(distributed.Client(crowd, asynchronous=True))
            future = user.submit(victim, path, pure=False, retries=0)

            async def ask() -> None:
                await future.cancel()
                await user.restart(timeout=30)

            return ask

        async def many(items: range) -> None:
            await client.gather(client.map(_bodies.same, items, pure=False))

        restart = Contender(lambda: client.submit(_bodies.nothing, pure=False), start, many)
        restart.patience = 15.0  # it takes more than five, and is not to be helped
        yield {"calloff": Ours(cluster), "client.restart()": restart}


@asynccontextmanager
async def on_ray() -> AsyncIterator[dict[str, Contender]]:
    import ray

    ray.init(num_cpus=2 * SLOTS, include_dashboard=False, log_to_driver=False, logging_level="ERROR")
    try:
        nothing = ray.remote(max_retries=0)(_bodies.nothing)
        same = ray.remote(max_retries=0)(_bodies.same)
        async with calloff.cluster.ray(slots=SLOTS) as cluster:

            async def start(victim: Victim, path: str) -> Ask:
                task = ray.remote(max_retries=0)(victim).remote(path)

                async def ask() -> None:
                    ray.cancel(task, force=True)
                    await asyncio.wait([asyncio.ensure_future(_settled(task))])

                return ask

            async def many(items: range) -> None:
                await asyncio.gather(*(same.remote(item) for item in items))

            yield {"calloff": Ours(cluster), "ray.cancel(force=True)": Contender(nothing.remote, start, many)}
    finally:
        ray.shutdown()


async def _settled(task: Any) -> None:
    try:
        await task
    except Exception:  # that it was cancelled
        pass


async def _told(contender: Contender, victim: Victim) -> tuple[float, float]:
    """Milliseconds from the request until it was told, and until everything is dead."""
    with tempfile.TemporaryDirectory() as folder:
        path = os.path.join(folder, "ready")
        ask = await contender.start(victim, path)
        observer = await announced(path)
        loop = asyncio.get_running_loop()
        await loop.run_in_executor(None, int)
        began = perf_counter()
        gone = loop.run_in_executor(None, observer.gone, contender.patience)
        asked = asyncio.ensure_future(ask())
        await asyncio.wait([asked], timeout=30)
        told = perf_counter() - began
        await gone
        verdict = asked.result() if asked.done() and asked.exception() is None else None
        if isinstance(verdict, calloff.Cancelled) and verdict.report.rung is calloff.Rung.ASKED:
            return await _told(contender, victim)  # it obeyed before force came: nothing had to die
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


async def _an_item(many: Many) -> float:
    """Milliseconds for each of ten thousand."""
    began = perf_counter()
    await many(range(ITEMS))
    return (perf_counter() - began) * 1e3 / ITEMS


async def measure(where: str, made: Any, quick: bool) -> list[Row]:
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
            if contender.many is not None:
                taken[_MANY] = [await _an_item(contender.many) for _ in range(3)]
            if isinstance(contender, Ours):
                taken |= await contender.looked_at(20 if quick else 100)
            for victim in (_bodies.sleeping, _bodies.c_looping, _bodies.daemons):
                both = [await _told(contender, victim) for _ in range(2 if quick else 5)]
                taken[f"{victim.__name__}: told"] = [told for told, _ in both]
                taken[f"{victim.__name__}: dead"] = [dead for _, dead in both]
        for what, samples in figures[our].items():
            mine = Figure(tuple(samples))
            rows.append(Row(f"{where}, {what}: calloff", "ms", mine, goal=_goal(where, what)))
            for peer in peers:
                if what in figures[peer]:
                    goal = AtMost(ITEM) if what == _MANY else None
                    theirs = Figure(tuple(figures[peer][what]))
                    rows.append(Row(f"{where}, {what}", "ms", mine, peer, theirs, goal))
    return rows


def _goal(where: str, what: str) -> AtMost | None:
    """For our figure alone."""
    single, death, rate = GOALS[where]
    if what in LOOKS:
        return AtMost(LOOK)
    if ":" in what:
        return AtMost(death)
    if what.startswith("start"):
        return AtMost(single)
    return AtMost(1e3 / rate) if what.startswith("300") and rate is not None else None


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
