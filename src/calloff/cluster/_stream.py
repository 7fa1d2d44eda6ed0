"""Two files that never block, as a stream of bytes: what agents and most carriers read and write."""

import os
from asyncio import AbstractEventLoop
from collections import deque
from collections.abc import Callable, Sequence

__all__ = ["Part", "Stream"]

Part = bytes | memoryview
_CHUNK = 1 << 18


class Stream:
    """Reads and writes on a loop; all its methods belong to the thread of that.

    Args:
        loop: it listens there.
        reading: the number of the file that is read; closed by `close`.
        writing: that of the file that is written; may be the same.
        heard: called with what has come.
        ended: called once, in words, when nothing more will come and `close` was not called.
    """

    def __init__(
        self,
        loop: AbstractEventLoop,
        reading: int,
        writing: int,
        heard: Callable[[bytes], None],
        ended: Callable[[str], None],
    ) -> None:
        self._loop = loop
        self._reading, self._writing = reading, writing
        self._heard, self._ended = heard, ended
        self._rest: deque[memoryview] = deque()
        self._closed = False
        for file in {reading, writing}:
            os.set_blocking(file, False)
        loop.add_reader(reading, self._readable)

    def write(self, parts: Sequence[Part]) -> None:
        """Send this after everything that was sent before."""
        if self._closed:
            return
        waits = bool(self._rest)
        self._rest.extend(memoryview(part).cast("B") for part in parts if len(part))
        if not waits:
            self._write()

    def _write(self) -> None:
        rest = self._rest
        try:
            while rest:
                sent = os.write(self._writing, rest[0])
                if sent == len(rest[0]):
                    rest.popleft()
                else:
                    rest[0] = rest[0][sent:]
        except (BlockingIOError, InterruptedError):
            self._loop.add_writer(self._writing, self._write)
            return
        except OSError:  # the end of what is read tells
            rest.clear()
        self._loop.remove_writer(self._writing)

    def _readable(self) -> None:
        try:
            data = os.read(self._reading, _CHUNK)
        except (BlockingIOError, InterruptedError):
            return
        except OSError as error:
            self._end(error.strerror or str(error))
            return
        if data:
            self._heard(data)
        else:
            self._end("the stream ended")

    def _end(self, why: str) -> None:
        self.close()
        self._ended(why)

    def close(self) -> None:
        """Read and write no more."""
        if self._closed:
            return
        self._closed = True
        self._rest.clear()
        if not self._loop.is_closed():
            self._loop.remove_reader(self._reading)
            self._loop.remove_writer(self._writing)
        for file in {self._reading, self._writing}:
            os.close(file)
