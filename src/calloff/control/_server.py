"""The door of a process: its socket, opened while somebody may look, and the thread that waits behind it.

Opening it costs a program next to nothing: a socket, a thread that sleeps in ``accept``, and the ring of ended operations.
What is needed to answer is imported in the first quiet second, or when the first client comes: a program that ends soon or
has much to do does not pay for it, and one that gets into trouble later on (out of files, its disk gone) can still be
looked at. Once a client has come, the thread runs an event loop of its own (`_service`), so that it answers, and tells
the blocked line, while the loops of the program are stuck.

The socket is bound under another name and renamed once it listens: a client that finds it refused knows that its process
is dead. A fork of the process inherits the files but not the thread, and must not hold the door open; it closes them.
"""

import asyncio
import contextlib
import logging
import os
import select
import socket
import threading
import time
from collections.abc import Callable, Generator, Iterable
from contextlib import contextmanager
from importlib import import_module
from typing import TYPE_CHECKING

from .._operation.snapshot import History
from .._words.errors import CalloffError
from ._directory import Unusable, home, name_of

if TYPE_CHECKING:
    from ._service import Service

__all__ = ["Door", "expose", "exposed", "keep_open", "let_close"]

_logger = logging.getLogger("calloff")
_HISTORY = 1000
#: how long a program has to have little to do until what answers clients is loaded
_SECOND = 1.0
#: clients that may wait to be let in: one more would be refused, as if nobody were there
_BACKLOG = 1024
#: seconds that the end of a program waits at most, for clients to hear how what they cancelled has ended
_FAREWELL = 1.25


class Door:
    """The socket of this process, and its thread."""

    def __init__(self, history: History, directory: str = "") -> None:
        self.history = history
        self._directory = directory
        #: finds loops that nobody has told of
        self.find_loops: Callable[[], Iterable[asyncio.AbstractEventLoop]] = tuple
        #: the loops of the programs that are exposed
        self.loops: dict[asyncio.AbstractEventLoop, int] = {}
        self.path = ""
        self._service: Service | None = None
        self._closed = threading.Event()
        if not hasattr(socket, "SO_PEERCRED"):
            raise Unusable("this system does not tell who is at the other end of a socket")
        self._listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            self._bind()
        except BaseException:
            self._listener.close()
            raise
        self._thread = threading.Thread(target=self._wait, name="calloff control", daemon=True)
        self._thread.start()
        history.open()

    def _bind(self) -> None:
        directory = home(self._directory)
        name = name_of(os.getpid())
        path = os.path.join(directory, name)
        folder = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
        try:  # by the number of the directory: a path of a socket may not be longer than a hundred bytes
            new = f"/proc/self/fd/{folder}/{name.removesuffix('.sock')}.new"
            with contextlib.suppress(FileNotFoundError):
                os.unlink(new)
            self._listener.bind(new)
            os.chmod(new, 0o600)
            self._listener.listen(_BACKLOG)
            os.replace(new, path)
            self._inode = os.stat(path).st_ino
        finally:
            os.close(folder)
        self.path = path

    def _wait(self) -> None:
        """In the thread: sleep until somebody comes, then serve."""
        with self._listener:
            try:
                connection = self._first()
            except OSError:  # it was shut
                return
            with connection:
                try:
                    from ._service import Service

                    service = Service(self._listener, self.history, self._all_loops, self._closed.is_set)
                    self._service = service
                    service.run(connection)
                except Exception:
                    _logger.exception("the control socket can't be served")

    def _all_loops(self) -> tuple[asyncio.AbstractEventLoop, ...]:
        return tuple(dict.fromkeys((*self.loops, *self.find_loops())))

    def _first(self) -> socket.socket:
        """The first client. What answers it is loaded before, in a second in which the program has little to do."""
        waiting = select.poll()
        waiting.register(self._listener, select.POLLIN)
        ran = time.process_time()
        while not waiting.poll(_SECOND * 1000):
            before, ran = ran, time.process_time()
            if ran - before < _SECOND / 2:
                with contextlib.suppress(Exception):  # then when the client comes
                    import_module("._service", __package__)
                break
        return self._listener.accept()[0]

    def close(self) -> None:
        """Let nobody in any more; clients that wait for an ending are told first, for a second at most."""
        self.history.close()
        with contextlib.suppress(OSError):
            if os.stat(self.path).st_ino == self._inode:
                os.unlink(self.path)
        self._closed.set()
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)  # wakes the thread
        service = self._service
        if service is not None:
            service.finish()
        self._thread.join(_FAREWELL)

    def let_go(self) -> None:
        """In a fork: the files are not ours."""
        self.history.close()
        _close_copy(self._listener)
        if self._service is not None:
            for connection in self._service.sockets():
                _close_copy(connection)


def _close_copy(file: socket.socket) -> None:
    with contextlib.suppress(OSError):
        os.close(file.detach())


# --- one for the process, however many programs it runs

_lock = threading.Lock()
_door: Door | None = None
_users = 0
_hooked = False
#: the one that was opened by somebody who has attached
_kept: Door | None = None


@contextmanager
def expose(*, history: int | None = None) -> Generator[None]:
    """Let ``calloff ps`` and the other verbs see this process while the block runs.

    Args:
        history: how many ended operations are remembered; by default ``CALLOFF_HISTORY``, else 1000. When more than ten
            thousand end in a second, only samples are of those that completed within a second, unasked.

    Raises:
        ValueError: `history` is negative. The caller's fault.
        CalloffError: no socket can be made: no directory that the user alone can enter, or a system without the means.

    For programs that run under ``asyncio.run``; ``calloff.run(expose=True)`` does it by itself. Any number of blocks, in
    any thread, share one socket; it is gone when the last of them is left.

        with calloff.control.expose(history=100):
            asyncio.run(main())
    """
    door = _enter(history)
    try:
        yield
    finally:
        _leave(door)


def keep_open(directory: str) -> Door:
    """Open the door for good, with its socket in that directory, or in the usual one (empty); `let_close` ends that."""
    global _kept
    _kept = door = _enter(None, directory)
    return door


def let_close() -> None:
    """Take back `keep_open`."""
    global _kept
    if _kept is not None:
        door, _kept = _kept, None
        _leave(door)


def _enter(history: int | None, directory: str = "") -> Door:
    global _door, _users, _hooked
    size = _size(history)
    with _lock:
        if _door is None:
            if not _hooked:
                _hooked = True
                if hasattr(os, "register_at_fork"):
                    os.register_at_fork(after_in_child=_forked)
            try:
                _door = Door(History(size), directory)
            except (OSError, Unusable) as problem:
                raise CalloffError(f"this process can't be seen from outside: {problem}") from None
        elif history is not None:
            _door.history.resize(size)
        _users += 1
        return _door


def _leave(door: Door) -> None:
    global _door, _users
    with _lock:
        last = door is _door and _users == 1
        if door is _door:
            _users -= 1
        if last:
            _door = None
    if last:
        door.close()


@contextmanager
def exposed(loop: asyncio.AbstractEventLoop, *, quiet: bool = False) -> Generator[None]:
    """What ``run(expose=True)`` enters around a program: that it can't be seen is logged, and is no reason not to run."""
    with contextlib.ExitStack() as stack:
        try:
            stack.enter_context(expose())
        except CalloffError as problem:
            _logger.log(logging.DEBUG if quiet else logging.WARNING, "%s", problem)
        else:
            stack.enter_context(_known(loop))
        yield


@contextmanager
def _known(loop: asyncio.AbstractEventLoop) -> Generator[None]:
    door = _door
    if door is not None:
        door.loops[loop] = 1
    try:
        yield
    finally:
        if door is not None:
            door.loops.pop(loop, None)


def _size(history: int | None) -> int:
    if history is None:
        text = os.environ.get("CALLOFF_HISTORY", "")
        return int(text) if text.isascii() and text.isdigit() else _HISTORY
    if isinstance(history, bool) or not isinstance(history, int):
        raise TypeError(f"history must be a whole number, not {history!r}")
    if history < 0:
        raise ValueError(f"history must be 0 or more, not {history!r}")
    return history


def _forked() -> None:
    global _door, _users, _lock
    _lock = threading.Lock()
    door, _door, _users = _door, None, 0
    if door is not None:
        door.let_go()
