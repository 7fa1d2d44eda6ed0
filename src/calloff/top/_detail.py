"""The pane with everything about one operation: its stop so far, its place in the tree, its stack."""

import time
from shlex import join

from rich.text import Text
from textual.app import ComposeResult
from textual.containers import VerticalScroll
from textual.widgets import Static

from .._words.report import refused
from ..control import Detail, Frame, Row
from ..control import _usage as usage
from ..control._verdict import at
from ._cells import clean, fitted, path, seconds

__all__ = ["Pane", "told"]


class Pane(VerticalScroll):
    """Shows a `Detail`, or a sentence in its place."""

    DEFAULT_CSS = """
    Pane {
        height: 45%;
        border-top: solid $primary;
        background: $surface;
        padding: 0 1;
        display: none;
        scrollbar-size-vertical: 1;
    }
    Pane.open { display: block; }
    """

    def __init__(self) -> None:
        super().__init__()
        self._text = Static(markup=False)

    def compose(self) -> ComposeResult:
        """The text that scrolls."""
        yield self._text

    def show(self, detail: Detail) -> None:
        """Everything about one."""
        row = detail.row
        self.border_title = Text(clean(f"{row.id} {row.name}"))
        self._text.update(told(detail))

    def say(self, title: str, text: str) -> None:
        """There are no details."""
        self.border_title = Text(title)
        self._text.update(text)


def told(detail: Detail) -> Text:
    """The text of the pane."""
    row = detail.row
    text = Text()
    for label, value in _facts(detail):
        text.append(f"{label:<9} ", "dim")
        text.append(value + "\n")
    _append_stack(text, _title(detail), detail.stuck_at or detail.stack, row)
    return text


def _facts(detail: Detail) -> list[tuple[str, str]]:
    row = detail.row
    spans = (("timeout", row.timeout), ("stall", detail.stall), ("grace", detail.grace))
    started = time.strftime("%H:%M:%S", time.localtime(row.started_at))
    age = f"started {started}, {seconds(row.age)} ago" if row.outcome is None else f"after {seconds(row.age)}"
    facts = [
        ("state", f"{row.state}, {row.place}{f' in process {row.worker}' if row.worker else ''}, {age}"),
        ("limits", ", ".join(f"{word} {seconds(span)}" for word, span in spans if span is not None)),
        ("progress", "" if row.progress is None else clean(str(row.progress))),
        ("parent", row.parent or ""),
        ("children", ", ".join(detail.children)),
        ("uses", "" if detail.usage is None else usage.told(detail.usage)),
        ("program", fitted(clean(join(detail.argv)), 200)),
        ("error", clean(row.error or "")),
        *_stop(row),
        ("survivors", clean(", ".join(row.survivors))),
    ]
    return [(label, value) for label, value in facts if value]


def _title(detail: Detail) -> str:
    if detail.stuck_at:
        return "stuck at"
    return {None: "stack", "failed": "it raised at"}.get(detail.row.outcome, "it was at")


def _stop(row: Row) -> list[tuple[str, str]]:
    cause = row.reason
    if cause is None:
        return []
    why = f"{cause.kind}: {cause.text}" if cause.text else cause.kind
    steps = [f"{step.rung} after {seconds(max(0.0, step.at - cause.at))}" for step in row.steps[1:]]
    told = ", ".join([f"asked {time.strftime('%H:%M:%S', time.localtime(cause.at))}", *steps])
    if row.refusals:
        told += refused(row.refusals)
    if row.state == "abandoned":
        told += "; could not be stopped"
    elif row.clean_up is not None:
        told += f"; ended by {row.rung} {seconds(row.clean_up)} after the request"
    return [("reason", clean(f"{why} (by {cause.by})" if cause.by else why)), ("stop", told)]


def _append_stack(text: Text, title: str, stack: tuple[Frame, ...], row: Row) -> None:
    if not stack:
        if row.where is not None:
            text.append(f"{'command':<9} " if not row.where.line else f"{'at':<9} ", "dim")
            text.append(at(row.where))
        return
    text.append(f"{title}, outermost first\n", "dim")
    for frame in stack:
        text.append(f"  {clean(frame.function)}", "bold")
        text.append(f"  {clean(path(frame.file))}:{frame.line}\n", "dim")
        if frame.source:
            text.append(f"      {clean(frame.source)}\n")
