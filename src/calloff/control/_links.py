"""Connections to the control sockets of other processes: found, checked, opened, kept and used again."""

import asyncio
import contextlib
import os
import socket
from collections.abc import AsyncGenerator
from typing import Any

import msgspec
from msgspec import Struct
from msgspec.structs import replace

from ._directory import Unusable, is_foreign, sockets
from ._errors import ControlError, NotFound, Unreachable
from ._peer import Peer, command_of, started_at
from ._records import VERSION, Accepted, Details, Hello, Listing, Refused, Request, Stopped

__all__ = ["PATIENCE", "deaf", "expect", "Lost", "Process", "Server", "process_of", "processes", "reachable"]

_decode = msgspec.json.Decoder(Hello | Listing | Details | Accepted | Stopped | Refused).decode
#: seconds that a process gets to answer
PATIENCE = 2.0
_encode = msgspec.json.Encoder().encode


class Process(Struct, frozen=True):
    """A process that can be asked.

    Attributes:
        pid: its number.
        argv: its command line.
        started_at: when it was started, in Unix seconds.
        socket: the path of its socket.
    """

    pid: int
    argv: tuple[str, ...]
    started_at: float
    socket: str


def processes(directory: str | None = None) -> list[Process]:
    """The processes of this user that can be looked at. Sockets of dead ones are removed.

    Args:
        directory: where to look; by default in all the usual places.

    Raises:
        Unreachable: the directory can't be trusted: it is open to other users, or belongs to one.
    """
    found: list[Process] = []
    for pid, path in reachable(directory):
        connected = _connect(path)
        if connected is not None:
            connected.close()
            found.append(process_of(pid, path))
    return found


def reachable(directory: str | None) -> list[tuple[int, str]]:
    """The process and the path of each socket; some may be stale."""
    try:
        return sockets(directory)
    except Unusable as problem:
        raise Unreachable(str(problem)) from None


def process_of(pid: int, path: str) -> Process:
    """What is known of a process without asking it; of one in another PID namespace, nothing but its number there."""
    argv = ("(in another PID namespace)",) if is_foreign(pid, path) else command_of(pid)
    return Process(pid, argv, began_at(pid, path), path)


def began_at(pid: int, path: str) -> float:
    """When the process was started that the socket belongs to; 0 when that can't be known."""
    return 0.0 if is_foreign(pid, path) else started_at(pid)


def _connect(path: str) -> socket.socket | None:
    """A connection, if a process of the same user listens there; a socket that nobody listens at is removed."""
    folder = os.open(os.path.dirname(path), os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    made = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    made.setblocking(False)
    try:
        made.connect(f"/proc/self/fd/{folder}/{os.path.basename(path)}")
        if Peer.of(made).user in (os.geteuid(), 0):
            return made
    except ConnectionRefusedError:
        with contextlib.suppress(OSError):
            os.unlink(path)
    except OSError:  # it was there a moment ago; or so many wait there that it is as good as deaf
        pass
    finally:
        os.close(folder)
    made.close()
    return None


class Lost(Exception):
    """The connection ended."""


class _Link:
    """One connection."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer

    @classmethod
    async def open(cls, path: str) -> "_Link":
        """Connect and wait for the greeting."""
        connected = _connect(path)
        if connected is None:
            raise Lost
        link = cls(*await asyncio.open_unix_connection(sock=connected, limit=1 << 40))
        try:
            await link.hear()
        except BaseException:
            link.close()
            raise
        return link

    def say(self, request: Request) -> None:
        """Send a request."""
        self._writer.write(_encode(replace(request, version=VERSION)) + b"\n")

    async def hear(self) -> Any:
        """The next answer.

        Raises:
            Lost: the other end is gone.
        """
        try:
            line = await self._reader.readline()
        except OSError:
            line = b""
        if not line.endswith(b"\n"):
            raise Lost
        try:
            return _decode(line)
        except msgspec.MsgspecError as problem:
            raise ControlError(_not_understood(problem)) from None

    def close(self) -> None:
        """Hang up."""
        self._writer.close()


class Server:
    """A process, with its idle connections."""

    def __init__(self, process: Process) -> None:
        self.process = process
        self._idle: list[_Link] = []
        self.ended = False
        #: a request that it has not answered in time, and does still not
        self.late: asyncio.Task[Any] | None = None

    async def exchange(self, request: Request) -> AsyncGenerator[Any, None]:
        """The answers to a request; on a fresh connection when the kept one is of no use any more."""
        link = self._idle.pop() if self._idle else None
        answer: Any = None
        if link is not None:
            try:
                link.say(request)
                answer = await link.hear()
            except Lost:
                link.close()
                link = None
            except BaseException:
                link.close()
                raise
        if link is None:
            link = await _Link.open(self.process.socket)
        whole = False
        try:
            if answer is None:
                link.say(request)
                answer = await link.hear()
            while True:
                whole = answer.last
                yield answer
                if whole:
                    return
                answer = await link.hear()
        finally:
            if whole:
                self._idle.append(link)
            else:
                link.close()

    async def ask(self, request: Request) -> Any:
        """The only answer to a request."""
        async with contextlib.aclosing(self.exchange(request)) as answers:
            async for answer in answers:
                return answer
        raise Lost

    def close(self) -> None:
        """Hang up."""
        if self.late is not None:
            self.late.cancel()
        for link in self._idle:
            link.close()
        self._idle.clear()


def deaf(process: Process) -> Unreachable:
    """The error for one that does not answer."""
    return Unreachable(f"process {process.pid} ({' '.join(process.argv)[:60]}) does not answer")


def _not_understood(what: object) -> str:
    who = "that process may run another version of calloff, whose client is to be used"
    return f"an answer was not understood ({what}): {who}"


def expect(answer: Any, kind: Any) -> Any:
    """The answer, if it is of that kind, else the error that it means."""
    if isinstance(answer, Refused):
        if answer.code == "not_found":
            raise NotFound(answer.text)
        if answer.code == "failed":
            raise Unreachable(answer.text)
        if answer.code == "invalid":
            raise ValueError(answer.text)
        raise ControlError(answer.text)  # busy; or a code of a version that is not ours
    if not isinstance(answer, kind):
        raise Unreachable(_not_understood(type(answer).__name__))
    return answer
