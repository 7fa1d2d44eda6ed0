"""What a sweep of a suite adds up to, as text, JSON, a page, or annotations of GitHub."""

import html
import json
from collections import Counter
from pathlib import Path
from typing import Any, NamedTuple

from .._sweep.text import count, short
from .awaits import Table
from .faults import Fault

__all__ = ["FORMATS", "Sum", "github", "page", "term", "to_json"]

FORMATS = ("term", "html", "json", "github")

_HEADS = {
    "project": "of the project",
    "tests": "of tests: what a test leaves when it is called off",
    "library": "of libraries",
    "python": "of Python itself",
}


class Sum(NamedTuple):
    """All that is told at the end."""

    faults: list[Fault]
    table: Table
    notes: list[tuple[str, dict[str, Any]]]
    failing: frozenset[str]
    baseline: frozenset[str]


def term(whole: Sum, each: bool) -> list[str]:
    """The lines for a terminal; `each`: one for every test, too."""
    lines: list[str] = []
    if each:
        for name, notes in whole.notes:
            lines.append(f"{name}: {notes['summary']}")
            lines += [f"  known {line}" for line in notes["known"]]
    for owner, head in _HEADS.items():
        faults = [fault for fault in whole.faults if fault.owner == owner and fault.verdict == "UNSAFE"]
        if faults:
            kept = "" if owner in whole.failing else "; not held against the project"
            lines += ["", f"{count(len(faults), 'fault')} {head}{kept}:"]
            for fault in faults:
                lines += fault.lines()
                if fault.key in whole.baseline:
                    lines.append("  in the baseline")
    unresolved = [fault for fault in whole.faults if fault.verdict == "UNRESOLVED"]
    if unresolved:
        lines += ["", f"{len(unresolved)} unresolved:"]
        lines += [line for fault in unresolved for line in fault.lines()[:4]]
    table = whole.table.lines()
    if table:
        lines += ["", *table]
    reasons = Counter(notes["reason"] for _, notes in whole.notes if notes.get("reason"))
    lines += ["" for _ in reasons][:1]
    lines += [f"not swept: {count(number, 'test')}: {reason}" for reason, number in reasons.most_common()]
    restored = sorted({path for _, notes in whole.notes for path in notes.get("restored", ())})
    if restored:
        what = ", ".join(map(short, restored[:5])) + (", ..." if len(restored) > 5 else "")
        lines.append(f"put back {count(len(restored), 'file')} that runs had changed: {what}")
    return [*lines, figures(whole)]


def figures(whole: Sum) -> str:
    """The last line."""
    verdicts = [notes["verdict"] for _, notes in whole.notes]
    points = sum(notes["points"] for _, notes in whole.notes)
    runs = sum(notes["runs"] for _, notes in whole.notes)
    judged = f"{verdicts.count('UNSAFE')} unsafe"
    for verdict, text in (("ERROR", "error"), ("SKIPPED", ""), ("UNRESOLVED", "unresolved")):
        number = verdicts.count(verdict)
        if number and text == "error":
            judged += f", {count(number, 'error')}"
        elif number:
            judged += f", {number} {text or 'not swept'}"
    parts = count(len(verdicts), "test"), count(points, "await point"), count(runs, "run")
    return f"{', '.join(parts)}; of the tests {judged}"


def to_json(whole: Sum) -> str:
    """One document."""
    document = {
        "faults": [fault.to_json() for fault in whole.faults],
        "files": whole.table.to_json(),
        "percent_safe": round(whole.table.percent, 1),
        "tests": {
            name: {key: notes[key] for key in ("verdict", "points", "runs", "reason") if key in notes}
            for name, notes in whole.notes
        },
    }
    return json.dumps(document, indent=1)


def github(whole: Sum) -> list[str]:
    """Annotations: errors for what fails, warnings for the rest."""
    lines: list[str] = []
    for fault in whole.faults:
        fails = fault.verdict == "UNSAFE" and fault.owner in whole.failing and fault.key not in whole.baseline
        text = f"{fault.findings[0]['texts'][0]} ({count(fault.tests, 'test')})"
        for char, code in (("%", "%25"), ("\r", "%0D"), ("\n", "%0A")):
            text = text.replace(char, code)
        title = f"cancel sweep {fault.verdict.lower()}"
        lines.append(
            f"::{'error' if fails else 'warning'} file={short(fault.at.file)},line={fault.at.line},title={title}::{text}"
        )
    return lines


def page(whole: Sum, file: Path) -> None:
    """One page that loads nothing."""
    text = html.escape("\n".join(term(whole, each=True)))
    head = "<!doctype html><html lang=en><meta charset=utf-8><title>Cancel sweep</title>"
    style = "<style>body{margin:2rem;font:15px/1.5 system-ui;color-scheme:light dark}pre{white-space:pre-wrap}</style>"
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(f"{head}{style}<h1>Cancel sweep</h1><pre>{text}</pre></html>\n", encoding="utf-8")
