"""The function of a map on its way to the workers: pickled once, and known there and here by the name that users know."""

import pickle
import zlib
from collections.abc import Callable
from functools import partial
from typing import Any

from .._child.batch import MARK, one
from .._child.short import short_call
from .._places.process import codeless
from .._places.process.body import ProcessBody, _first_line
from .._places.process.facts import stamp_of
from .._places.process.packing import Packed, out_of_reach, pack, pack_quickly
from .._places.process.unpickling import may_block
from .._words.place import Sink, Work
from .flight import Flight

__all__ = ["Call", "Sent", "Unsealed"]

#: values of these run nothing when they are unpickled
_PLAIN = frozenset({bool, bytes, complex, float, int, str, type(None)})


class Unsealed(Exception):
    """Items run code of the program when they are pickled: those of these numbers."""

    def __init__(self, numbers: list[int]) -> None:
        super().__init__(numbers)
        self.numbers = numbers


class Sent:
    """The function of a map as it is sent: once pickled, however many items there are."""

    def __init__(self, function: Callable[[Any], Any], name: str, memory: int | None) -> None:
        self.memory = memory
        data, _ = pack(function, (), {}, name)
        #: if workers find it by its name
        self.function = function if out_of_reach(function) is None else None
        self.data = zlib.compress(
            data, 1
        )  # also hides the name of the main script, for which the whole is pickled anew
        self.name = name
        self.first_line = _first_line(function)
        self.stamp = stamp_of(function)

    def sealed(self, items: list[Any], who: list[Any]) -> bytes | list[Packed]:
        """The items of a batch: in one pickle where that runs no code of theirs, else each in one of its own.

        Raises:
            Unsealed: some of them run code of the program when they are pickled.
        """
        if _PLAIN.issuperset(map(type, items)):
            return pickle.dumps(items, 5)
        try:
            whole = codeless.dumps(items)
        except Exception:
            pass
        else:
            if not may_block(whole):
                return whole
        found = [self._known(item, known) for item, known in zip(items, who, strict=True)]
        if None in found:
            raise Unsealed([number for number, packed in enumerate(found) if packed is None])
        for known in who:
            if type(known) is Flight:
                known.packed = None  # it is on its way
        return found  # type: ignore[return-value]  # there is no None in it

    def _known(self, item: Any, known: Any) -> Packed | None:
        if type(known) is Flight and known.packed is not None:
            packed: Packed = known.packed
            return packed
        return pack_quickly(one, (b"", item))

    def seal(self, item: Any) -> Packed:
        """One item of a batch, whatever has to run for it.

        Raises:
            TypeError: it can't be pickled.
        """
        return pack(one, (b"", item), {}, self.name, item=1)

    def one(self, item: Any, packed: Packed | None = None) -> "Call":
        """Work that calls it with one item."""
        return Call(self, partial(self.pack_one, item) if packed is None else lambda: packed)

    def pack_one(self, item: Any) -> Packed:
        """The call with one item, whatever has to run for it.

        Raises:
            TypeError: it can't be pickled.
        """
        if type(item) in _PLAIN:
            short = self._short_one(item)
            if short is not None:
                return short, []
        return pack(one, (self.data, item, self.memory), {}, self.name, item=1)

    def _short_one(self, item: Any) -> bytes | None:
        """The call in short form, where it has one: of the function itself, if its name leads to it, or by way of `one`."""
        function = self.function
        if self.memory is None and function is not None:
            short = short_call(function, (item,), {})
            if short is not None:
                return short
        return short_call(one, (self.data, item, self.memory), {})

    def is_sealed(self, flight: Flight) -> bool:
        """Whether it can be sent without running code of the program."""
        if flight.packed is None and type(flight.item) not in _PLAIN:
            flight.packed = pack_quickly(one, (self.data, flight.item, self.memory))
            return flight.packed is not None
        return True


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
