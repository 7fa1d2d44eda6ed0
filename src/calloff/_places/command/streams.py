"""The owner's ends of a command's standard streams. None of them blocks, none waits for an end that may never come.

A pipe that a command writes to may be held open by what it has started. So the end of the stream is not waited for:
when the whole tree is dead, the rest is read and the pipe closed.
"""

import os
from asyncio import AbstractEventLoop, Future
from collections import deque
from collections.abc import AsyncIterator
from contextvars import Context

from ..._os.fds import pipe, write

__all__ = ["Captured", "Feed", "Reading", "Writing"]

_CHUNK = 1 << 16


def _waits(waiter: "Future[None]") -> bool:
    """Whether anybody can hear of the end of waiting: not when the loop was closed."""
    return not waiter.done() and not waiter.get_loop().is_closed()


class _Pipe:
    """A pipe's end that the loop looks after."""

    def __init__(self) -> None:
        self._loop: AbstractEventLoop | None = None
        self._file = -1
        self._watched = False

    def close(self) -> None:
        """Let go of it."""
        if self._file >= 0:
            self._unwatch()
            os.close(self._file)
            self._file = -1

    def _watch(self) -> None:
        raise NotImplementedError

    def _unwatch(self) -> None:
        raise NotImplementedError


class _Output(_Pipe):
    """What a command writes."""

    def attach(self, loop: AbstractEventLoop) -> int:
        """Make the pipe; returns the command's end of it."""
        self._loop = loop
        self._file, theirs = pipe()
        os.set_blocking(self._file, False)
        self._watch()
        return theirs

    def finish(self) -> None:
        """Everybody who could write is dead: take what is left and close."""
        while self._file >= 0 and self._read():
            pass
        self.close()

    def _watch(self) -> None:
        assert self._loop is not None
        if not self._watched:
            self._watched = True
            Context().run(self._loop.add_reader, self._file, self._readable)

    def _unwatch(self) -> None:
        if self._watched:
            self._watched = False
            if self._loop is not None and not self._loop.is_closed():
                self._loop.remove_reader(self._file)

    def _readable(self) -> None:
        if self._file >= 0:
            self._read()

    def _read(self) -> bool:
        try:
            data = os.read(self._file, _CHUNK)
        except BlockingIOError:
            return False
        if not data:
            self.close()
            return False
        self._took(data)
        return True

    def _took(self, data: bytes) -> None:
        raise NotImplementedError


class Captured(_Output):
    """Keeps the last `limit` bytes."""

    def __init__(self, limit: int) -> None:
        super().__init__()
        self._limit = limit
        self._chunks: deque[bytes] = deque()
        self._size = 0
        self.dropped = 0

    def _took(self, data: bytes) -> None:
        self._chunks.append(data)
        self._size += len(data)
        while self._size > self._limit:
            first = self._chunks.popleft()
            over = min(self._size - self._limit, len(first))
            if over < len(first):
                self._chunks.appendleft(first[over:])
            self._size -= over
            self.dropped += over

    def value(self) -> bytes:
        """What was kept."""
        return b"".join(self._chunks)


class Reading(_Output, AsyncIterator[bytes]):
    """What a command writes, read while it runs: ``async for line in work.stdout``.

    A command that writes faster than it is read is held up once `limit` bytes wait here.
    """

    def __init__(self, limit: int) -> None:
        super().__init__()
        self._limit = limit
        self._buffer = bytearray()
        self._searched = 0
        self._ended = False
        self._waiter: Future[None] | None = None

    def __aiter__(self) -> "Reading":
        return self

    async def __anext__(self) -> bytes:
        """The next line with its end, or what there is without one at the end; at most `limit` bytes at a time."""
        while True:
            at = self._buffer.find(b"\n", self._searched)
            if at >= 0:
                return self._take(at + 1)
            self._searched = len(self._buffer)
            if len(self._buffer) >= self._limit or (self._ended and self._buffer):
                return self._take(len(self._buffer))
            if self._ended:
                raise StopAsyncIteration
            await self._more()

    async def read(self, size: int = -1) -> bytes:
        """At most `size` bytes as soon as there are any, or all until the end with -1; empty at the end."""
        while not self._ended and (size < 0 or not self._buffer):
            if size < 0 and not self._watched and self._file >= 0:
                self._watch()  # it is all wanted, however much that is
            await self._more()
        return self._take(len(self._buffer) if size < 0 else min(size, len(self._buffer)))

    def _take(self, size: int) -> bytes:
        data = bytes(self._buffer[:size])
        del self._buffer[:size]
        self._searched = 0
        if self._file >= 0 and len(self._buffer) < self._limit:
            self._watch()
        return data

    async def _more(self) -> None:
        if self._loop is None:
            raise RuntimeError("the command was not started: calloff.start(work) comes first")
        if self._waiter is not None:
            raise RuntimeError("the stream is read by another task already")
        self._waiter = self._loop.create_future()
        try:
            await self._waiter
        finally:
            self._waiter = None

    def _took(self, data: bytes) -> None:
        self._buffer += data
        if len(self._buffer) >= self._limit:
            self._unwatch()
        self._wake()

    def close(self) -> None:
        """No more will come."""
        super().close()
        self._ended = True
        self._wake()

    def _wake(self) -> None:
        if self._waiter is not None and _waits(self._waiter):
            self._waiter.set_result(None)


class _Input(_Pipe):
    """What a command reads."""

    def __init__(self, data: bytes = b"") -> None:
        super().__init__()
        self._data = memoryview(data)

    def attach(self, loop: AbstractEventLoop) -> int:
        """Make the pipe; returns the command's end of it."""
        self._loop = loop
        theirs, self._file = pipe()
        os.set_blocking(self._file, False)
        self._write()
        return theirs

    def finish(self) -> None:
        """Nobody reads any more."""
        self.close()

    def _watch(self) -> None:
        assert self._loop is not None
        if not self._watched:
            self._watched = True
            Context().run(self._loop.add_writer, self._file, self._write)

    def _unwatch(self) -> None:
        if self._watched:
            self._watched = False
            if self._loop is not None and not self._loop.is_closed():
                self._loop.remove_writer(self._file)

    def _write(self) -> None:
        try:
            while self._data:
                self._data = self._data[write(self._file, self._data[:_CHUNK]) :]
        except BlockingIOError:
            self._watch()
            return
        except OSError:  # nobody reads it: that is the command's business
            self.close()
            return
        self._unwatch()
        self._written()

    def _written(self) -> None:
        raise NotImplementedError


class Feed(_Input):
    """Bytes that are given to a command, and then the end."""

    def _written(self) -> None:
        self.close()


class Writing(_Input):
    """What a command reads, written while it runs: ``await work.stdin.write(b"...")``."""

    def __init__(self) -> None:
        super().__init__()
        self._waiter: Future[None] | None = None
        self._closing = False

    async def write(self, data: bytes | bytearray | memoryview) -> None:
        """Write, and wait until the pipe has taken it.

        Called off meanwhile, the rest is written all the same, before what is written next.

        Args:
            data: what is written, in bytes.

        Raises:
            BrokenPipeError: the command has closed it or has ended.
        """
        if self._loop is None:
            raise RuntimeError("the command was not started: calloff.start(work) comes first")
        if self._file < 0 or self._closing:
            raise BrokenPipeError("the command reads no more")
        if self._waiter is not None:
            raise RuntimeError("the stream is written by another task already")
        try:
            more = data if type(data) is bytes else bytes(memoryview(data))
        except TypeError:
            raise TypeError(f"a command reads bytes, not {type(data).__name__}") from None
        self._data = memoryview(bytes(self._data) + more if self._data else more)
        self._waiter = self._loop.create_future()
        try:
            self._write()
            await self._waiter
        finally:
            self._waiter = None

    def end(self) -> None:
        """Nothing more will come: the command reads the end of its input, behind what is still to be written."""
        self._closing = True
        if not self._data:
            super().close()

    def close(self) -> None:
        """Nobody reads any more."""
        super().close()
        if self._waiter is not None and _waits(self._waiter):
            self._waiter.set_exception(BrokenPipeError("the command reads no more"))

    def _written(self) -> None:
        if self._closing:
            super().close()
        if self._waiter is not None and _waits(self._waiter):
            self._waiter.set_result(None)
