"""What stands in a row, as text and the name of a style: plain functions of a record, without a screen.

The names of styles are those of the classes in `_table`. All texts come from other programs: what can't be printed is
replaced, so that no name moves the cursor.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from os.path import basename, relpath
from typing import Any

from rich.cells import cell_len, set_cell_size

from .._words.durations_text import brief as seconds
from ..control import Frame, Row
from ..control._verdict import at

__all__ = ["Column", "Piece", "cells", "clean", "columns", "fitted", "line", "path", "seconds", "share"]

Piece = tuple[str, str]
"""A text and the name of its style; the empty name is plain text."""
BAR = 6
_DEEPEST = 4  # further down a name would have no room


@dataclass(frozen=True, slots=True)
class Column:
    """A column of the table.

    Attributes:
        title: its heading.
        width: in cells; 0 takes what is left.
        sort: by what a click on it sorts; empty for nothing.
        draw: what stands in it; the number is the depth of the row in the tree.
        right: whether it is aligned to the right.
    """

    title: str
    width: int
    sort: str
    draw: Callable[[Row, int], list[Piece]]
    right: bool = False


def clean(text: str) -> str:
    """One printable line."""
    return "".join(char if char.isprintable() else " " if char in "\n\t" else "·" for char in text)


def fitted(text: str, width: int) -> str:
    """Cut to so many cells, and it shows that something is missing."""
    if cell_len(text) <= width:
        return text
    return set_cell_size(text, width - 1) + "…" if width > 0 else ""


def share(progress: Any) -> float | None:
    """How much is done, from 0 to 1, if the report of progress says so."""
    if isinstance(progress, (int, float)) and not isinstance(progress, bool):
        return float(progress) if 0 <= progress <= 1 else None
    if isinstance(progress, (list, tuple)) and len(progress) == 2:
        done, total = progress
        if isinstance(done, (int, float)) and isinstance(total, (int, float)) and total > 0:
            return min(1.0, max(0.0, done / total))
    return None


def line(frame: Frame | None) -> str:
    """As short as a column wants it: ``work.py:12 total += 1``; of a command its command line."""
    if frame is None or not frame.line:
        return at(frame)
    return clean(f"{basename(frame.file)}:{frame.line} {frame.source or frame.function}")


def path(file: str) -> str:
    """A path from the current directory, when it lies below it; of Python's own files what is behind ``lib/``."""
    installed = file.rfind("/lib/python")
    if installed >= 0:
        return file[installed + len("/lib/") :]
    if not file.startswith("/"):
        return file
    try:
        shorter = relpath(file)
    except OSError:  # the current directory was removed
        return file
    return file if shorter.startswith("..") else shorter


# --- one cell each


def _bar(done: float, style: str, words: str) -> list[Piece]:
    done = min(1.0, max(0.0, done))
    full = int(done * BAR * 2 + 0.5)
    drawn = "━" * (full // 2) + ("╸" if full % 2 else "")
    return [(drawn, style), ("─" * (BAR - len(drawn)), "rest"), (f" {words}", "")]


def _id(row: Row, _: int) -> list[Piece]:
    return [(row.id, "faint")]


def _name(row: Row, depth: int) -> list[Piece]:
    many = f" ×{row.count}" if row.count > 1 else ""
    return [
        ("  " * (min(depth, _DEEPEST) - 1) + "└ " if depth else "", "faint"),
        (clean(row.name), "name"),
        (many, "count"),
    ]


def _place(row: Row, _: int) -> list[Piece]:
    return [(row.place, "faint" if row.place == "asyncio" else "")]


def _state(row: Row, _: int) -> list[Piece]:
    refused = f" {row.refusals}x" if row.refusals and row.place != "asyncio" else ""
    return [(row.state + refused, row.state)]


def _age(row: Row, _: int) -> list[Piece]:
    return [(seconds(row.age), "")]


def _limit(row: Row, _: int) -> list[Piece]:
    if row.remaining is None or row.deadline_at is None:
        return []
    whole = row.deadline_at - row.started_at
    gone = 1.0 if whole <= 0 else 1 - row.remaining / whole
    style = "late" if gone >= 0.9 else "soon" if gone >= 0.7 else "time"
    return _bar(gone, style, seconds(max(0.0, row.remaining)) if row.remaining > -0.05 else f"{seconds(row.remaining)}")


def _progress(row: Row, _: int) -> list[Piece]:
    value = row.progress
    if value is None:
        return []
    done = share(value)
    if done is not None:
        return _bar(done, "done", f"{done:.0%}")
    if isinstance(value, (list, tuple)):
        return [("/".join(map(str, value)), "")]
    return [(clean(f"{value:g}" if isinstance(value, float) else str(value)), "")]


def _where(row: Row, _: int) -> list[Piece]:
    pieces: list[Piece] = []
    if row.state == "abandoned":
        pieces.append(("stuck at ", "abandoned"))
    elif row.state == "stopping" and row.reason is not None:
        pieces.append((f"{clean(row.reason.kind)}: ", "stopping"))
    pieces.append((line(row.where), ""))
    return pieces


def _why(row: Row) -> str:
    cause = row.reason
    if cause is None:
        return ""
    return clean(f"{cause.kind}: {cause.text}" if cause.text else cause.kind)


def _clean_up(row: Row, _: int) -> list[Piece]:
    if row.clean_up is None:
        return []
    return [(seconds(row.clean_up), ""), (f" {row.rung or ''}", "faint")]


def _ended(row: Row, _: int) -> list[Piece]:
    pieces: list[Piece] = []
    if row.error:
        pieces.append((clean(row.error), "failed"))
    if row.reason is not None:
        by = f" (by {clean(row.reason.by)})" if row.reason.by else ""
        pieces.append((("; " if pieces else "") + _why(row), ""))
        pieces.append((by, "faint"))
    return pieces


# --- which columns


def columns(*, history: bool, width: int) -> list[Column]:
    """The columns for a table of so many cells; on a narrow one, the less important ones are left out."""
    id_ = Column("ID", 12, "tree", _id)
    name = Column("NAME", 24 if width >= 120 else 20 if width >= 100 else 16, "name", _name)
    place = Column("PLACE", 8, "place", _place)
    if history:
        took = Column("TOOK", 7, "", _age, right=True)
        stop = Column("CLEAN-UP", 18, "", _clean_up)
        found = [id_, name, place, Column("OUTCOME", 10, "", _state), took, stop, Column("WHY", 0, "", _ended)]
        return [column for column in found if width >= 90 or column not in (place, stop)]
    state = Column("STATE", 12, "state", _state)
    age = Column("AGE", 7, "age", _age, right=True)
    limit = Column("LIMIT", BAR + 8, "remaining", _limit)
    done = Column("PROGRESS", BAR + 6, "", _progress)
    found = [id_, name, place, state, age, limit, done, Column("WHERE", 0, "", _where)]
    dropped = [] if width >= 110 else [done] if width >= 95 else [done, place]
    return [column for column in found if column not in dropped]


def cells(found: Sequence[Column], row: Row, depth: int, width: int) -> list[Piece]:
    """A row of the table, exactly `width` cells wide."""
    pieces: list[Piece] = []
    left = width
    for column in found:
        room = min(left, column.width or left)
        pieces += _exactly(column.draw(row, depth), max(0, room - (1 if column.width else 0)), column.right)
        if column.width and room:
            pieces.append((" ", ""))
        left -= room
    return pieces


def _exactly(pieces: list[Piece], width: int, right: bool) -> list[Piece]:
    """The pieces of one cell, cut or filled to its width."""
    found: list[Piece] = []
    last = sum(cell_len(text) for text, style in pieces if style == "count")  # which is never what is cut off
    left = width
    for text, style in pieces:
        text = fitted(text, left if style == "count" else left - last)
        if text:
            found.append((text, style))
            left -= cell_len(text)
    filling = (" " * left, "")
    return [filling, *found] if right else [*found, filling]
