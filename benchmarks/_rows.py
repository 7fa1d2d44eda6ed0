"""One line of the table: our figure, a peer's from the same run, and whether the goal was met."""

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from statistics import median
from typing import Any

__all__ = ["AtLeast", "AtMost", "Below", "Figure", "Row", "as_json", "as_table", "compare"]


@dataclass(frozen=True)
class Figure:
    """What one contender needed, round by round."""

    samples: tuple[float, ...]

    @property
    def median(self) -> float:
        return median(self.samples)

    @property
    def least(self) -> float:
        return min(self.samples)


@dataclass(frozen=True)
class AtMost:
    """The goal: at most `limit` times the peer's figure."""

    limit: float

    def __str__(self) -> str:
        return f"<= {self.limit:g}"

    def met(self, value: float) -> bool:
        return value <= self.limit


@dataclass(frozen=True)
class Below:
    """The goal: less than `limit` times the peer's figure."""

    limit: float = 1.0

    def __str__(self) -> str:
        return f"< {self.limit:g}"

    def met(self, value: float) -> bool:
        return value < self.limit


@dataclass(frozen=True)
class AtLeast:
    """The goal: at least `limit` times the peer's figure."""

    limit: float = 1.0

    def __str__(self) -> str:
        return f">= {self.limit:g}"

    def met(self, value: float) -> bool:
        return value >= self.limit


Goal = AtMost | Below | AtLeast


@dataclass(frozen=True)
class Row:
    """Our figure and a peer's. The goal holds for their ratio, or for our figure where there is no peer.

    Attributes:
        name: what is measured.
        unit: the unit of both figures.
        ours: calloff's figure.
        peer: who it is compared with; empty for a figure that stands alone.
        theirs: the peer's figure.
        goal: what was promised, ``None`` where the line only informs.
    """

    name: str
    unit: str
    ours: Figure
    peer: str = ""
    theirs: Figure | None = None
    goal: Goal | None = None

    @property
    def ratio(self) -> float | None:
        """Ours by theirs: the median over the rounds, in each of which both had their turn; else that of the medians."""
        if self.theirs is None or not all(self.theirs.samples):
            return None
        if len(self.ours.samples) != len(self.theirs.samples):
            return self.ours.median / self.theirs.median
        return median(ours / theirs for ours, theirs in zip(self.ours.samples, self.theirs.samples, strict=True))

    @property
    def least_ratio(self) -> float | None:
        """Ours by theirs, of the best rounds: what is left when the rest of the machine is out of the way."""
        return None if self.theirs is None or not self.theirs.least else self.ours.least / self.theirs.least

    @property
    def verdict(self) -> str:
        """``met``, ``missed``, or nothing where there is no goal."""
        if self.goal is None:
            return ""
        return "met" if self.goal.met(self.ours.median if self.ratio is None else self.ratio) else "missed"


def compare(name: str, unit: str, figures: dict[str, Figure], ours: str, goals: dict[str, Goal | None]) -> list[Row]:
    """The rows of one contender of ours against each peer that `goals` names."""
    return [Row(f"{name}: {ours}", unit, figures[ours], peer, figures[peer], goal) for peer, goal in goals.items()]


def as_table(rows: Iterable[Row]) -> str:
    """All rows, in columns; the name is said once."""
    lines: list[Sequence[str]] = [("", "ours", "peer", "", "ratio", "of minima", "goal", "")]
    before = ""
    for row in rows:
        peer = "" if row.theirs is None else f"{_short(row.theirs.median)} {row.unit}"
        lines.append(
            (
                "" if row.name == before else row.name,
                f"{_short(row.ours.median)} {row.unit}",
                peer,
                row.peer,
                "" if row.ratio is None else f"{row.ratio:.2f}",
                "" if row.least_ratio is None else f"{row.least_ratio:.2f}",
                "" if row.goal is None else str(row.goal),
                row.verdict,
            )
        )
        before = row.name
    widths = [max(len(line[column]) for line in lines) for column in range(len(lines[0]))]
    align = (str.ljust, str.rjust, str.rjust, str.ljust, str.rjust, str.rjust, str.ljust, str.ljust)
    text = ["  ".join(fit(cell, width) for fit, cell, width in zip(align, line, widths, strict=True)) for line in lines]
    text.insert(1, "-" * len(text[0]))
    return "\n".join(line.rstrip() for line in text)


def as_json(rows: Iterable[Row], facts: dict[str, Any]) -> str:
    """One document with the machine's facts, each row and all its samples."""
    listed = [
        {
            "name": row.name,
            "unit": row.unit,
            "ours": _plain(row.ours),
            "peer": row.peer or None,
            "theirs": None if row.theirs is None else _plain(row.theirs),
            "ratio": row.ratio,
            "ratio_of_minima": row.least_ratio,
            "goal": None if row.goal is None else str(row.goal),
            "verdict": row.verdict or None,
        }
        for row in rows
    ]
    return json.dumps({"facts": facts, "rows": listed}, indent=1)


def _plain(figure: Figure) -> dict[str, Any]:
    return {"median": figure.median, "min": figure.least, "samples": figure.samples}


def _short(value: float) -> str:
    return f"{value:.0f}" if value >= 1000 else f"{value:.3g}"
