"""The function of a map on its way to the workers: pickled once, and known there and here by the name that users know."""

import pickle
import zlib
from collections.abc import Callable
from functools import partial
from typing import Any

from .._child.batch import MARK, one
from .._places.process.body import ProcessBody, _first_line
from .._places.process.facts import stamp_of
from .._places.process.packing import Packed, pack
from .._places.process.unpickling import may_block
from .._words.place import Sink, Work

__all__ = ["Call", "Sent"]


#: values of these run nothing when they are unpickled
_PLAIN = frozenset({bool, bytes, complex, float, int, str, type(None)})


class Sent:
    """The function of a map as it is sent: once pickled, however many items there are."""

    def __init__(self, function: Callable[[Any], Any], name: str, memory: int | None) -> None:
        self.memory = memory
        data, _ = pack(function, (), {}, name)
        self.data = zlib.compress(
            data, 1
        )  # also hides the name of the main script, for which the whole is pickled anew
        self.name = name
        self.first_line = _first_line(function)
        self.stamp = stamp_of(function)

    def sealed(self, items: list[Any]) -> bytes | list[Packed]:
        """The items of a batch: in one pickle where that runs no code of theirs, else each in one of its own.

        Raises:
            TypeError: one of them can't be pickled.
        """
        if _PLAIN.issuperset(map(type, items)):
            return pickle.dumps(items, 5)
        try:
            whole = pickle.dumps(items, 5)
        except Exception:
            pass
        else:
            if not may_block(whole):
                return whole
        return [pack(one, (b"", item), {}, self.name) for item in items]

    def one(self, item: Any) -> "Call":
        """Work that calls it with one item."""
        return Call(self, partial(pack, one, (self.data, item, self.memory), {}, self.name))


class Call(Work[Any]):
    """Work of our own in a worker that goes by the name of the user's function."""

    __slots__ = ("_heard", "_pack", "_sent")
    place = "process"

    def __init__(self, sent: Sent, packing: Callable[[], Any], heard: Callable[[], object] | None = None) -> None:
        self._sent = sent
        self._pack = packing
        self._heard = heard

    def open(self) -> "_Body":
        """The body; `TypeError` when something can't be sent."""
        body = _Body(self._pack(), self._sent.name, self._sent.first_line, self._sent.stamp)
        body.heard = self._heard
        return body


class _Body(ProcessBody):
    """A body that hears the words of a batch."""

    heard: Callable[[], object] | None = None

    def begin(self, sink: Sink) -> None:
        """As ever, with an ear between."""
        ear: Any = sink if self.heard is None else _Ear(sink, self.heard)
        super().begin(ear)


class _Ear:
    """Passes on what the worker says, but for the words of a batch."""

    def __init__(self, sink: Sink, heard: Callable[[], object]) -> None:
        self._sink = sink
        self._heard = heard

    def progressed(self, value: Any) -> None:
        """A report of the function, or a word of the batch."""
        if value == MARK:
            self._heard()
        else:
            self._sink.progressed(value)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._sink, name)
