"""An ending as a small table for notebooks. All texts are data: no markup of theirs comes through."""

from __future__ import annotations

from html import escape
from typing import TYPE_CHECKING

from .frame import culprit
from .reason import why
from .report import how
from .text import clean

if TYPE_CHECKING:
    from .frame import Frame
    from .report import StopReport

__all__ = ["table"]

_CODE = "<code style='white-space: pre-wrap'>{}</code>"


def table(word: str, said: str, report: StopReport | None, name: str = "it") -> str:
    """Draw an ending.

    Args:
        word: the state in which it ended.
        said: its value or error, as text; empty where there is none.
        report: of the stop, if one was asked for.
        name: of the operation.
    """
    rows = [(word, _text(said))] if said else [(word, "")]
    if report is not None:
        rows.append(("why", _text(f"{name} {why(report.reason)}")))
        rows.append(("how", _text(how(report))))
        if report.where:
            rows.append(("where", _stack(report.where)))
        if report.stuck_at:
            rows.append(("stuck at", _stack(report.stuck_at)))
        rows += [("still running", _text(survivor)) for survivor in report.survivors]
    drawn = (
        f"<tr><th style='text-align: left'>{key}</th><td style='text-align: left'>{value}</td></tr>"
        for key, value in rows
    )
    return f"<table>{''.join(drawn)}</table>"


def _stack(frames: tuple[Frame, ...]) -> str:
    """The line that a person wants to see, and the whole stack behind it, outermost first."""
    first = culprit(frames)
    whole = "<br>".join(_text(str(frame)) for frame in frames)
    return f"<details><summary>{_text(str(first))}</summary>{whole}</details>" if len(frames) > 1 else whole


def _text(text: str) -> str:
    return _CODE.format(escape(clean(text)))
