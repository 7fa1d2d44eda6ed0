"""Frames over a stream of bytes, in either direction: a short tuple of plain values, a pickle, and its large buffers.

They are written like those to a worker (`calloff._child.wire`); here many may follow one another, in pieces of any size.
"""

import marshal
from struct import Struct
from typing import Any

__all__ = ["Frame", "Frames"]

Frame = tuple[tuple[Any, ...], Any, list[Any]]
"""The tuple, the pickle, the buffers for it."""

_HEAD = Struct("<IIQ")
_SIZES = Struct("<Q")
_READONLY = 1 << 63


class Frames:
    """Puts frames together from what arrives."""

    def __init__(self) -> None:
        self._chunks: list[bytes] = []
        self._size = 0
        self._need = _HEAD.size

    def feed(self, data: bytes) -> list[Frame]:
        """The frames that are complete now."""
        self._chunks.append(data)
        self._size += len(data)
        if self._size < self._need:
            return []
        held = memoryview(self._chunks[0] if len(self._chunks) == 1 else b"".join(self._chunks))
        found: list[Frame] = []
        at = 0
        while len(held) - at >= (need := _needed(held[at:])):
            if need > _HEAD.size:
                found.append(_taken_apart(held[at : at + need]))
                at += need
            else:
                break
        self._chunks, self._size, self._need = [bytes(held[at:])], len(held) - at, need
        return found


def _needed(held: memoryview) -> int:
    """How many bytes the frame that begins here has, as far as that is known."""
    if len(held) < _HEAD.size:
        return _HEAD.size
    meta, count, body = _HEAD.unpack_from(held)
    start = _HEAD.size + int(meta)
    if len(held) < start + 8 * count:
        return start + 8 * int(count) + int(body) + 1
    return start + 8 * int(count) + int(body) + sum(_sizes(held, start, count))


def _sizes(held: memoryview, start: int, count: int) -> list[int]:
    return [int(_SIZES.unpack_from(held, start + 8 * each)[0]) & ~_READONLY for each in range(count)]


def _taken_apart(held: memoryview) -> Frame:
    meta_size, count, body_size = _HEAD.unpack_from(held)
    start = _HEAD.size + meta_size
    meta = marshal.loads(held[_HEAD.size : start])
    at = start + 8 * count
    body = bytes(held[at : at + body_size])
    at += body_size
    buffers: list[Any] = []
    for each, size in enumerate(_sizes(held, start, count)):
        readonly = int(_SIZES.unpack_from(held, start + 8 * each)[0]) & _READONLY
        buffers.append((bytes if readonly else bytearray)(held[at : at + size]))
        at += size
    return meta, body, buffers
