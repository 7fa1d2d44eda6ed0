"""Frames on their way to a worker: what does not fit at once is sent when there is room."""

import socket
from asyncio import AbstractEventLoop
from collections import deque

from ..._child.wire import Part
from ..keeper import QUIET

__all__ = ["Frames"]


class Frames:
    """Sends to a worker. When that is dead nothing happens: its guard tells.

    Args:
        data: the socket to the worker, which does not block.
    """

    __slots__ = ("_data", "_rest")

    def __init__(self, data: socket.socket) -> None:
        self._data = data
        self._rest: deque[memoryview] = deque()

    def send(self, loop: AbstractEventLoop, *parts: Part) -> None:
        """Send the parts of a frame, one after the other."""
        try:
            if len(parts) == 1 and not self._rest:
                sent = self._data.send(parts[0], QUIET)
                if sent == len(parts[0]):
                    return
                parts = (memoryview(parts[0])[sent:],)
        except BlockingIOError:
            pass
        except OSError:
            return
        self._rest.extend(memoryview(part).cast("B") for part in parts)
        self._write(loop)

    def _write(self, loop: AbstractEventLoop) -> None:
        rest = self._rest
        waited = False
        try:
            while rest:
                sent = self._data.send(rest[0], QUIET)
                if sent == len(rest[0]):
                    rest.popleft()
                else:
                    rest[0] = rest[0][sent:]
        except BlockingIOError:
            waited = True
        except OSError:
            rest.clear()
        if waited:
            loop.add_writer(self._data.fileno(), self._write, loop)
        else:
            loop.remove_writer(self._data.fileno())
