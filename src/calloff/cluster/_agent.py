"""The agent: calloff on another machine, in a process of its own, for one owner at a time.

It runs functions in worker processes of its own machine, as `calloff.process` does, and passes on what they tell. It
decides nothing: the owner has the handle and the ladder, the guards have the deadlines, the killing and the lease. It
never unpickles anything of the functions', so nobody's code holds it up. Its life is the stream to its owner: at the end of
that everything is killed. The messages are in the table of `calloff.cluster`.
"""

import asyncio
import contextlib
import fcntl
import mmap
import os
import pickle
import platform
import sys
import tempfile
import time
from collections.abc import Callable
from pickle import PickleBuffer
from typing import Any

from .._child.lease import Lease, now
from .._child.wire import frame
from .._os.fds import copied
from .._places import keepers
from .._places.process.body import ProcessBody
from .._places.process.place import process
from .._version import __version__
from .._words.frame import RawStack, develop
from .._words.place import Sink
from .._words.reason import Kind, Reason
from .._words.ref import Ref
from .._words.report import Rung
from ._frames import Frames
from ._stream import Stream

__all__ = ["LEASES", "begin", "main"]

#: how the files of leases begin that agents leave in a folder which is emptied when the machine starts
LEASES = "calloff-lease-"
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
    agent = _Agent()
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


class _Agent:
    def __init__(self) -> None:
        self.jobs: dict[int, _Job] = {}
        self._early: set[int] = set()
        self._highest = 0
        self._frames = Frames()
        self._lapsed = False
        self._welcome: tuple[Any, ...] | None = None
        self._do: dict[str, Callable[..., object]] = {
            "welcome": self._welcomed,
            "start": self._start,
            "ask": self._ask,
            "limit": self._limit,
            "force": self._force,
            "look": self._look,
            "beat": self._beat,
            "witness": self._witness,
        }

    async def run(self, reading: int, writing: int) -> None:
        self.loop = asyncio.get_running_loop()
        self._over: asyncio.Future[None] = self.loop.create_future()
        self.path, self._file = _lease_file()
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
        while self.path and not _is_free(self.path) and now() < until:
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
                self._start(*parts, data=body, buffers=buffers)
            elif kind == "bye":
                self._end()
            else:
                self._do[kind](*parts)

    # --- the owner's life

    def _welcomed(self, lease: float, slots: int, path: list[str] | None, cwd: str | None) -> None:
        if path is not None:
            sys.path[:] = path
        if cwd is not None:
            with contextlib.suppress(OSError):
                os.chdir(cwd)
        process.configure(size=slots, spares=1)
        self.lease.until = now() + lease
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
        for job in tuple(self.jobs.values()):
            job.stop_for_lease()
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

    # --- operations

    def _start(
        self,
        token: int,
        ref: tuple[str, str],
        valid: float,
        left: float | None,
        force: float | None,
        stamp: Any,
        *,
        data: bytes,
        buffers: list[Any],
    ) -> None:
        if token <= self._highest:
            self.tell("refused-start", token, "this attempt was started here before")
            return
        self._highest = token
        if token in self._early:
            self._early.discard(token)
            self.tell("stopped", token, int(Rung.ASKED), ())
            return
        if self.is_over() or now() > valid:
            self.tell("refused-start", token, "it came when the lease was over")
            return
        job = self.jobs[token] = _Job(self, token, ref)
        job.limit(left, force)
        body = job.body = _Relayed((data, [PickleBuffer(each) for each in buffers]), ref[1], (), stamp)
        try:
            body.begin(job)
        except Exception as error:
            job.raised(error)

    def _ask(
        self, token: int, kind: str, text: str, by: str | None, ago: float, left: float | None, force: float | None
    ) -> None:
        job = self.jobs.get(token)
        if job is None:
            if token > self._highest:
                self._early.add(token)
            return
        job.limit(left, force)
        if job.reason is None:
            job.reason = Reason(Kind(kind), text, by, self.loop.time() - ago)
            job.body.ask(text)
        else:
            job.body.limited()

    def _limit(self, token: int, left: float | None, force: float | None) -> None:
        if (job := self.jobs.get(token)) is not None:
            job.limit(left, force)
            job.body.limited()

    def _force(self, token: int) -> None:
        if (job := self.jobs.get(token)) is not None:
            job.body.force()

    def _look(self, token: int) -> None:
        if (job := self.jobs.get(token)) is not None:
            self.loop.run_in_executor(None, self._seen, job)

    def _seen(self, job: "_Job") -> None:
        stack = _plain(job.body.where())
        with contextlib.suppress(RuntimeError):
            self.loop.call_soon_threadsafe(lambda: self.tell("seen", job.token, stack))

    # --- for another agent of this machine

    def _witness(self, path: str, patience: float) -> None:
        self.loop.create_task(self._see_gone(path, patience))

    async def _see_gone(self, path: str, patience: float) -> None:
        """Whether nothing of that agent lives any more."""
        until = now() + patience
        gone = False
        while not (gone := _is_free(path)) and now() < until:
            await asyncio.sleep(_LOOK)
        self.tell("witnessed", path, gone)


class _Job(Sink):
    """What stands for the operation here: whatever its body tells is passed on."""

    def __init__(self, agent: _Agent, token: int, ref: tuple[str, str]) -> None:
        self._agent = agent
        self.token: int = token
        self.body: _Relayed
        self._ref = Ref(*ref)
        self._deadline: float | None = None
        self._force_at: float | None = None
        self._reason: Reason | None = None

    def limit(self, left: float | None, force: float | None) -> None:
        """The deadline, and when force is due, in seconds from now."""
        here = self._agent.loop.time()
        self._deadline = None if left is None else here + left
        self._force_at = None if force is None else here + force

    def stop_for_lease(self) -> None:
        """The owner is given up."""
        if self._reason is None:
            self._reason = Reason(Kind.DISCONNECTED, "the lease of its owner is over", None, self._agent.loop.time())
        if self.body.worker is None:
            self.body.ask("")
        else:
            self.body.force()

    @property
    def ref(self) -> Ref:
        return self._ref

    @property
    def reason(self) -> Reason | None:
        return self._reason

    @reason.setter
    def reason(self, reason: Reason) -> None:
        self._reason = reason

    @property
    def deadline(self) -> float | None:
        return self._deadline

    @property
    def force_at(self) -> float | None:
        return self._force_at

    def entered(self) -> None:
        """The owner has counted from the moment at which it was sent."""

    def located(self, where: RawStack, /) -> None:
        self._agent.tell("located", self.token, _plain(where))

    def refused(self) -> None:
        self._agent.tell("refused", self.token)

    def progressed(self, value: Any, /) -> None:
        self._pass_on("progressed", value)

    def helped(self, name: str, /) -> None:
        self._agent.tell("helped", self.token, name)

    def blocked(self, now: float, /) -> None:
        """No body in a process blocks this loop."""

    def cancel(self, reason: str | None = None, *, grace: float | None = None) -> bool:
        self._agent.tell("cancel", self.token, reason, grace)
        return True

    def returned(self, value: Any, /, survivors: tuple[str, ...] = ()) -> None:
        raise AssertionError("results are passed on as they are")

    def raised(self, error: BaseException, /, survivors: tuple[str, ...] = ()) -> None:
        if self._agent.is_over():
            self.stopped(Rung.KILLED, survivors)
            return
        self._ended(survivors)
        self._pass_on("raised", error, survivors)

    def stopped(self, rung: Rung | None = None, /, survivors: tuple[str, ...] = ()) -> None:
        self._ended(survivors)
        if self._agent.is_over() and not survivors:
            self._agent.tell("lost", self.token)
            return
        self._agent.tell("stopped", self.token, None if rung is None else int(rung), survivors)

    def done(self, kind: str, data: Any, buffers: list[Any], reached: bool, survivors: tuple[str, ...]) -> None:
        """The function has ended, and this is the pickle of its result."""
        self._ended(())
        self._agent.tell("done", self.token, kind, reached, survivors, data=data, buffers=buffers)

    def _ended(self, survivors: tuple[str, ...]) -> None:
        if not survivors:
            self._agent.jobs.pop(self.token, None)

    def _pass_on(self, kind: str, value: Any, *more: Any) -> None:
        try:
            data = pickle.dumps(value, 5)
        except Exception:
            data = pickle.dumps(repr(value) if kind == "progressed" else RuntimeError(repr(value)), 5)
        self._agent.tell(kind, self.token, *more, data=data)


class _Relayed(ProcessBody):
    """A function in a worker, whose result nobody unpickles here."""

    __slots__ = ()

    def finish(self, kind: str, data: Any, buffers: list[Any], reached: bool, survivors: tuple[str, ...] = ()) -> None:
        """Pass the result on."""
        self.worker = None
        self.reached = reached
        sink = self.sink
        assert isinstance(sink, _Job)
        sink.done(kind, bytes(data), buffers, reached, survivors)


def _plain(stack: RawStack) -> tuple[tuple[str, int, str, str], ...]:
    return tuple((each.file, each.line, each.function, each.source) for each in develop(stack))


def _facts() -> dict[str, Any]:
    """What the owner wants to know of this machine and its Python."""
    return {
        "calloff": __version__,
        "python": platform.python_version(),
        "implementation": sys.implementation.name,
        "host": platform.node(),
        "machine": _machine(),
        "pid": os.getpid(),
        "cpus": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1,
    }


def _machine() -> str:
    """Which machine, since when it runs, and which container of it: an agent of the same sees the same files and locks."""
    try:
        with open("/proc/sys/kernel/random/boot_id", encoding="ascii") as file:
            boot = file.read().strip()
        return f"{boot} {os.readlink('/proc/self/ns/mnt')} {os.readlink('/proc/self/ns/pid')}"
    except OSError:
        return ""


def _lease_file() -> tuple[str, int]:
    """A file for the lease, locked by all that have it mapped; those that earlier agents have left behind are removed.

    Where there is no room for one it has no name, and no later agent can tell what became of this one.
    """
    folder = "/dev/shm" if os.access("/dev/shm", os.W_OK | os.X_OK) else tempfile.gettempdir()
    for name in os.listdir(folder):
        path = os.path.join(folder, name)
        with contextlib.suppress(OSError):
            if name.startswith(LEASES) and os.stat(path).st_uid == os.getuid():
                _is_free(path)
    while True:
        try:
            file, path = tempfile.mkstemp(prefix=LEASES, dir=folder)
        except OSError:
            file, path = os.memfd_create("calloff-lease"), ""
            os.ftruncate(file, mmap.PAGESIZE)
            return path, file
        try:
            os.posix_fallocate(file, 0, mmap.PAGESIZE)
            fcntl.flock(file, fcntl.LOCK_EX)
            if os.stat(path).st_ino == os.fstat(file).st_ino:
                return path, file
        except FileNotFoundError:  # another agent took it for one that was left behind
            os.close(file)
        except OSError:
            os.close(file)
            os.unlink(path)
            folder = os.devnull


def _is_free(path: str) -> bool:
    """Whether nobody holds that lease any more; its file is removed then."""
    if not os.path.basename(path).startswith(LEASES):
        return False
    try:
        file = os.open(path, os.O_RDWR | os.O_CLOEXEC | os.O_NOFOLLOW)
    except FileNotFoundError:
        return True  # an agent that has ended in peace, or one whose end was seen before
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return False
    else:
        os.unlink(path)
        return True
    finally:
        os.close(file)


if __name__ == "__main__":
    main(*map(int, sys.argv[1:]))
