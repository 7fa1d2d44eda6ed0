"""Texts of others (names, reasons, errors, paths, source lines, values) are data wherever they are shown.

A text method of a foreign object may raise anything, or take for ever. So `plain` runs none: an object that is no plain
data is shown by the name of its class, and nothing of the program is held on to. `short` and `in_words` do ask an object
for its text, where a person needs that text, and never raise. `clean` and `printable` take what a terminal would obey.
"""

from math import isfinite
from reprlib import Repr
from typing import Any

__all__ = ["clean", "in_words", "name_of", "plain", "printable", "short", "text_of"]

_LONGEST = 1000
_SHORT = 200
_EXACT = 1 << 53  # whole numbers up to here mean the same to every reader of JSON
_BUILTIN = frozenset({int, float, complex, bytes, bytearray, bool, type(None)})


def clean(text: str) -> str:
    """In one line, and nothing that a terminal would obey."""
    return printable(" ".join(text.split()))


def printable(text: str) -> str:
    """Nothing that a terminal would obey."""
    return text if text.isprintable() else "".join(char if char.isprintable() else " " for char in text)


def plain(value: Any) -> Any:
    """What was given to `progress`, as data: a number, a text, a pair of numbers; the text of anything else."""
    kind = type(value)
    if value is None or kind is bool:
        return value
    if kind is str:
        return value[:_LONGEST]
    if _is_number(value):
        return value
    if kind in (tuple, list) and len(value) == 2 and all(map(_is_number, value)):
        return tuple(value)
    return " ".join(_plain.repr(value).split())[:_LONGEST]


def _is_number(value: Any) -> bool:
    if type(value) is int:
        return abs(value) <= _EXACT
    return type(value) is float and isfinite(value)


def short(value: object) -> str:
    """The repr of an object, cut; never raises."""
    try:
        text = repr(value)
    except BaseException:  # a cancel or KeyboardInterrupt, too, that its own code raises there
        return f"<{type(value).__name__}>"
    return text if len(text) <= _SHORT else f"{text[: _SHORT - 1]}…"


def text_of(value: object) -> str:
    """The text of an object, cut; never raises."""
    try:
        return (value if type(value) is str else str(value))[:_LONGEST]
    except BaseException:
        return f"<{type(value).__name__}>"


def in_words(error: BaseException) -> str:
    """Type and text of an error; never raises."""
    name = type(error).__name__
    try:
        text = str(error)
    except BaseException:
        text = ""
    return f"{name}: {text}"[:_LONGEST] if text else name


def name_of(name: object) -> str:
    """Check the name given for an operation; a long one is cut.

    Raises:
        TypeError: it is no text. The caller's fault.
    """
    if type(name) is not str:
        if not isinstance(name, str):
            raise TypeError(f"name must be a text, not {short(name)}")
        name = str.__str__(name)
    return name if len(name) <= _SHORT else name[: _SHORT - 1] + "…"


class _Plain(Repr):
    """Shows containers of plain data, and of anything else the name of its class."""

    def __init__(self) -> None:
        super().__init__()
        self.maxother = self.maxstring = _SHORT

    def repr1(self, x: Any, level: int) -> str:
        kind = type(x)
        if kind in _CONTAINERS or kind is str or kind is int:
            return super().repr1(x, level)
        if kind in _BUILTIN:
            return repr(x)[:_SHORT]
        return f"<{kind.__name__}>"


_CONTAINERS = frozenset({tuple, list, set, frozenset, dict})
_plain = _Plain()
