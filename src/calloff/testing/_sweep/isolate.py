"""Runs kept apart: a small server forks once for each run, and can kill it.

The server is itself a fork, made when the sweep begins: it has the functions (closures, too) without pickling them,
but none of the threads and not the event loop of the process that asked. What a run does to its process, be it a
thread that is stuck or a loop that is blocked, ends with that process. Only plain data crosses back, over a pipe.
"""

import asyncio
import contextlib
import faulthandler
import linecache
import os
import pickle
import re
import select
import signal
import socket
import struct
import sys
import tempfile
import time
import warnings
from collections.abc import Callable
from typing import Any, Generic, NoReturn, Protocol, TypeVar

from ..._os import proc
from ..._words.errors import CalloffError
from .blocked import LIMIT, tell_of_limits
from .forked import Forked

__all__ = ["Around", "Died", "Lost", "Server"]

Order = TypeVar("Order")
Answer = TypeVar("Answer")
_Given = TypeVar("_Given", contravariant=True)


class Died(Exception):
    """The process of a run ended without an answer, or had to be killed; the text says which and where it was."""


class Lost(Exception):
    """There is no process for a run, or the one that keeps the runs apart has ended: it says nothing of what is swept."""


class Around(Protocol[_Given]):
    """What is done around each run."""

    def before(self, order: _Given, /) -> None:
        """In the process of the run, before it begins."""

    def after(self, order: _Given, /) -> None:
        """When that process is gone."""


class Server(Generic[Order, Answer]):
    """Carries out orders, each in a process of its own, one after the other.

    Args:
        carry_out: runs in the forked process, without a running event loop; its answer must be picklable.
        limit: seconds after which a run is killed.
        quiet: whether what a run prints is thrown away.
        around: called before each run, in its process, and when that process is gone.
        again: another server of this process follows soon.
    """

    def __init__(
        self,
        carry_out: Callable[[Order], Answer],
        limit: float,
        *,
        quiet: bool = True,
        around: "Around[Order] | None" = None,
        again: bool = False,
    ) -> None:
        if not hasattr(os, "fork"):
            raise CalloffError(
                "each run of a sweep has a process of its own, which is forked: on POSIX systems only, and this is "
                f"{sys.platform}; pytest --cancel-sweep-in-process and calloff.testing.sweep(..., isolate=False) work here"
            )
        self._lost = ""
        forked = Forked(again)  # the runs look only at what they made themselves
        self._socket, theirs = socket.socketpair()
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)  # 3.12+: a fork beside threads; none crosses over
            try:
                self._pid = os.fork()
            except OSError as error:
                self._pid, self._lost = -1, f"no process could be started for the runs: {error.strerror}"
        if self._pid == 0:
            status = 1
            try:
                for other in (self._socket, *_parents_ends):
                    other.close()  # each server sees the end of its own, when the parent closes it or dies
                _leave_the_parent()
                forked.mend_pools()

                def in_its_process(order: Order) -> Answer:
                    forked.mend_loops()
                    if around is not None:
                        around.before(order)
                    return carry_out(order)

                _serve(theirs, in_its_process, limit, quiet, around)
                status = 0
            finally:
                os._exit(status)
        forked.parent_goes_on()
        theirs.close()
        _parents_ends.add(self._socket)
        self._socket.setblocking(False)

    async def ask(self, order: Order) -> Answer:
        """Have one order carried out.

        Raises:
            Died: the run ended without an answer.
            Lost: it was not carried out.
        """
        if self._lost:
            raise Lost(self._lost)
        loop = asyncio.get_running_loop()
        try:
            await loop.sock_sendall(self._socket, _packed(order))
        except OSError:
            raise Lost("the process that keeps the runs apart has ended") from None
        (length,) = struct.unpack("!I", await self._receive(loop, 4))
        kind, value = pickle.loads(await self._receive(loop, length))
        if kind == "died":
            raise Died(value)
        if kind == "lost":
            raise Lost(value)
        return value  # type: ignore[no-any-return]

    async def _receive(self, loop: asyncio.AbstractEventLoop, length: int) -> bytes:
        parts = bytearray()
        while len(parts) < length:
            try:
                part = await loop.sock_recv(self._socket, length - len(parts))
            except ConnectionError:
                part = b""
            if not part:
                raise Lost("the process that keeps the runs apart has ended")
            parts += part
        return bytes(parts)

    def close(self) -> None:
        """End the server and the run that it is at."""
        self._socket.close()
        _parents_ends.discard(self._socket)
        if self._pid > 0:
            with contextlib.suppress(ChildProcessError):
                os.waitpid(self._pid, 0)


_parents_ends: set[socket.socket] = set()


def _packed(value: object) -> bytes:
    data = pickle.dumps(value)
    return struct.pack("!I", len(data)) + data


def _leave_the_parent() -> None:
    """Forget the event loop and the signal handling of the process that was forked."""
    with contextlib.suppress(ValueError):
        signal.set_wakeup_fd(-1)
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGALRM, signal.SIGCHLD):
        signal.signal(number, signal.SIG_DFL)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.setitimer(signal.ITIMER_REAL, 0)
    asyncio._set_running_loop(None)
    asyncio.set_event_loop(None)


def _serve(
    orders: socket.socket, carry_out: Callable[[Any], Any], limit: float, quiet: bool, around: "Around[Any] | None"
) -> None:
    while True:
        head = _read(orders, 4)
        if head is None:
            return
        body = _read(orders, struct.unpack("!I", head)[0])
        if body is None:
            return
        order = pickle.loads(body)
        answer = _one_run(orders, carry_out, order, limit, quiet)
        if around is not None:
            around.after(order)
        if answer is None:
            return
        orders.sendall(answer)


def _read(orders: socket.socket, length: int) -> bytes | None:
    parts = bytearray()
    while len(parts) < length:
        part = orders.recv(length - len(parts))
        if not part:
            return None
        parts += part
    return bytes(parts)


def _one_run(
    orders: socket.socket, carry_out: Callable[[Any], Any], order: Any, limit: float, quiet: bool
) -> bytes | None:
    """Fork, clear up, and give the answer; ``None`` when nobody wants it any more."""
    try:
        return _forked_run(orders, carry_out, order, limit, quiet)
    except OSError as error:
        return _packed(("lost", f"no process could be started for a run: {error.strerror}"))


def _forked_run(
    orders: socket.socket, carry_out: Callable[[Any], Any], order: Any, limit: float, quiet: bool
) -> bytes | None:
    with tempfile.TemporaryFile() as last_words:
        reader, writer = os.pipe()
        try:
            pid = os.fork()
        except OSError:
            os.close(reader)
            os.close(writer)
            raise
        if pid == 0:
            os.close(reader)
            orders.close()
            _run(writer, last_words, carry_out, order, quiet)
        os.close(writer)
        with contextlib.suppress(OSError):
            os.setpgid(pid, pid)
        try:
            answer, limit = _await_answer(orders, reader, limit)
            if answer == b"":
                _make_it_speak(pid, reader)
        finally:
            os.close(reader)
            _kill(pid)
            _, status = os.waitpid(pid, 0)
        if answer == b"":
            last_words.seek(0)
            return _packed(("died", _post_mortem(status, last_words.read().decode(errors="replace"), limit)))
        return answer


def _await_answer(orders: socket.socket, reader: int, limit: float) -> tuple[bytes | None, float]:
    """What the run says until it closes its end of the pipe (empty when its time is over), and its last limit."""
    parts = bytearray()
    end = time.monotonic() + limit
    while (rest := end - time.monotonic()) > 0:
        ready, _, _ = select.select([reader, orders.fileno()], [], [], rest)
        if orders.fileno() in ready:
            return None, limit  # nothing is sent while a run is on: it was closed
        if reader in ready:
            part = os.read(reader, 1 << 20)
            if not part:
                break
            parts += part
            while len(parts) >= 4:
                (length,) = struct.unpack("!I", parts[:4])
                if length & LIMIT:
                    limit = (length ^ LIMIT) / 1000
                    end = time.monotonic() + limit
                    del parts[:4]
                elif len(parts) >= 4 + length:
                    return bytes(parts), limit
                else:
                    break
    return b"", limit


def _make_it_speak(pid: int, reader: int) -> None:
    """Have the run write down where it is, as it dies."""
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, signal.SIGABRT)
    select.select([reader], [], [], 5)  # its end closes the pipe; on a busy machine that takes a while


def _kill(pid: int) -> None:
    """The run and what it started."""
    descendants = [below for below, _ in proc.descendants(pid)]
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(pid, signal.SIGKILL)
    for process in (pid, *descendants):
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.kill(process, signal.SIGKILL)


def _run(writer: int, last_words: Any, carry_out: Callable[[Any], Any], order: Any, quiet: bool) -> NoReturn:
    status = 1
    try:
        with contextlib.suppress(OSError):
            os.setpgid(0, 0)
        signal.signal(signal.SIGINT, signal.SIG_DFL)
        null = os.open(os.devnull, os.O_RDWR)
        os.dup2(null, 0)
        if quiet:
            os.dup2(null, 1)
            os.dup2(null, 2)
            sys.stdout = sys.stderr = open(1, "w", closefd=False)  # noqa: SIM115
        linecache.checkcache = _as_they_are
        faulthandler.enable(last_words)  # what kills it, our SIGABRT too, makes it say where it was
        tell_of_limits(writer)
        try:
            answer = _packed(("answer", carry_out(order)))
        except BaseException as error:
            answer = _packed(("died", f"the run failed: {type(error).__name__}: {error}"))
            if not quiet:
                raise
        for said in (sys.stdout, sys.stderr):  # before the answer: it is the last that is heard of this process
            with contextlib.suppress(Exception):
                said.flush()
        view = memoryview(answer)
        while view:
            view = view[os.write(writer, view) :]
        status = 0
    finally:
        os._exit(status)


def _as_they_are(filename: str | None = None) -> None:
    """No source file changes while a run lasts; a loop in debug mode asks so for each frame of each future."""


def _post_mortem(status: int, last_words: str, limit: float) -> str:
    lines = _lines_of_the_loop(last_words)
    by_us = os.WIFSIGNALED(status) and os.WTERMSIG(status) in (signal.SIGABRT, signal.SIGKILL)
    if lines and by_us:
        return f"the process was blocked for {limit:g} s and had to be killed, at {_brief(lines)}"
    if os.WIFSIGNALED(status):
        at = f" at {_brief(lines)}" if lines else ""
        return f"the process was killed by signal {os.WTERMSIG(status)}{at}"
    return f"the process ended by itself, with status {os.waitstatus_to_exitcode(status)}"


def _lines_of_the_loop(last_words: str) -> list[str]:
    """What faulthandler wrote of the thread that got the signal, or else of the first one, which comes last."""
    threads = [part for part in re.split(r"\n(?=(?:Current t|T)hread )", last_words) if "  File " in part]
    current = [part for part in threads if part.startswith("Current") or "\nCurrent thread" in part]
    chosen = (current or threads[-1:])[:1]
    return [line.strip() for part in chosen for line in part.splitlines() if line.strip().startswith("File ")]


def _brief(lines: list[str]) -> str:
    """``file.py:12 in f`` out of faulthandler's lines, the innermost that is not Python's own."""
    from .points import is_ours, is_python

    for line in lines:
        file = line.split('"')[1]
        if not is_python(file) and not is_ours(file):
            return line.replace("File ", "")
    return lines[0].replace("File ", "")
