"""What answers behind the door, in the control thread, on an event loop of its own.

Each connection carries one exchange at a time: what a client sends meanwhile waits in its buffer, and once that holds as
much as the longest request, in the client. So what one connection can make us hold is bounded: a request, an answer, and
one exchange; and there is a bound on connections. Whatever cannot be understood is answered with one sentence; the worst
that a client can do to itself is to be hung up on.

Who is at the other end is the kernel's word (``SO_PEERCRED``): the same user, or root. Nobody else is answered.
"""

import asyncio
import logging
import os
import socket
import sys
from collections import Counter, deque
from collections.abc import Callable, Iterable
from itertools import islice
from typing import Any

import msgspec

from .._operation.snapshot import History
from .._words.text import short
from . import _exchanges
from ._peer import Peer, started_at
from ._records import LONGEST, VERSION, Answer, Cancel, Hello, List, Refused, Show, Watch
from ._rows import Registry
from ._valid import valid

__all__ = ["Connection", "Service"]

_logger = logging.getLogger("calloff")
_CONNECTIONS = 64
#: seconds in which one that has come may ask for the first time, before it has to make room for others
_FRESH = 0.25
_CHUNK = 1 << 16
_PIECES = 100
#: seconds that answers on their way get when the process ends
_FLUSH = 1.0
_decode = msgspec.json.Decoder(List | Show | Watch | Cancel).decode
_encode = msgspec.json.Encoder().encode


class Service:
    """The loop of the control thread, and its connections.

    Args:
        listener: the socket, on which a first client has come.
        history: the ended operations.
        loops: the event loops of the program.
        is_over: whether the process has begun to end.
    """

    def __init__(
        self,
        listener: socket.socket,
        history: History,
        loops: Callable[[], Iterable[asyncio.AbstractEventLoop]],
        is_over: Callable[[], bool],
    ) -> None:
        self.registry: Registry = Registry(history, loops)
        self.argv: tuple[str, ...] = tuple(str(arg) for arg in getattr(sys, "orig_argv", sys.argv))
        self.started_at: float = started_at(os.getpid())
        self.loop: asyncio.AbstractEventLoop = asyncio.SelectorEventLoop()
        self._listener = listener
        self._is_over = is_over
        self._connections: dict[Connection, None] = {}

    def run(self, first: socket.socket) -> None:
        """Serve until the process ends."""
        loop = self.loop
        try:
            self._listener.setblocking(False)
            self._welcome(first)
            loop.add_reader(self._listener, self._accept)
            if not self._is_over():  # else nobody is going to stop it
                loop.run_forever()
        finally:
            for connection in tuple(self._connections):
                connection.close()
            loop.close()

    def finish(self) -> None:
        """The process ends: tell what can be told, and stop; from another thread."""
        try:
            self.loop.call_soon_threadsafe(self._finish)
        except RuntimeError:  # it has stopped already
            pass

    def _finish(self) -> None:
        self.loop.remove_reader(self._listener)
        for connection in tuple(self._connections):
            connection.finish()
        if self._connections:
            self.loop.call_later(_FLUSH, self.loop.stop)
        else:
            self.loop.stop()

    def sockets(self) -> list[socket.socket]:
        """Of all connections."""
        return [connection.socket for connection in tuple(self._connections)]

    def gone(self, connection: "Connection") -> None:
        """A connection was closed."""
        self._connections.pop(connection, None)
        if not self._connections and self._is_over():
            self.loop.stop()

    def _accept(self) -> None:
        for _count in range(_CONNECTIONS):  # a crowd must not fill the queue in which the others wait
            if not self._has_room():
                self.loop.remove_reader(self._listener)
                self.loop.call_later(_FRESH / 5, self._accept_again)
                return
            try:
                accepted, _ = self._listener.accept()
            except OSError:  # no more, gone again, or there is no file to be had
                return
            self._welcome(accepted)

    def _accept_again(self) -> None:
        if not self._is_over():
            self.loop.add_reader(self._listener, self._accept)

    def _welcome(self, accepted: socket.socket) -> None:
        peer = Peer.of(accepted)
        if peer.user not in (os.geteuid(), 0):
            _logger.debug("user %d was refused at the control socket", peer.user)
            accepted.close()
            return
        if len(self._connections) >= _CONNECTIONS:
            self._make_room()
        connection = Connection(self, accepted, peer)
        self._connections[connection] = None
        connection.answer(
            Hello(version=VERSION, last=False, pid=os.getpid(), argv=self.argv, started_at=self.started_at)
        )

    def _has_room(self) -> bool:
        """Whether one more can be let in. One that has just come and is about to ask is not sent away for the next."""
        if len(self._connections) < _CONNECTIONS:
            return True
        quiet = [connection for connection in self._connections if not connection.busy]
        return not quiet or not all(connection.fresh for connection in quiet)

    def _make_room(self) -> None:
        """Close a connection for a new one: an idle one, else that of whoever has the most, watchers before cancels."""
        held = Counter(connection.peer.pid for connection in self._connections)
        least = min(self._connections, key=lambda each: (each.busy, each.fresh, each.cancels, -held[each.peer.pid]))
        if least.busy or not least.has_asked:  # it hears why; one that asked before connects anew by itself
            least.answer(Refused(text="too many clients look at this process: this one was let go", code="busy"))
        least.close()


class Connection:
    """One client."""

    def __init__(self, service: Service, accepted: socket.socket, peer: Peer) -> None:
        accepted.setblocking(False)
        self.service = service
        self.peer = peer
        self.socket = accepted
        self.closed = False
        self._came_at: float | None = service.loop.time()
        self._exchange: Any = None
        self._file = accepted.fileno()
        self._came = bytearray()
        self._rest: deque[memoryview] = deque()
        self._ending = False
        self._reading = False
        self._read_on()

    @property
    def busy(self) -> bool:
        """Whether an exchange is going on or an answer is on its way."""
        return self._exchange is not None or bool(self._rest)

    @property
    def has_asked(self) -> bool:
        """Whether it has asked anything so far."""
        return self._came_at is None

    @property
    def fresh(self) -> bool:
        """Whether it has just come, and not asked anything yet."""
        return self._came_at is not None and self.service.loop.time() < self._came_at + _FRESH

    @property
    def cancels(self) -> bool:
        """Whether a cancel is under way, whose answer somebody waits for."""
        return isinstance(self._exchange, _exchanges.Cancelling)

    # --- what comes in

    def _read_on(self) -> None:
        """Listen, or not: while a whole request waits, the next one may wait in the client."""
        wanted = not self.closed and not self._ending and len(self._came) <= LONGEST
        if wanted != self._reading:
            self._reading = wanted
            if wanted:
                self.service.loop.add_reader(self._file, self._readable)
            else:
                self.service.loop.remove_reader(self._file)

    def _readable(self) -> None:
        try:
            data = self.socket.recv(_CHUNK)
        except (BlockingIOError, InterruptedError):
            return
        except OSError:
            data = b""
        if not data:
            self.close()
            return
        self._came += data
        self._take()

    def _take(self) -> None:
        """Begin the next exchange, if there is a request and nothing else goes on."""
        while not self.busy and not self.closed and not self._ending:
            line, found, rest = self._came.partition(b"\n")
            if len(line) > LONGEST:
                self._ending = True
                self.answer(Refused(text=f"a request may not be longer than {LONGEST} bytes", code="invalid"))
                break
            if not found:
                break
            self._came = rest
            if line.strip():
                self._begin(bytes(line))
        if not self.closed:
            self._read_on()

    def _begin(self, line: bytes) -> None:
        self._came_at = None
        try:
            request = _decode(line)
        except Exception as problem:
            text = f"not a request: {str(problem)[:300]} (this process speaks version {VERSION} of the protocol)"
            self.answer(Refused(text=text, code="invalid"))
            return
        try:
            self._exchange = _exchanges.begin(request, self)
        except _exchanges.Impossible as problem:
            self.answer(Refused(text=str(problem), code=problem.code))
        except Exception as problem:
            _logger.exception("a request at the control socket failed: %.200r", request)
            self.answer(Refused(text=f"it failed: {short(problem)}", code="failed"))

    # --- what goes out

    def answer(self, answer: Answer) -> None:
        """Send an answer; the last one of an exchange ends it."""
        if self.closed:
            return
        try:
            data = _encode(answer) + b"\n"
        except UnicodeEncodeError:  # a name that is no valid text, as those of files may be, must not hide all others
            data = _encode(valid(msgspec.to_builtins(answer))) + b"\n"
        if answer.last:
            self._exchange = None
        self._rest.append(memoryview(data))
        if len(self._rest) == 1:  # else it waits for its turn
            self._write()

    @property
    def lags(self) -> bool:
        """Whether the client has not yet taken what it was told before."""
        return bool(self._rest)

    def _write(self) -> None:
        rest = self._rest
        try:
            while rest:
                sent = self.socket.sendmsg(islice(rest, _PIECES))
                while rest and sent >= len(rest[0]):
                    sent -= len(rest.popleft())
                if sent:
                    rest[0] = rest[0][sent:]
        except (BlockingIOError, InterruptedError):
            self.service.loop.add_writer(self._file, self._writable)
            return
        except OSError:
            self.close()
            return
        if self._ending and not self.busy:
            self.close()

    def _writable(self) -> None:
        self.service.loop.remove_writer(self._file)
        self._write()
        self._take()

    # --- its end

    def finish(self) -> None:
        """The process ends."""
        self._ending = True
        exchange = self._exchange
        if exchange is not None:
            exchange.finish()
        if not self.busy:
            self.close()
        elif not self.closed:
            self._read_on()

    def close(self) -> None:
        """Hang up."""
        if self.closed:
            return
        self.closed = True
        self._read_on()
        self.service.loop.remove_writer(self._file)
        self.socket.close()
        exchange, self._exchange = self._exchange, None
        if exchange is not None:
            exchange.drop()
        self.service.gone(self)
