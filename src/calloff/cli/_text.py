"""Texts that fit in a line of a terminal. What programs report and name themselves is never let through as it is."""

import os
import unicodedata
from typing import Any, TextIO

from .._words.text import clean, printable

__all__ = ["cells", "clean", "fit", "is_coloured", "printable", "progress_text"]


def is_coloured(stream: TextIO) -> bool:
    """Whether colours are wanted there: on a terminal that has them, unless ``NO_COLOR`` is set; or by ``FORCE_COLOR``."""
    if os.environ.get("NO_COLOR"):
        return False
    return bool(os.environ.get("FORCE_COLOR")) or (stream.isatty() and os.environ.get("TERM", "") not in ("", "dumb"))


def progress_text(value: Any, bar: int) -> str:
    """What was given to `progress`: a share of the whole in per cent, with a bar of that width, anything else as it is."""
    share, told = None, ""
    if _is_number(value):
        share, told = (value, "") if 0 <= value <= 1 else (None, _plain(value))
    elif isinstance(value, (tuple, list)) and len(value) == 2 and all(map(_is_number, value)):
        done, total = value
        share, told = done / total if total > 0 else None, f"{_plain(done)}/{_plain(total)}"
    elif value is not None:
        told = clean(value if isinstance(value, str) else repr(value))
    if share is None:
        return told
    share = min(1.0, max(0.0, share))
    filled = round(share * bar)
    drawn = f"[{'#' * filled}{'.' * (bar - filled)}]" if bar else ""
    return " ".join(part for part in (drawn, f"{share:.0%}", told) if part)


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def _plain(number: float) -> str:
    return str(number) if isinstance(number, int) else f"{number:g}"


def fit(text: str, width: int) -> str:
    """The text cut to so many columns of a terminal, wide characters counted as two."""
    if sum(map(cells, text)) <= width:
        return text
    room = width - 1  # for what shows that something is missing
    for index, char in enumerate(text):
        room -= cells(char)
        if room < 0:
            return text[:index] + "…" if width > 1 else ""
    return ""


def cells(char: str) -> int:
    """The columns that a character takes."""
    if unicodedata.combining(char) or unicodedata.category(char) in ("Mn", "Me", "Cf"):
        return 0
    return 2 if unicodedata.east_asian_width(char) in "WF" else 1
