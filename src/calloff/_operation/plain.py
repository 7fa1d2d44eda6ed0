"""What an operation was given or raised, as plain data that may be kept: it holds on to nothing of the program."""

from math import isfinite
from reprlib import Repr
from typing import Any

__all__ = ["in_words", "plain"]

_LONGEST = 1000
_EXACT = 1 << 53  # whole numbers up to here mean the same to every reader of JSON


def plain(value: Any) -> Any:
    """What was given to `progress`, as data: a number, a text, a pair of numbers; the text of anything else."""
    try:
        return _plain(value)
    except Exception:  # an object that can't even be looked at
        return type(value).__name__


def _plain(value: Any) -> Any:
    if value is None or isinstance(value, bool):
        return value
    if isinstance(value, str):
        return value[:_LONGEST]
    if _is_number(value):
        return value
    if isinstance(value, (tuple, list)) and len(value) == 2 and all(map(_is_number, value)):
        return tuple(value)
    return " ".join(_short.repr(value).split())[:_LONGEST]


def _is_number(value: Any) -> bool:
    if type(value) is int:
        return abs(value) <= _EXACT
    return type(value) is float and isfinite(value)


def in_words(error: BaseException) -> str:
    """Type and text of an error."""
    try:
        text = str(error)
    except Exception:
        text = ""
    name = type(error).__name__
    return f"{name}: {text}"[:_LONGEST] if text else name


_short = Repr()
_short.maxother = _short.maxstring = 200
