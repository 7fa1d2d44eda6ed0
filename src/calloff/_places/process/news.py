"""What a worker tells beside its results, in packets: that it is ready, and what its function reports."""

import pickle
import socket
from typing import NamedTuple

from ..._words.place import Sink
from .unpickling import report_progress

__all__ = ["News", "Packet"]

#: the kinds: work may come, and where; progress; what has helped the function to end. Any other asks for a stop
_READY, _PROGRESSED, _HELPED = b"R", b"P", b"H"
_LONGEST = 1 << 18


class Packet(NamedTuple):
    """One of them.

    Attributes:
        kind: the first byte.
        number: that of the job; of one that is ready, that of the process.
        data: a pickle.
    """

    kind: bytes
    number: int
    data: bytes

    @property
    def is_ready(self) -> bool:
        """Whether it says that work may come."""
        return self.kind == _READY

    def pass_on(self, sink: Sink) -> None:
        """Tell what the function reports; what can't be unpickled here is left out."""
        if self.kind == _PROGRESSED:
            report_progress(self.data, sink)
            return
        try:
            value = pickle.loads(self.data)
        except Exception:
            return
        if self.kind == _HELPED:
            sink.helped(value)
        else:
            text, grace = value
            sink.cancel(text, grace=grace)


class News:
    """Reads packets.

    Args:
        own: our end of the socket, which does not block.
    """

    __slots__ = ("_socket",)

    def __init__(self, own: socket.socket) -> None:
        self._socket = own

    def read(self) -> Packet | None:
        """The next one; ``None`` when there is none for now.

        Raises:
            EOFError: the worker is gone.
        """
        try:
            message = self._socket.recv(_LONGEST)
        except BlockingIOError:
            return None
        except OSError:
            message = b""
        if not message:
            raise EOFError
        return Packet(message[:1], int.from_bytes(message[1:9], "little"), message[9:])

    def close(self) -> None:
        """No more of them."""
        self._socket.close()
