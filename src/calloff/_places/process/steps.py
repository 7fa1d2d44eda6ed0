"""Unpickling something large in steps, between which other threads have their turn.

C reads a pickle from a file, piece by piece, and asks us for each: what becomes an object of its own is copied there in
steps. A large text it would decode in one, which takes a third of a second where it has half a gigabyte. So a text is
made here: in its place C reads a number, and asks `persistent_load` for the object with that number.
"""

import pickle
from pickle import PickleBuffer
from struct import Struct
from typing import Any

__all__ = ["load_in_steps"]

#: bytes that are copied in one step, during which no other thread of Python code runs
_PIECE = 1 << 20
#: what a large text begins with in a pickle: an operation code and how many bytes it has
_TEXTS = {ord("X"): Struct("<I"), 0x8D: Struct("<Q")}
_NUMBERED = Struct("<cic")


def load_in_steps(data: Any, buffers: list[PickleBuffer] | None = None) -> Any:
    """What was pickled."""
    steps = _Steps(data)
    return _Unpickler(steps, steps.texts, buffers).load()


class _Unpickler(pickle.Unpickler):
    def __init__(self, steps: "_Steps", texts: list[str], buffers: list[PickleBuffer] | None) -> None:
        super().__init__(steps, buffers=buffers)  # type: ignore[arg-type]  # C takes a view for bytes
        self._texts = texts

    def persistent_load(self, number: int) -> str:
        """The text that stands there; it is asked for once."""
        text, self._texts[number] = self._texts[number], ""
        return text


class _Steps:
    """A pickle as a file."""

    def __init__(self, data: Any) -> None:
        self._data = memoryview(data)
        self._at = 0
        self._instead = b""
        #: those that were made here
        self.texts: list[str] = []

    def read(self, size: int = -1) -> bytes | memoryview:
        """That many bytes, without a copy; of many one is made: 3.15 lets that grow, and has the rest filled in."""
        if self._instead:
            part, self._instead = self._instead[:size], self._instead[size:]
            return part
        if size == 1 and self._make_text():
            return self.read(size)
        end = len(self._data) if size < 0 else self._at + size
        found = self._data[self._at : end]
        self._at += len(found)
        return found if 0 <= size < _PIECE else bytes(found)

    def readinto(self, target: Any) -> int:
        """Fill `target`."""
        size = min(len(target), len(self._data) - self._at)
        for begin in range(0, size, _PIECE):
            end = min(begin + _PIECE, size)
            target[begin:end] = self._data[self._at + begin : self._at + end]
        self._at += size
        return size

    def readline(self) -> bytes:
        """As far as the next end of a line."""
        part = bytes(self._data[self._at :]).partition(b"\n")
        return bytes(self.read(len(part[0]) + len(part[1])))

    def _make_text(self) -> bool:
        """Whether a large text comes, which was made now: what C reads of it is its number."""
        at = self._at
        kind = _TEXTS.get(self._data[at]) if at < len(self._data) else None
        if kind is None or at + 1 + kind.size > len(self._data):
            return False
        (size,) = kind.unpack_from(self._data, at + 1)
        begin = at + 1 + kind.size
        if size <= _PIECE or begin + size > len(self._data):
            return False
        self._instead = _NUMBERED.pack(b"J", len(self.texts), b"Q")
        self.texts.append(_decoded(self._data[begin : begin + size]))
        self._at = begin + size
        return True


def _decoded(data: memoryview) -> str:
    """A text of UTF-8."""
    parts: list[str] = []
    at = 0
    while at < len(data):
        end = min(at + _PIECE, len(data))
        while end < len(data) and data[end] & 0xC0 == 0x80:  # in the midst of a character
            end -= 1
        parts.append(str(data[at:end], "utf-8", "surrogatepass"))
        at = end
    return _joined(parts)


def _joined(parts: list[str]) -> str:
    """The parts as one text, into which one is copied after the other, where that can be had."""
    try:
        from ctypes import PYFUNCTYPE, c_ssize_t, c_uint32, c_void_p, cast, py_object, pythonapi

        make = PYFUNCTYPE(c_void_p, c_ssize_t, c_uint32)(("PyUnicode_New", pythonapi))
        copy = PYFUNCTYPE(c_ssize_t, c_void_p, c_ssize_t, py_object, c_ssize_t, c_ssize_t)(
            ("PyUnicode_CopyCharacters", pythonapi)
        )
        drop = PYFUNCTYPE(None, c_void_p)(("Py_DecRef", pythonapi))
        made = make(sum(map(len, parts)), max(map(_highest, parts)))
    except (ImportError, AttributeError):
        return "".join(parts)
    at = 0
    for part in parts:
        copy(made, at, part, 0, len(part))
        at += len(part)
    text: str = cast(made, py_object).value
    drop(made)
    return text


def _highest(text: str) -> int:
    """A character as wide as the widest of the text."""
    if text.isascii():
        return 0x7F
    size = text.__sizeof__()
    return 0xFF if size < 2 * len(text) else 0xFFFF if size < 4 * len(text) else 0x10FFFF
