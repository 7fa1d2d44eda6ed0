"""From the request to the confirmed death of everything that a worker process or a command has started.

Each victim says who has to be dead before the clock starts, and an observer of our own, the kernel's process handles,
says when they all are: neither calloff nor a peer is believed. What is alive after two seconds counts as two seconds
and is killed by the benchmark; whoever needs that twice is not tried again.
"""

import asyncio
import os
import select
import signal
import tempfile
import warnings
from collections.abc import Awaitable, Callable, Iterable
from functools import partial
from pathlib import Path
from time import perf_counter
from typing import Any

import anyio
import anyio.to_process
import pebble

import calloff

from . import _bodies
from ._rows import AtMost, Figure, Row

Ask = Callable[[], Awaitable[object]]
Victim = Callable[[str], Any]
#: starts a victim; returns how to ask for its end, at once and by force
Place = Callable[[Victim, str], Awaitable[Ask]]

PATIENCE = 2.0


class Observer:
    """Watches processes by their handles, which can't be mistaken for another process of the same number."""

    def __init__(self, pids: Iterable[int]) -> None:
        self.alive = {os.pidfd_open(pid): pid for pid in pids}

    def gone(self, patience: float) -> bool:
        """Wait until all of them are dead; after `patience` seconds kill the rest."""
        poll = select.poll()
        for handle in self.alive:
            poll.register(handle, select.POLLIN)
        end = perf_counter() + patience
        while self.alive and (left := end - perf_counter()) > 0:
            for handle, _ in poll.poll(left * 1e3):
                poll.unregister(handle)
                os.close(handle)
                del self.alive[handle]
        obeyed = not self.alive
        for handle in self.alive:
            signal.pidfd_send_signal(handle, signal.SIGKILL)
            os.close(handle)
        self.alive.clear()
        return obeyed


async def announced(path: str) -> Observer:
    """The processes that have to be dead, as soon as the victim has told."""
    async with asyncio.timeout(30):
        while not os.path.exists(path):
            await asyncio.sleep(0.002)
    return Observer(map(int, Path(path).read_text(encoding="ascii").split()))


async def ask_to_death(place: Place, victim: Victim) -> float:
    """Milliseconds from the request until everything is dead."""
    with tempfile.TemporaryDirectory() as folder:
        path = os.path.join(folder, "ready")
        ask = await place(victim, path)
        observer = await announced(path)
        loop = asyncio.get_running_loop()
        await loop.run_in_executor(None, int)  # the observer's thread exists: to start it would hold up the asking
        began = perf_counter()
        asked = asyncio.ensure_future(ask())
        await asyncio.sleep(0)
        gone = loop.run_in_executor(None, observer.gone, PATIENCE)
        await gone
        took = perf_counter() - began
        await asyncio.wait([asked], timeout=PATIENCE)
        verdict = asked.result() if asked.done() else None
        if isinstance(verdict, calloff.Cancelled) and verdict.report.rung is calloff.Rung.ASKED:
            return await ask_to_death(place, victim)  # it obeyed before force came: nothing had to die
        return took * 1e3


# --- places


async def in_calloff(victim: Victim, path: str) -> Ask:
    operation = calloff.start(calloff.process(victim, path))
    return lambda: operation.stop(grace=0)


async def in_pebble(pool: pebble.ProcessPool, victim: Victim, path: str) -> Ask:
    future = pool.schedule(victim, args=(path,))

    async def ask() -> None:
        future.cancel()

    return ask


async def in_anyio(victim: Victim, path: str) -> Ask:
    call = asyncio.create_task(anyio.to_process.run_sync(partial(victim, path), cancellable=True))

    async def ask() -> None:
        call.cancel()
        await asyncio.wait([call])

    return ask


async def our_command(victim: Victim, path: str) -> Ask:
    operation = calloff.start(calloff.command("sh", "-c", SCRIPTS[victim], "sh", path, check=False))
    return lambda: operation.stop(grace=0)


async def subprocess_exec(victim: Victim, path: str) -> Ask:
    program = await asyncio.create_subprocess_exec("sh", "-c", SCRIPTS[victim], "sh", path)

    async def ask() -> None:
        program.kill()
        await program.wait()

    return ask


SCRIPTS: dict[Victim, str] = {
    _bodies.sleeping: 'echo $$ >"$1~"; mv "$1~" "$1"; exec sleep 60',
    _bodies.ignoring: 'trap "" TERM INT; echo $$ >"$1~"; mv "$1~" "$1"; while :; do sleep 60; done',
    _bodies.daemons: (
        'sleep 60 & a=$!; setsid sleep 60 & b=$!; setsid sleep 60 & echo $$ $a $b $! >"$1~"; mv "$1~" "$1"; wait'
    ),
}


# --- the rest


async def twenty_at_once() -> float:
    """Milliseconds until twenty that ignore SIGTERM are dead, asked together, with one second of grace."""
    with tempfile.TemporaryDirectory() as folder:
        paths = [os.path.join(folder, str(number)) for number in range(20)]
        operations = [calloff.start(calloff.process(_bodies.ignoring, path), grace=1) for path in paths]
        observers = [await announced(path) for path in paths]
        began = perf_counter()
        stops = asyncio.gather(*(operation.stop() for operation in operations))
        await asyncio.sleep(0)
        everyone = Observer(())
        for observer in observers:
            everyone.alive |= observer.alive
        await asyncio.get_running_loop().run_in_executor(None, everyone.gone, 10)
        took = perf_counter() - began
        await stops
        return took * 1e3


async def spare_ready() -> None:
    """The pool has had time to make up for the worker that was taken."""
    async with asyncio.timeout(30):
        while not calloff.process.counts().idle:
            await asyncio.sleep(0.002)


async def next_answer() -> float:
    """Milliseconds from a kill to the answer of the next call."""
    with tempfile.TemporaryDirectory() as folder:
        path = os.path.join(folder, "ready")
        operation = calloff.start(calloff.process(_bodies.ignoring, path))
        observer = await announced(path)
        await spare_ready()
        observer.gone(0)  # by the benchmark: the pool finds it dead
        began = perf_counter()
        await calloff.call(calloff.process(_bodies.nothing))
        took = perf_counter() - began
        await operation.outcome()
        return took * 1e3


async def next_after_stop() -> float:
    """The same after a stop by force, from the request."""
    with tempfile.TemporaryDirectory() as folder:
        path = os.path.join(folder, "ready")
        operation = calloff.start(calloff.process(_bodies.ignoring, path))
        observer = await announced(path)
        await spare_ready()
        began = perf_counter()
        operation.cancel(grace=0)
        await operation.outcome()
        await calloff.call(calloff.process(_bodies.nothing))
        took = perf_counter() - began
        observer.gone(PATIENCE)
        return took * 1e3


async def measure_all(quick: bool) -> list[Row]:
    rounds = 5 if quick else 15
    calloff.process.configure(size=20, spares=1)
    rows: list[Row] = []
    pool = pebble.ProcessPool(1)
    try:
        workers: dict[str, Place] = {
            "calloff.process": in_calloff,
            "pebble": partial(in_pebble, pool),
            "anyio.to_process": in_anyio,
        }
        commands: dict[str, Place] = {"calloff.command": our_command, "create_subprocess_exec": subprocess_exec}
        for places, victims in (
            (workers, (_bodies.sleeping, _bodies.c_looping, _bodies.ignoring, _bodies.daemons)),
            (commands, tuple(SCRIPTS)),
        ):
            for victim in victims:
                taken: dict[str, list[float]] = {name: [] for name in places}
                for _ in range(rounds):
                    for name, place in places.items():
                        if len(taken[name]) < 2 or min(taken[name]) < PATIENCE * 1e3:
                            taken[name].append(await ask_to_death(place, victim))
                figures = {name: Figure(tuple(times)) for name, times in taken.items()}
                our, *peers = figures
                name = f"to death, {victim.__name__}: {our}"
                goal = AtMost(10 if victim is _bodies.daemons else 5) if places is workers else None
                rows.append(Row(name, "ms", figures[our], goal=goal))
                rows += [Row(name, "ms", figures[our], peer, figures[peer]) for peer in peers]
    finally:
        pool.stop()
        pool.join()
    alone = {
        "20 ignoring at once, grace=1": (twenty_at_once, 1300, 1 if quick else 3),
        "next answer after a death": (next_answer, 5, rounds),
        "stop by force, then the next answer": (next_after_stop, 10, rounds),
    }
    for name, (once, limit, times) in alone.items():
        rows.append(Row(name, "ms", Figure(tuple([await once() for _ in range(times)])), goal=AtMost(limit)))
    return rows


def run(quick: bool) -> list[Row]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of fork in a process with threads, which some of the peers do
        return asyncio.run(measure_all(quick))
