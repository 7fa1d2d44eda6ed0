"""The agent: calloff on another machine, in a process of its own, for one owner at a time.

It runs functions in worker processes of its own machine, as `calloff.process` does, and passes on what they tell. It
decides nothing: the owner has the handle and the ladder, the guards have the deadlines, the killing and the lease. It
never unpickles anything of the functions', so nobody's code holds it up. Its life is the stream to its owner: at the end of
that everything is killed. The messages are in the table of `calloff.cluster`.
"""

import asyncio
import contextlib
import os
import platform
import sys
import time
from collections.abc import Callable
from pickle import PickleBuffer
from typing import Any

from .._child.lease import Lease, now
from .._child.wire import frame
from .._os.fds import copied
from .._places import keepers
from .._places.process.place import process
from .._version import __version__
from . import _leasefile
from ._batchjobs import BatchJob
from ._frames import Frames
from ._jobs import Jobs
from ._stream import Stream

__all__ = ["Agent", "begin", "main"]

#: seconds between two looks of a witness
_LOOK = 0.005


def main(reading: int = 0, writing: int = 1) -> None:
    """Serve the owner at the other end of these files, until that is gone."""
    if writing == 1:  # what functions print is not to be taken for ours
        reading, writing = copied(reading), copied(writing)
        null = os.open(os.devnull, os.O_RDWR)
        os.dup2(null, 0)
        os.dup2(2, 1)
        os.close(null)
    agent = Agent()
    asyncio.run(agent.run(reading, writing))
    keepers.shut_down()
    agent.leave_lease()
    os._exit(0)  # nothing is to hold us up


def begin(file: int) -> None:
    """Go on in a process that is nobody's child and in no terminal's session, and serve the owner."""
    if os.fork():
        os._exit(0)
    os.setsid()
    os.set_inheritable(file, False)
    main(file, file)


class Agent:
    def __init__(self) -> None:
        self.jobs: Jobs = Jobs(self)
        self._frames = Frames()
        self._lapsed = False
        self._do: dict[str, Callable[..., object]] = {
            "welcome": self._welcomed,
            "ask": self.jobs.ask,
            "limit": self.jobs.limit,
            "force": self.jobs.force,
            "look": self.jobs.look,
            "spool": self.jobs.spool,
            "beat": self._beat,
            "witness": self._witness,
        }

    async def run(self, reading: int, writing: int) -> None:
        self.loop = asyncio.get_running_loop()
        self._over: asyncio.Future[None] = self.loop.create_future()
        self.path, self._file = _leasefile.make()
        self.lease = Lease(self._file)
        self.lease.until = now() + 60.0  # until the owner says how long it is to be
        keepers.lease(self._file)
        self._stream = Stream(self.loop, reading, writing, self._heard, lambda why: self._end())
        self.tell("hello", _facts(), self.path, now())
        self._timer = self.loop.call_later(60.0, self._look_at_lease)
        await self._over

    def leave_lease(self) -> None:
        """Remove its file, unless something of ours is still to be seen dead: then a later agent does it."""
        self.lease.close()
        os.close(self._file)
        until = now() + 2.0
        while self.path and not _leasefile.is_free(self.path) and now() < until:
            time.sleep(_LOOK)

    def _end(self) -> None:
        if not self._over.done():
            self._over.set_result(None)

    def tell(self, *meta: Any, data: Any = b"", buffers: list[Any] | None = None) -> None:
        """Send a frame to the owner."""
        self._stream.write(frame(meta, data, [PickleBuffer(each) for each in buffers or ()]))

    def _heard(self, data: bytes) -> None:
        for (kind, *parts), body, buffers in self._frames.feed(data):
            if kind == "start":
                self.jobs.start(*parts, data=body, buffers=buffers)
            elif kind == "batch":
                self.jobs.start(*parts, data=body, buffers=buffers, kind=BatchJob)
            elif kind == "bye":
                self._end()
            else:
                self._do[kind](*parts)

    # --- the owner's life

    def _welcomed(self, until: float, slots: int, path: list[str] | None, cwd: str | None) -> None:
        if path is not None:
            sys.path[:] = path
        if cwd is not None:
            with contextlib.suppress(OSError):
                os.chdir(cwd)
        process.configure(size=slots, spares=1)
        self.lease.until = until
        self._look_at_lease()

    def _beat(self, number: int, until: float) -> None:
        """The owner lives, and is believed to until then."""
        if not self._lapsed and self.lease.left() <= 0:
            self._lapse()
        if not self._lapsed:
            self.lease.until = max(self.lease.until, until)
            self.tell("beat", number, now())

    def _look_at_lease(self) -> None:
        self._timer.cancel()
        left = self.lease.left()
        if left <= 0:
            self._lapse()
        else:
            self._timer = self.loop.call_later(left + 0.001, self._look_at_lease)

    def _lapse(self) -> None:
        """The guards are killing everything; when that is done, and told, this agent has no more use."""
        if self._lapsed:
            return
        self._lapsed = True
        self.jobs.stop_for_lease()
        self.loop.create_task(self._wait_for_end())

    async def _wait_for_end(self) -> None:
        while self.jobs:
            await asyncio.sleep(_LOOK)
        self.tell("over")
        await asyncio.sleep(1.0)
        self._end()

    def is_over(self) -> bool:
        """Whether the owner is given up."""
        return self._lapsed or self.lease.left() <= 0

    # --- for another agent of this machine

    def _witness(self, path: str, patience: float) -> None:
        self.loop.create_task(self._see_gone(path, patience))

    async def _see_gone(self, path: str, patience: float) -> None:
        """Whether nothing of that agent lives any more."""
        until = now() + patience
        gone = False
        while not (gone := await self.loop.run_in_executor(None, _leasefile.is_free, path)) and now() < until:
            await asyncio.sleep(_LOOK)
        self.tell("witnessed", path, gone)


def _facts() -> dict[str, Any]:
    """What the owner wants to know of this machine and its Python."""
    return {
        "calloff": __version__,
        "python": platform.python_version(),
        "implementation": sys.implementation.name,
        "host": platform.node(),
        "machine": _leasefile.machine(),
        "pid": os.getpid(),
        "cpus": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1,
    }


if __name__ == "__main__":
    main(*map(int, sys.argv[1:]))
