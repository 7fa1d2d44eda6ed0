"""The words for what became of a cancel and for where something stands, the same in each face.

The command line prints a verdict in one line, the screen adds how bad it is, and the page draws its two halves below each
other. All texts of others are made harmless here.
"""

import os
from typing import TYPE_CHECKING, NamedTuple

from .._words.durations_text import spoken
from .._words.report import ENDS, NOT_STOPPED, refused
from .._words.text import clean

if TYPE_CHECKING:
    from ._records import Frame, Row, Stopped

__all__ = ["Verdict", "at", "short", "verdict"]

_ENDS = {str(rung): words for rung, words in ENDS.items()}


class Verdict(NamedTuple):
    """What became of a cancel.

    Attributes:
        kind: ``cancelled``, ``completed``, ``failed``, ``abandoned``; ``before`` when it had ended before, ``gone`` with
            its process, ``running`` when it still runs, ``lost`` when that is not known.
        head: what happened, and after how long.
        rest: how, or where it is stuck, or nothing.
        left: whether something of it still runs.
    """

    kind: str
    head: str
    rest: str = ""
    left: bool = False

    def __str__(self) -> str:
        return f"{self.head}: {self.rest}" if self.rest else self.head


def verdict(stopped: "Stopped") -> Verdict:
    """Say how it ended, or where it is stuck."""
    row, outcome = stopped.row, stopped.outcome
    line = "" if row is None else at(row.where)
    stuck = f"stuck at {line}" if line else ""
    after = "at once" if stopped.seconds < 0.005 else f"after {spoken(stopped.seconds)}"
    after += "" if row is None else refused(row.refusals)
    if outcome is None and not stopped.seconds:
        return Verdict("lost", "the connection to its process was lost", "it may still run", left=True)
    if outcome is None:
        return Verdict("running", f"still runs {after}", stuck, left=True)
    if outcome == "gone":
        return Verdict("gone", "its process has ended, and it with it")
    if outcome == "abandoned":
        told = f"it still runs, {stuck}" if stuck else "it still runs"
        return Verdict("abandoned", f"{NOT_STOPPED} (ABANDONED) {after}", told, left=True)
    error = "" if row is None or row.error is None else clean(row.error)
    if not stopped.seconds or row is None:
        return Verdict("before", "had ended already", f"{outcome} ({error})" if error else outcome)
    return _ended(row, outcome, after, error)


def _ended(row: "Row", outcome: str, after: str, error: str) -> Verdict:
    """Of one that ended after it was asked to."""
    left = [f"still running: {clean(survivor)}" for survivor in row.survivors]
    if outcome == "completed":
        return Verdict("completed", f"completed all the same {after}", "; ".join(left), bool(left))
    if outcome == "failed":
        return Verdict("failed", f"failed {after}", "; ".join(filter(None, [error, *left])), bool(left))
    how = "" if row.rung is None else f"{_ENDS.get(row.rung, 'ended')} ({row.rung})"
    return Verdict("cancelled", f"{outcome} {after}", "; ".join(filter(None, [how, *left])), bool(left))


def at(frame: "Frame | None") -> str:
    """``fetch (app.py:7): await reply``; of a command its command line."""
    if frame is None:
        return ""
    if not frame.line:
        return clean(frame.source or frame.function)
    place = f"{frame.function} ({short(frame.file)}:{frame.line})"
    return clean(f"{place}: {frame.source}" if frame.source else place)


def short(file: str) -> str:
    """The path from the current directory, where it lies below it."""
    try:
        below = os.getcwd() + os.sep
    except OSError:
        return file
    return file.removeprefix(below)
