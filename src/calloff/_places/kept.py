"""The owner's end of the wire: the keeper, and a handle for each guard.

The keeper is started by exec at first use (a millisecond) and forks everything from then on; see `calloff._child`. It
is one for the whole process and all its event loops. Nothing here waits: sockets do not block, what does not fit at
once is sent when there is room.
"""

import array
import atexit
import contextlib
import os
import select
import socket
import sys
import threading
from asyncio import AbstractEventLoop
from collections import deque
from collections.abc import Callable, Sequence
from contextvars import Context
from typing import Any, Protocol

from .. import _child
from .._child.wire import Letters, letter

__all__ = ["Guarded", "Keeper", "Listener", "keeper", "on_fork"]

_SPACE = socket.CMSG_SPACE(4 * 4)


class Keeper:
    """The one process from which guards are forked."""

    def __init__(self) -> None:
        if sys.platform != "linux":
            raise NotImplementedError("calloff's processes and commands need Linux (child subreapers and pidfds)")
        if not sys.executable:
            raise RuntimeError("sys.executable is not set: there is no Python to run workers and commands with")
        self._lock = threading.Lock()
        self._backlog: deque[tuple[bytes, list[int]]] = deque()
        self._prepared = False
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        flags = ["-I", "-S", "-X", f"utf8={int(sys.flags.utf8_mode)}"]
        if sys.dont_write_bytecode:
            flags.append("-B")
        argv = [sys.executable, *flags, _child.__path__[0], str(os.getpid())]
        actions = [(os.POSIX_SPAWN_DUP2, theirs.fileno(), 0)]
        try:
            self.pid = os.posix_spawn(sys.executable, argv, os.environ, file_actions=actions)
        except BaseException:
            ours.close()
            raise
        finally:
            theirs.close()
        ours.setblocking(False)
        self._socket = ours

    def prepare(self, loop: AbstractEventLoop) -> None:
        """Have it load what workers need; once."""
        if not self._prepared:
            self._prepared = True
            import marshal

            details = {"site": not sys.flags.no_site, "path": [str(entry) for entry in sys.path]}
            message = b"P" + marshal.dumps(details)
            if len(message) < 1 << 17:
                self.post(loop, message, [])

    def post(self, loop: AbstractEventLoop, message: bytes, files: list[int]) -> None:
        """Send; the files are given away.

        Raises:
            OSError: it is gone.
        """
        with self._lock:
            waits = bool(self._backlog)
            self._backlog.append((message, files))
            if not waits:
                self._flush_locked(loop)

    def _flush(self, loop: AbstractEventLoop) -> None:
        with self._lock, contextlib.suppress(OSError):  # whoever waits for a guard sees its own socket end
            loop.remove_writer(self._socket.fileno())
            self._flush_locked(loop)

    def _flush_locked(self, loop: AbstractEventLoop) -> None:
        while self._backlog:
            message, files = self._backlog[0]
            extra = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", files))] if files else []
            try:
                self._socket.sendmsg([message], extra)
            except BlockingIOError:
                loop.add_writer(self._socket.fileno(), self._flush, loop)
                return
            except OSError:
                self._drop()
                raise
            self._backlog.popleft()
            for file in files:
                os.close(file)

    def _drop(self) -> None:
        for _, files in self._backlog:
            for file in files:
                os.close(file)
        self._backlog.clear()

    def close(self, wait: float) -> None:
        """Let it go; it ends when all its guards have. Waits for that at most `wait` seconds."""
        self._drop()
        self._socket.close()
        with contextlib.suppress(OSError):
            handle = os.pidfd_open(self.pid)
            try:
                select.select([handle], [], [], wait)
            finally:
                os.close(handle)
            os.waitpid(self.pid, os.WNOHANG)

    def forget(self) -> None:
        """In a fork of the owner: it is not ours."""
        self._lock = threading.Lock()
        self._drop()
        self._socket.close()


class Listener(Protocol):
    """Who wants to hear of a guard."""

    def heard(self, letter: tuple[Any, ...], handle: int | None, /) -> None:
        """A letter came, with a pidfd of the work when that was born."""

    def lost(self) -> None:
        """The guard is gone without its last letter."""


class Guarded:
    """The control socket to one guard.

    Args:
        loop: the loop that listens.
        kind: ``b"W"`` for a worker, ``b"C"`` for a command.
        files: those of the work; given away.
        listener: hears the letters.
    """

    def __init__(self, loop: AbstractEventLoop, kind: bytes, files: list[int], listener: Listener) -> None:
        self._listener = listener
        self._letters = Letters()
        self._rest = b""
        self._ended = False
        self.loop: AbstractEventLoop = loop
        ours, theirs = socket.socketpair()
        ours.setblocking(False)
        self._socket = ours
        self._file = ours.fileno()
        try:
            _post(loop, kind, [theirs.detach(), *files])
        except BaseException:
            ours.close()
            raise
        _open.add(self)
        Context().run(loop.add_reader, self._file, self._readable)

    def move(self, loop: AbstractEventLoop) -> None:
        """Listen on another loop: the one before was closed."""
        self.loop = loop
        Context().run(loop.add_reader, self._file, self._readable)

    def write(self, *parts: Any) -> None:
        """Send a letter."""
        if self._ended:
            return
        data = letter(*parts)
        if self._rest:
            self._rest += data
            return
        try:
            sent = self._socket.send(data)
        except BlockingIOError:
            sent = 0
        except OSError:  # it ended: its last letter is on its way
            return
        if sent < len(data):
            self._rest = data[sent:]
            self.loop.add_writer(self._file, self._writable)

    def _writable(self) -> None:
        self.loop.remove_writer(self._file)
        data, self._rest = self._rest, b""
        try:
            sent = self._socket.send(data)
        except BlockingIOError:
            sent = 0
        except OSError:
            return
        if sent < len(data):
            self._rest = data[sent:]
            self.loop.add_writer(self._file, self._writable)

    def _readable(self) -> None:
        while not self._ended:
            try:
                data, extras, _, _ = self._socket.recvmsg(1 << 16, _SPACE, socket.MSG_CMSG_CLOEXEC)
            except (BlockingIOError, InterruptedError):
                return
            except OSError:
                data, extras = b"", []
            handle = _handle_in(extras)
            if not data:
                self.close()
                self._listener.lost()
                return
            for mail in self._letters.feed(data):
                if mail[0] in ("ended", "failed"):
                    self.close()
                self._listener.heard(mail, handle if mail[0] == "born" else None)

    def born(self) -> tuple[int, int] | None:
        """Pid and pidfd of the work, if it was born and the loop, which may be blocked, has not heard of it yet.

        From any thread; the letter stays where it is, and the loop gets a pidfd of its own.
        """
        try:
            data, extras, _, _ = self._socket.recvmsg(1 << 12, _SPACE, socket.MSG_CMSG_CLOEXEC | socket.MSG_PEEK)
        except OSError:
            return None
        handle = _handle_in(extras)
        if handle is None:
            return None
        return Letters().feed(data)[0][1], handle  # it is the first letter, and the only one with a file

    def close(self) -> None:
        """No more of it; a guard that lives kills its work."""
        if self._ended:
            return
        self._ended = True
        _open.discard(self)
        if not self.loop.is_closed():
            self.loop.remove_reader(self._file)
            if self._rest:
                self.loop.remove_writer(self._file)
        self._socket.close()


def _handle_in(extras: Sequence[tuple[int, int, bytes]]) -> int | None:
    """The file that came with a message."""
    for _, _, files in extras:
        return array.array("i", files)[0]
    return None


_open: set[Guarded] = set()
_keeper: Keeper | None = None
_lock = threading.Lock()


def keeper() -> Keeper:
    """The keeper of this process, started at the first call."""
    global _keeper
    with _lock:
        if _keeper is None:
            if not _hooked:
                _hooked.append(True)
                atexit.register(_shut_down)
                os.register_at_fork(after_in_child=_forget)
            _keeper = Keeper()
        return _keeper


def _post(loop: AbstractEventLoop, kind: bytes, files: list[int]) -> None:
    """Have a guard forked, by a new keeper if the one before was killed."""
    global _keeper
    mine = keeper()
    copies = [os.dup(file) for file in files]
    try:
        if kind == b"W":
            mine.prepare(loop)
        mine.post(loop, kind, files)
    except OSError:
        mine.close(0)
        with _lock:
            if _keeper is mine:
                _keeper = None
        mine = keeper()
        if kind == b"W":
            mine.prepare(loop)
        mine.post(loop, kind, copies)
        copies = []
    finally:
        for file in copies:
            os.close(file)


_hooked: list[bool] = []


def _shut_down() -> None:
    """At exit: nothing of ours stays behind."""
    global _keeper
    for guarded in tuple(_open):
        guarded.close()
    mine, _keeper = _keeper, None
    if mine is not None:
        mine.close(1.0)


def _forget() -> None:
    """A fork of the owner must not hold the sockets open: their end is the sign that the owner is gone."""
    global _keeper, _lock
    _lock = threading.Lock()
    mine, _keeper = _keeper, None
    if mine is not None:
        mine.forget()
    for guarded in tuple(_open):
        guarded._ended = True
        guarded._socket.close()
    _open.clear()
    for let_go in _forgetters:
        let_go()


def on_fork(let_go: Callable[[], None]) -> None:
    """What else a fork of the owner must let go of."""
    _forgetters.append(let_go)


_forgetters: list[Callable[[], None]] = []
