"""Rows of operations as text: tables, trees, single lines. Nothing here knows where they came from."""

import os
from collections.abc import Iterable, Sequence

from .._words.durations_text import spoken
from ..control._client import Overview
from ..control._records import Cause, Row
from ..control._verdict import at
from ._text import clean, fit, progress_text

__all__ = ["BAR", "cause", "command_line", "table"]

BAR = 10
#: seconds of silence after a report of progress that are worth a word
_LONG = 10.0
#: columns that WHERE has at least, beside the others or else on a line of its own
_LEAST = 30
#: how each state is shown on a terminal; a word says the same
_TONES = {"running": "32", "pending": "36", "stopping": "33", "failed": "31", "abandoned": "31;1", "cancelled": "33"}


def cause(reason: Cause) -> str:
    """``too slow, by ada (pid 4711, calloff cancel)``."""
    words = reason.text or reason.kind
    return clean(f"{words}, by {reason.by}" if reason.by else words)


def columns(row: Row) -> tuple[str, str, str, str, str]:
    """Id, state, place, age, and what is left of its time."""
    left = ""
    if row.outcome is None and row.remaining is not None:
        left = spoken(row.remaining) if row.remaining >= 0 else f"-{spoken(-row.remaining)}"
    return row.id, row.state, row.place, spoken(max(0.0, row.age)), left


def remark(row: Row) -> str:
    """What is to be said of it beside its name: progress, the stop, the end, and where it is."""
    parts: list[str] = []
    if row.progress is not None and row.outcome is None:
        parts.append(progress_text(row.progress, BAR))
        if row.silent is not None and row.silent >= _LONG:
            parts.append(f"(silent for {spoken(row.silent)})")
    if row.reason is not None and row.outcome != "completed":
        refused = f", {row.refusals} refused" if row.refusals else ""
        parts.append(f"[{cause(row.reason)}{refused}]")
    if row.error is not None:
        parts.append(clean(row.error))
    line = at(row.where)
    if line:
        parts.append(line)
    return "  ".join(parts)


def table(overview: Overview, *, tree: bool, width: int | None, colour: bool = False) -> list[str]:
    """The lines of ``calloff ps``.

    Args:
        overview: what to show.
        tree: whether it is drawn as a tree below its processes.
        width: cut the lines to so many columns; where that leaves too little for WHERE, it gets a line of its own.
        colour: whether states are shown in colour, too.
    """
    head = ["ID", "STATE", "PLACE", "AGE", "LEFT", "NAME"]
    names = _names(overview.rows) if tree else [_name(row) for row in overview.rows]
    cells = [[*columns(row), name] for row, name in zip(overview.rows, names, strict=True)]
    widths = [max(len(line[column]) for line in (head, *cells)) for column in range(len(head))]
    narrow = width is not None and sum(widths) + 2 * len(widths) + _LEAST > width
    if narrow:
        head, widths = [*head[:2], head[3], head[5]], [*widths[:2], widths[3], widths[5]]
        cells = [[*line[:2], line[3], line[5]] for line in cells]
    lines = [_line(head, widths, "" if narrow else "WHERE")]
    argv = {process.pid: process.argv for process in overview.processes}
    before = None
    for row, line in zip(overview.rows, cells, strict=True):
        if tree and row.pid != before:
            before = row.pid
            lines.append(f"{row.pid:<{widths[0]}}  {clean(command_line(argv.get(row.pid, ())))}")
        said = remark(row)
        cut = _cut(_line(line, widths, "" if narrow else said), width)
        lines.append(_toned(cut, row.state, widths[0] + 2) if colour else cut)
        if narrow and said:
            lines.append(f"  {said}")
    return [_cut(line, width) if "\x1b" not in line else line for line in lines]


def _cut(line: str, width: int | None) -> str:
    return line.rstrip() if width is None else fit(line.rstrip(), width)


def _toned(line: str, state: str, at: int) -> str:
    """The line with its state, which stands there, in colour."""
    tone = _TONES.get(state)
    end = at + len(state)
    return line if tone is None or line[at:end] != state else f"{line[:at]}\x1b[{tone}m{state}\x1b[0m{line[end:]}"


def command_line(argv: Sequence[str]) -> str:
    """What was called, without the interpreter."""
    words = list(argv)
    if len(words) > 1 and os.path.basename(words[0]).startswith("python"):
        words = words[2:] if words[1] == "-m" else words[1:]
    if words and words[0].endswith("/calloff"):
        words[0] = "calloff"
    return " ".join(words)


def _line(cells: Sequence[str], widths: Sequence[int], last: str) -> str:
    right = (3, 4) if len(cells) > 4 else (2,)
    aligned = [
        cell.rjust(width) if column in right else cell.ljust(width)
        for column, (cell, width) in enumerate(zip(cells, widths, strict=True))
    ]
    return "  ".join([*aligned, last])


def _names(rows: Iterable[Row]) -> list[str]:
    """The names, drawn as branches below those of their parents."""
    rows = list(rows)
    shown = {row.id for row in rows}
    below: dict[str | None, list[Row]] = {}
    for row in rows:
        below.setdefault(row.parent if row.parent in shown else None, []).append(row)
    drawn: dict[str, str] = {}
    ahead = [(row, "", "") for row in reversed(below.get(None, []))]
    while ahead:
        row, lead, branch = ahead.pop()
        drawn[row.id] = f"{lead}{branch}{_name(row)}"
        inner = lead + {"": "", "├─ ": "│  ", "└─ ": "   "}[branch]
        children = below.get(row.id, [])
        for child in reversed(children):
            ahead.append((child, inner, "└─ " if child is children[-1] else "├─ "))
    return [drawn.get(row.id, _name(row)) for row in rows]


def _name(row: Row) -> str:
    """The name; of a row that stands for several, with their number."""
    return clean(row.name) if row.count == 1 else f"{clean(row.name)} ×{row.count}"
