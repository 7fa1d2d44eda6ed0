"""Calling an operation off: the question before it, and the words of the verdict after it."""

from dataclasses import dataclass
from typing import ClassVar

from rich.text import Text
from textual import on
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Horizontal, Vertical
from textual.screen import ModalScreen
from textual.widgets import Button, Input, Label, Static

from .._words.durations_text import read_duration
from ..control import Row, Stopped
from ._cells import clean, line, seconds

__all__ = ["Ask", "Order", "verdict"]


@dataclass(frozen=True, slots=True)
class Order:
    """What was confirmed.

    Attributes:
        reason: why, in words; may be empty.
        grace: seconds from asking to force; ``None`` for those of the operation.
    """

    reason: str
    grace: float | None


class Ask(ModalScreen[Order | None]):
    """Asks for a reason and for confirmation; gives an `Order`, or ``None``."""

    BINDINGS: ClassVar[list[BindingType]] = [Binding("escape", "dismiss(None)", "Back")]
    DEFAULT_CSS = """
    Ask { align: center middle; }
    Ask > Vertical {
        width: 76; max-width: 96%; height: auto; padding: 1 2;
        border: round $warning; border-title-color: $text-warning; background: $surface;
    }
    Ask Static { margin-bottom: 1; color: $text-muted; }
    Ask Label { margin: 0; }
    Ask .wrong { color: $text-error; display: none; margin: 0; }
    Ask Horizontal { height: auto; align-horizontal: right; margin-top: 1; }
    Ask Button { margin-left: 2; }
    """

    def __init__(self, row: Row, children: int) -> None:
        super().__init__()
        self._row = row
        self._children = children

    def compose(self) -> ComposeResult:
        """The question, two fields, two buttons."""
        row = self._row
        about = f"{row.place}, {row.state} for {seconds(row.age)}"
        if self._children:
            about += (
                f"; its {self._children} children are called off with it"
                if self._children > 1
                else ("; its child is called off with it")
            )
        where = line(row.where)
        with Vertical() as box:
            box.border_title = Text(f"Call off {row.id} {clean(row.name)}?")
            yield Static(f"{about}\n{where}" if where else about, markup=False)
            yield Label("Reason")
            yield Input(placeholder="arrives in its report", id="reason")
            yield Label("Grace until force")
            yield Input(placeholder="its own; 0 forces at once, 500ms, 10s", id="grace")
            yield Static("", classes="wrong", markup=False)
            with Horizontal():
                yield Button("Call it off", variant="warning", id="yes")
                yield Button("Back", id="no")

    @on(Input.Submitted)
    @on(Button.Pressed, "#yes")
    def confirm(self) -> None:
        """Check what was typed and go."""
        text = self.query_one("#grace", Input).value.strip()
        try:
            grace = read_duration(text) if text else None
        except ValueError as error:
            wrong = self.query_one(".wrong", Static)
            wrong.update(str(error))
            wrong.display = True
            self.query_one("#grace", Input).focus()
            return
        self.dismiss(Order(self.query_one("#reason", Input).value.strip(), grace))

    @on(Button.Pressed, "#no")
    def back(self) -> None:
        """Leave everything as it is."""
        self.dismiss(None)


def verdict(stopped: Stopped, wait: float) -> tuple[str, str]:
    """How the cancel ended, as a sentence and how bad that is: ``information``, ``warning`` or ``error``."""
    row, outcome = stopped.row, stopped.outcome
    name = "it" if row is None else clean(f"{row.id} {row.name}")
    took = seconds(stopped.seconds)
    where = "" if row is None else line(row.where)
    if outcome is None:
        return f"{name} still runs after {seconds(wait)}" + (f": stuck at {where}" if where else ""), "error"
    if outcome == "abandoned":
        return f"{name} could not be stopped and was abandoned" + (f": stuck at {where}" if where else ""), "error"
    if outcome == "gone":
        return f"{name}: its process ended before it could answer", "warning"
    if row is not None and row.reason is None and row.ended_at is not None:
        return f"{name} had ended before: {outcome}", "information"
    left = "" if row is None or not row.survivors else f"; still running: {clean(', '.join(row.survivors))}"
    if outcome == "completed":
        return f"{name} completed all the same, after {took}{left}", "error" if left else "warning"
    if outcome == "failed":
        error = f": {clean(row.error)}" if row is not None and row.error else ""
        return f"{name} failed after {took}{error}{left}", "error" if left else "warning"
    how = f" ({row.rung}{_refused(row)})" if row is not None and row.rung else ""
    return f"{name} has ended: {outcome} after {took}{how}{left}", "error" if left else "information"


def _refused(row: Row) -> str:
    return {0: "", 1: ", refused once"}.get(row.refusals, f", refused {row.refusals} times")
