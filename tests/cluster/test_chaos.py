"""Operations of all sorts while agents are killed, stopped and cut off at random: each verdict is true, nothing is left.

`CALLOFF_CHAOS` says how many operations (40 by default), `CALLOFF_SEED` repeats a run.
"""

import asyncio
import os
import random
import signal
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

from cluster import bodies
from cluster.nodes import LEASE, SLACK, Wires, opened, until

import calloff
import calloff.cluster
from calloff.cluster import Cluster

COUNT = int(os.environ.get("CALLOFF_CHAOS", "40"))
SEED = int(os.environ.get("CALLOFF_SEED") or time.time_ns() % 10**9)
_AT_ONCE = 8
#: how the words begin by which what sleeps for these tests is known
_SLEEP = f"85{os.getpid()}"


def hold(seconds: float) -> None:
    """The loop that carries the cluster's messages stands still for so long."""
    time.sleep(seconds)


def _is_dead(path: Path, seconds: str) -> bool:
    """The tree that began there, if it did: of one that did not come so far nothing is left either."""
    return not bodies.sleepers(seconds) and not (path.exists() and bodies.alive(int(path.read_text())))


async def _one(cluster: Cluster, rng: random.Random, number: int, folder: Path, told: dict[str, int]) -> None:
    sort = rng.choice(("add", "sleep", "tree", "map"))
    seconds, path = f"{_SLEEP}.{number}", folder / str(number)
    if sort == "map":
        await _map(cluster, rng, path, told)
        return
    grace = rng.choice((0, 0.2))
    op: calloff.Operation[Any]
    if sort == "add":
        op = calloff.start(cluster.process(bodies.add, number, 1), grace=grace)
    elif sort == "sleep":
        op = calloff.start(cluster.process(time.sleep, 600), timeout=rng.uniform(0.05, 1), grace=grace)
    else:
        op = calloff.start(cluster.process(bodies.tree, path, seconds), timeout=rng.uniform(0.2, 1), grace=grace)
    if rng.random() < 0.3:
        await asyncio.sleep(rng.uniform(0, 0.3))
        op.cancel("chaos")
    outcome = await op.outcome()
    told[type(outcome).__name__] = told.get(type(outcome).__name__, 0) + 1
    if isinstance(outcome, calloff.Completed):
        assert sort == "add"
        assert outcome.value == number + 1
    elif isinstance(outcome, calloff.Failed):
        assert isinstance(outcome.error, calloff.WorkerDied), repr(outcome.error)
    if not isinstance(outcome, calloff.Abandoned):
        assert _is_dead(path, seconds), f"{outcome} was told, and it lives"
    else:
        late = LEASE + 1 + SLACK
        await until(lambda: op not in calloff.operations(), "what was abandoned has ended, too", late)
        assert _is_dead(path, seconds), "its late end was told, and it lives"


async def _map(cluster: Cluster, rng: random.Random, path: Path, told: dict[str, int]) -> None:
    """Items in batches: each has one ending, a true one, and none runs twice."""
    items = [(path, number) for number in range(40)]
    outcomes = await calloff.map(bodies.note, items, place=cluster, jobs=2, batch=rng.choice((5, 20)), grace=0.2)
    ran = path.read_text().split() if path.exists() else []
    assert len(ran) == len(set(ran)), "an item has run twice"
    for number, outcome in enumerate(outcomes):
        if isinstance(outcome, calloff.Completed):
            assert outcome.value == number
            assert str(number) in ran
        else:
            assert isinstance(outcome, calloff.Failed), outcome
            assert isinstance(outcome.error, calloff.WorkerDied), repr(outcome.error)
    told["map"] = told.get("map", 0) + 1


async def _faults(cluster: Cluster, wires: Wires, rng: random.Random, count: dict[str, int]) -> None:
    while True:
        await asyncio.sleep(rng.uniform(0.2, 1.5))
        node = rng.randrange(2)
        link = cluster._keeps[node].link
        if link is None:
            continue
        pid, name = int(link.facts["pid"]), link.node.name
        fault = rng.choice(("kill", "stop", "cut", "held there", "held here", "owner", "worker", "tidied"))
        count[fault] = count.get(fault, 0) + 1
        pause = rng.choice((0.3, 0.8, 2.5)) * LEASE
        if fault == "cut":
            wires.cut.add(name)
            await asyncio.sleep(pause)
            wires.cut.discard(name)
            if not link.lost and not link.closing:  # a network would send again; here it is as if the connection broke
                cluster.post(link._ended, "the wire was cut")
        elif fault.startswith("held"):
            (wires.held_there if fault == "held there" else wires.held_here).add(name)
            await asyncio.sleep(pause)
            wires.release(cluster)
        elif fault == "owner":
            cluster.post(hold, pause)
        elif fault == "worker":
            for worker in bodies.workers_of(pid)[:1]:
                with suppress(ProcessLookupError):
                    os.kill(worker, signal.SIGKILL)
        elif fault == "tidied":
            with suppress(OSError):
                os.unlink(link.path)
        else:
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL if fault == "kill" else signal.SIGSTOP)
                if fault == "stop":
                    try:
                        await asyncio.sleep(pause)
                    finally:
                        os.kill(pid, signal.SIGCONT)


def test_chaos(tmp_path: Path) -> None:
    rng = random.Random(SEED)
    print("seed", SEED)
    told: dict[str, int] = {}
    count: dict[str, int] = {}

    async def main() -> None:
        wires = Wires("a", "b")
        async with asyncio.timeout(60 + COUNT), opened(wires) as cluster:
            faults = asyncio.create_task(_faults(cluster, wires, rng, count))
            room = asyncio.Semaphore(_AT_ONCE)

            async def one(number: int) -> None:
                async with room:
                    await _one(cluster, rng, number, tmp_path, told)

            try:
                await asyncio.gather(*(one(number) for number in range(COUNT)))
            finally:
                faults.cancel()
        assert sum(told.values()) == COUNT
        ours = f"{_SLEEP}."
        left = lambda: [word for _, word in bodies.sleeping() if word.startswith(ours)]  # noqa: E731
        await until(lambda: not left(), "nothing is left of any of them", LEASE + 1 + SLACK)

    asyncio.run(main())
    print(told, count)
