"""Workers that are kept warm, with a spare one, so that nobody waits for a fork.

One pool per event loop; the idle workers of a loop that was closed go over to the next one. A slot is taken from the
moment a function is sent to a worker until its verdict is known, so a worker that is being killed still counts.
"""

import os
from asyncio import AbstractEventLoop, TimerHandle
from collections import deque
from contextvars import Context
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

from ..._words.errors import CalloffError
from .. import keepers
from .worker import Worker

if TYPE_CHECKING:
    from .body import ProcessBody

__all__ = ["SETTINGS", "Pool", "ProcessCounts", "Settings", "pool_of", "pools"]

#: seconds until a spare is made
_PAUSE = 0.01


@dataclass
class Settings:
    """Of all pools.

    Attributes:
        size: how many functions may run at a time, per event loop.
        spares: how many idle workers are kept beyond those that run.
        preload: modules that a worker imports before it takes work.
        max_jobs: after how many functions a worker is replaced; ``None`` for never.
    """

    size: int = max(4, os.cpu_count() or 1)
    spares: int = 1
    preload: tuple[str, ...] = ()
    max_jobs: int | None = None


SETTINGS = Settings()


class ProcessCounts(NamedTuple):
    """What `calloff.process.counts` tells.

    Attributes:
        running: workers that run a function now, or are being killed.
        idle: workers that are ready and wait for one.
        waiting: functions that wait for a worker.
    """

    running: int
    idle: int
    waiting: int


class Pool:
    """The workers of one event loop."""

    def __init__(self, loop: AbstractEventLoop) -> None:
        self.loop = loop
        self.workers: set[Worker] = set()
        self.idle: list[Worker] = []
        self.waiting: deque[ProcessBody] = deque()
        self._refill_timer: TimerHandle | None = None

    @property
    def busy(self) -> int:
        """How many slots are taken."""
        return len(self.workers) - len(self.idle)

    def submit(self, body: "ProcessBody") -> None:
        """Run it now or when it is its turn."""
        if self.waiting or len(self.workers) - len(self.idle) >= SETTINGS.size:
            self.waiting.append(body)
            return
        worker = self._idle(body) or self._spawn()
        worker.take(body)
        if worker.ready and self._refill_timer is None:
            self._refill_later()

    def prepared(self) -> None:
        """A worker has become ready: the next one may be made, if there is to be one."""
        self._refill_later()

    def withdraw(self, body: "ProcessBody") -> None:
        """It shall not run: it waits for a worker, or for one to become ready."""
        if not any(worker.give_back(body) for worker in tuple(self.workers)):
            self.waiting.remove(body)

    def release(self, worker: Worker) -> None:
        """The worker is free again."""
        if worker.spoiled or (SETTINGS.max_jobs is not None and worker.jobs >= SETTINGS.max_jobs):
            self.workers.discard(worker)
            worker.retire()
            self._feed()
        elif (
            self.waiting
            and len(self.workers) - len(self.idle) <= SETTINGS.size
            and worker.guarded.is_like_us()
            and ((stamp := self.waiting[0].stamp) is None or not worker.is_stale(stamp))
        ):
            worker.take(self.waiting.popleft())
        else:
            self.idle.append(worker)
            if self.waiting:
                self._feed()

    def _idle(self, body: "ProcessBody") -> Worker | None:
        """A worker that waits for work and is fit for this function; those that are not are let go."""
        stamp = body.stamp
        while self.idle:
            worker = self.idle.pop()
            if worker.guarded.is_like_us() and (stamp is None or not worker.is_stale(stamp)):
                return worker
            self.workers.discard(worker)
            worker.retire()
        return None

    def lost(self, worker: Worker) -> None:
        """The worker is dead; its slot is free."""
        self.workers.discard(worker)
        if worker in self.idle:
            self.idle.remove(worker)
        else:
            self._feed()
            self._refill_later()

    def _feed(self) -> None:
        while self.waiting and self.busy < SETTINGS.size:
            body = self.waiting.popleft()
            try:
                worker = self._idle(body) or self._spawn()
            except (OSError, CalloffError) as error:
                body.failed(error)
            else:
                worker.take(body)

    def _refill_later(self) -> None:
        """Not now: a fork would take the processor from those that work or are being buried."""
        if self._refill_timer is None and self._is_short():
            self._refill_timer = Context().run(self.loop.call_later, _PAUSE, self._refill)

    def hold_back(self) -> None:
        """A worker is being stopped: spares are made after that."""
        if self._refill_timer is not None:
            self._refill_timer.cancel()
            self._refill_timer = None
            self._refill_later()

    def _is_short(self) -> bool:
        return len(self.idle) < SETTINGS.spares and len(self.workers) < SETTINGS.size + SETTINGS.spares

    def _refill(self) -> None:
        """Have the spares ready, also beyond the size: they take the place of those that are killed."""
        self._refill_timer = None
        while self._is_short():
            try:
                self.idle.insert(0, self._spawn())
            except (OSError, CalloffError):  # no files or processes left; whoever needs the worker will hear of it
                return

    def _spawn(self) -> Worker:
        worker = Worker(self, SETTINGS.preload)
        self.workers.add(worker)
        return worker

    def restart(self) -> None:
        """Let go of the idle workers, and of the others when they have ended what they do."""
        for worker in tuple(self.workers):
            worker.spoiled = True
        for worker in self.idle:
            self.workers.discard(worker)
            worker.retire()
        self.idle.clear()
        self._feed()
        self._refill_later()

    def close(self, heir: "Pool | None" = None) -> None:
        """The loop is closed: idle workers go to the heir, whatever runs is killed."""
        for worker in tuple(self.workers):
            if heir is not None and worker in self.idle:
                worker.move(heir)
                heir.workers.add(worker)
                heir.idle.append(worker)
            else:
                worker.retire()
        self.workers.clear()
        self.idle.clear()
        self.waiting.clear()


pools: dict[AbstractEventLoop, Pool] = {}


def pool_of(loop: AbstractEventLoop) -> Pool:
    """The pool of `loop`, made at the first call."""
    try:
        return pools[loop]
    except KeyError:
        pass
    pool = Pool(loop)
    for closed in [known for known in list(pools) if known.is_closed()]:
        former = pools.pop(closed, None)
        if former is not None:
            former.close(pool)
    return pools.setdefault(loop, pool)


keepers.on_fork(pools.clear)
