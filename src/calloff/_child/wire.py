"""The messages between an owner and its children.

Two kinds. A *letter* is a short tuple of plain values, by `marshal` (both ends run the same interpreter), with its
length before it; owner and guard write letters. A *frame* carries work and results: a short tuple of plain values, a
pickle, and the large buffers that the pickle refers to (pickle protocol 5, out of band), each of which is received
right into the memory that the object will keep. There is at most one frame on its way in each direction, so a reader
never reads past the end of one. A small one is *brief*: `marshal` writes all of it in one.
"""

import io
import marshal
import signal
from _socket import socket as Socket
from collections.abc import Sequence
from pickle import PickleBuffer
from struct import Struct
from typing import Any

__all__ = [
    "ASK",
    "DEAF",
    "DUMP",
    "LOOK",
    "SLACK",
    "SMALL",
    "VERSION",
    "Letters",
    "Part",
    "Reader",
    "frame",
    "letter",
    "parts_of",
    "reminder",
]

#: what a worker is signalled with: look at your page; write your stack; have C write it. Of all signals these are
#: used least.
ASK, LOOK, DUMP = (int(getattr(signal, "SIGRTMAX", 64)) - below for below in (3, 4, 5))

#: seconds of processor time without an answer to a signal that show that no Python code runs in a worker
DEAF = 0.003

#: seconds after which a guard asks, or uses force, by itself, when the owner should have done so
SLACK = 0.05

_LENGTH = Struct("<I")
_HEAD = Struct("<IIQ")  # bytes of the tuple, number of buffers, bytes of the pickle
_SIZES = Struct("<Q")
_READONLY = 1 << 63
_CHUNK = 1 << 16
#: bytes that are copied in no time: a pickle with less goes in a brief frame
SMALL = 1 << 12
#: what a brief frame begins with, as each tuple of eight that marshal writes; and any other one, between owner and worker
_BRIEF, _LONG = b"(\x08\0\0\0", b"\0\xca\x11"
_loads = marshal.loads
#: of marshal: one in which each object stands for itself, which is quicker to write
VERSION = 2
#: bytes after which others have their turn: so many take a few milliseconds to receive
_TURN = 1 << 22

Part = bytes | memoryview


def letter(*parts: Any) -> bytes:
    """A letter ready to be sent."""
    body = marshal.dumps(parts, VERSION)
    return _LENGTH.pack(len(body)) + body


def reminder(deadline: float) -> tuple[float, int, tuple[Any, ...]]:
    """When a guard asks a function in the place of its owner, who has not come to it; how, and why."""
    return deadline + SLACK, ASK, ("deadline", "its deadline has passed", None, deadline)


class Letters:
    """Puts letters together from what arrives."""

    __slots__ = ("_held",)

    def __init__(self) -> None:
        self._held = b""

    def feed(self, data: bytes) -> list[tuple[Any, ...]]:
        """The letters that are complete now."""
        held = self._held + data if self._held else data
        found: list[tuple[Any, ...]] = []
        at = 0
        while len(held) - at >= 4:
            end = at + 4 + int(_LENGTH.unpack_from(held, at)[0])
            if len(held) < end:
                break
            found.append(marshal.loads(held[at + 4 : end]))
            at = end
        self._held = held[at:]
        return found


def frame(meta: tuple[Any, ...], body: bytes, buffers: Sequence[PickleBuffer] = ()) -> list[Part]:
    """A frame as the parts to send one after the other; nothing large is copied."""
    head = marshal.dumps(meta, VERSION)
    if not buffers:
        start = _HEAD.pack(len(head), 0, len(body)) + head
        return [start + body] if len(body) < _CHUNK else [start, memoryview(body)]
    raws = [buffer.raw() for buffer in buffers]
    sizes = b"".join(_SIZES.pack(raw.nbytes | (_READONLY if raw.readonly else 0)) for raw in raws)
    start = _HEAD.pack(len(head), len(raws), len(body)) + head + sizes
    return [start, memoryview(body), *(raw for raw in raws if raw.nbytes)]


def parts_of(meta: tuple[Any, ...], body: bytes, buffers: Sequence[PickleBuffer] = ()) -> list[Part]:
    """A frame between owner and worker, as the parts to send one after the other: brief where it can be.

    `meta` has six values, each way.

    Who knows that a frame is brief writes it by `marshal` without this call: ``dumps((*meta, body, ()), VERSION)``, where
    the body may be any plain value that takes no more than a few kilobytes: each call would cost as much as what it does.
    """
    if not buffers and len(body) < SMALL:
        return [marshal.dumps((*meta, body, ()), VERSION)]
    parts = frame(meta, body, buffers)
    parts[0] = _LONG + parts[0]
    return parts


class Reader:
    """Reads what `parts_of` makes from a socket, one frame after the other, blocking or not as the socket is."""

    __slots__ = ("_filled", "_head", "_meta", "_pending", "_socket", "is_last")

    def __init__(self, socket: Socket) -> None:
        self._socket = socket
        #: reads on as long as there is something: nobody calls again for the rest
        self.is_last: bool = socket.gettimeout() is None
        self._reset()

    def _reset(self) -> None:
        self._head = b""
        self._meta: tuple[Any, ...] | None = None
        self._pending: list[_Space] = []
        self._filled = 0

    def read(self) -> tuple[Any, ...] | None:
        """The next frame: the values of its tuple, the pickle, and the buffers for that, if there are any.

        ``None`` when a socket that does not block has no more for now.

        Of a large one no more than a part is read from such a socket at a time, so that others have their turn; but for
        `is_last`.

        Raises:
            EOFError: the other side is gone.
            ValueError: what came is none, nor the beginning of one.
        """
        try:
            while self._meta is None:
                data = self._socket.recv(_CHUNK)
                if not data:
                    raise EOFError
                if self._head:
                    data = self._head + data
                if not data.startswith(_BRIEF):
                    found = self._begin(data)
                    if found is not None:
                        return found
                    continue
                try:
                    whole: tuple[Any, ...] = _loads(data)
                except EOFError:  # it is not all there
                    self._head = data
                    continue
                if self._head:
                    self._head = b""
                return whole
            turn = _TURN
            while self._filled < len(self._pending):
                space = self._pending[self._filled]
                while space.left:
                    if turn <= 0 and not self.is_last:
                        return None
                    count = self._socket.recv_into(space.left)
                    if not count:
                        raise EOFError
                    space.left = space.left[count:]
                    turn -= count
                self._filled += 1
        except (BlockingIOError, InterruptedError):
            return None
        meta, spaces = self._meta, self._pending
        self._reset()
        body, *buffers = [space.take() for space in spaces]
        return *meta, body, buffers

    def _begin(self, data: bytes) -> tuple[Any, ...] | None:
        """Take the head of a frame apart; the whole frame when it is small and all there."""
        self._head = data
        first = len(_LONG)
        if not data.startswith(_LONG) and not any(each.startswith(data) for each in (_BRIEF, _LONG)):
            raise ValueError(f"no frame begins with {data[:first]!r}")
        if len(data) < first + _HEAD.size:
            return None
        meta_size, count, body_size = _HEAD.unpack_from(data, first)
        at = first + _HEAD.size + meta_size
        start = at + 8 * count
        if len(data) < start:
            return None
        meta = marshal.loads(data[first + _HEAD.size : at])
        if not count and len(data) == start + body_size:
            self._head = b""
            return *meta, memoryview(data)[start:], []
        sizes = [(body_size, True)]
        for index in range(count):
            size = int(_SIZES.unpack_from(data, at + 8 * index)[0])
            sizes.append((size & ~_READONLY, bool(size & _READONLY)))
        self._pending = [_Space(size, readonly) for size, readonly in sizes]
        self._filled = 0
        rest = memoryview(data)[start:]
        for space in self._pending:
            count = min(len(rest), len(space.left))
            space.left[:count] = rest[:count]
            space.left = space.left[count:]
            rest = rest[count:]
        self._head = b""
        self._meta = meta
        return None


class _Space:
    """Memory to receive into that becomes the object itself: `bytes` or a `bytearray`.

    The memory of large ones is not touched before something comes: the system gives it page by page then.
    """

    __slots__ = ("_memory", "_view", "left")

    def __init__(self, size: int, readonly: bool) -> None:
        self._memory: io.BytesIO | bytearray
        if readonly:
            self._memory = io.BytesIO(
                bytes(size)
            )  # nobody else has these bytes: they are not copied, here or in the end
            self._view = self._memory.getbuffer()
        else:
            self._memory = _untouched(size) if size > _TURN else bytearray(size)
            self._view = memoryview(self._memory)
        self.left = self._view

    def take(self) -> Any:
        """The object, without a copy."""
        self.left = memoryview(b"")
        self._view.release()
        return self._memory.getvalue() if isinstance(self._memory, io.BytesIO) else self._memory


def _untouched(size: int) -> bytearray:
    """As long as that, and not filled with zeros, where that can be had."""
    try:
        import ctypes

        make = ctypes.PYFUNCTYPE(ctypes.py_object, ctypes.c_void_p, ctypes.c_ssize_t)
        found: bytearray = make(("PyByteArray_FromStringAndSize", ctypes.pythonapi))(None, size)
    except (ImportError, AttributeError, OSError):
        return bytearray(size)
    return found
