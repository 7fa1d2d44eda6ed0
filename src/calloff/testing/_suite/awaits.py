"""The awaits of the project by file: reached, swept, safe, unsafe, unresolved, and those that no test came by."""

import ast
from collections.abc import Iterable
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

from .._sweep.report import SweepReport
from .._sweep.text import short
from .owners import Owners

__all__ = ["Table", "states_of"]

_ORDER = ("reached", "safe", "unresolved", "unsafe")


def states_of(report: SweepReport, owners: Owners) -> list[tuple[str, int, str]]:
    """The awaits of the project that one sweep came by: file, line and state."""
    found: dict[tuple[str, int], str] = {}

    def note(file: str, line: int, state: str) -> None:
        before = found.get((file, line), "reached")
        found[file, line] = max(before, state, key=_ORDER.index)

    for points, state in ((report.seen, "reached"), (report.safe, "safe")):
        for point in points:
            for step in point.stack:
                if owners.of(step.file) == "project":
                    note(step.file, step.line, state)
    for finding in report.findings:
        own = [step for step in finding.stack if owners.of(step.file) == "project"]
        if finding.verdict == "UNSAFE" and owners.of(finding.at_fault.file) != "project":
            continue  # what a test leaves, or Python: it says nothing of the project
        if own and finding.verdict in ("UNSAFE", "UNRESOLVED"):
            note(own[-1].file, own[-1].line, finding.verdict.lower())
    return [(file, line, state) for (file, line), state in found.items()]


@dataclass
class Row:
    """The figures of one file."""

    file: str
    awaits: set[int]
    states: dict[int, str] = field(default_factory=dict)

    def count(self, *states: str) -> int:
        """How many awaits are in one of the states."""
        return sum(state in states for state in self.states.values())

    @property
    def missed(self) -> list[int]:
        """The lines of the awaits that no test came by."""
        return sorted(self.awaits - set(self.states))


class Table:
    """The rows, put together over all tests."""

    def __init__(self, files: Iterable[str], states: Iterable[tuple[str, int, str]]) -> None:
        rows = {file: Row(file, awaits_in(file)) for file in files}
        for file, line, state in states:
            row = rows.setdefault(file, Row(file, awaits_in(file)))
            line = _first_line(file, line)
            row.states[line] = max(row.states.get(line, "reached"), state, key=_ORDER.index)
        self.rows = sorted((row for row in rows.values() if row.awaits or row.states), key=lambda row: row.file)

    @property
    def percent(self) -> float:
        """Of the awaits that were reached, those that are safe; where none of them was, nothing is known to be."""
        reached = self.reached
        if not reached:
            return 0.0 if self.rows else 100.0
        return 100 * sum(row.count("safe") for row in self.rows) / reached

    @property
    def reached(self) -> int:
        """How many awaits were reached."""
        return sum(len(row.states) for row in self.rows)

    def lines(self) -> list[str]:
        """The table for a terminal."""
        if not self.rows:
            return []
        width = max(4, *(len(short(row.file)) for row in self.rows))
        head = f"{'file':{width}}  awaits  reached  swept   safe  unsafe  unresolved  not reached"
        figures = [(short(row.file), self._figures(row), _ranges(row.missed)) for row in self.rows]
        total = tuple(map(sum, zip(*(numbers for _, numbers, _ in figures), strict=True)))
        said = f"{self.percent:.0f} % of the reached are safe" if self.reached else "none was reached"
        figures.append(("total", total, said))
        return [
            head,
            *(
                f"{name:{width}}  {a:6}  {b:7}  {c:5}  {d:5}  {e:6}  {f:10}  {rest}"
                for name, (a, b, c, d, e, f), rest in figures
            ),
        ]

    def to_json(self) -> dict[str, Any]:
        """The table as the documented JSON."""
        names = ("awaits", "reached", "swept", "safe", "unsafe", "unresolved")
        return {
            short(row.file): dict(zip(names, self._figures(row), strict=True)) | {"not_reached": row.missed}
            for row in self.rows
        }

    @staticmethod
    def _figures(row: Row) -> tuple[int, ...]:
        swept = row.count("safe", "unsafe", "unresolved")
        every = len(row.awaits | set(row.states))
        return every, len(row.states), swept, row.count("safe"), row.count("unsafe"), row.count("unresolved")


@cache
def awaits_in(file: str) -> set[int]:
    """The lines of the awaits of a file."""
    return {node.lineno for node in _nodes(file)}


@cache
def _nodes(file: str) -> list[Any]:
    try:
        tree = ast.parse(Path(file).read_text(encoding="utf-8"))
    except (OSError, SyntaxError, ValueError):
        return []
    return [node for node in ast.walk(tree) if isinstance(node, (ast.Await, ast.AsyncFor, ast.AsyncWith))]


def _first_line(file: str, line: int) -> int:
    """An await over several lines is known by its first."""
    spans = [(node.lineno, getattr(node, "end_lineno", node.lineno)) for node in _nodes(file)]
    around = [(first, last) for first, last in spans if first <= line <= last]
    exact = [first for first, _ in around if first == line]
    return exact[0] if exact else max(around, default=(line, line))[0]


def _ranges(lines: list[int]) -> str:
    text = ", ".join(map(str, lines[:12]))
    return f"{text}, ..." if len(lines) > 12 else text
