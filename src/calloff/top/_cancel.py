"""Calling an operation off: the question before it, and the words of the verdict after it."""

from collections.abc import Sequence
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
from ..control._verdict import at, verdict
from ._cells import clean, line, seconds

__all__ = ["Ask", "Order", "told"]

#: so many of several are named in the question
_SHOWN = 6


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

    def __init__(self, rows: Sequence[Row], children: int) -> None:
        super().__init__()
        self._rows = rows
        self._children = children

    def compose(self) -> ComposeResult:
        """The question, two fields, two buttons."""
        with Vertical() as box:
            box.border_title = Text(self._question())
            yield Static(self._about(), markup=False)
            yield Label("Reason")
            yield Input(placeholder="arrives in its report", id="reason")
            yield Label("Grace until force")
            yield Input(placeholder="its own; 0 forces at once, 500ms, 10s", id="grace")
            yield Static("", classes="wrong", markup=False)
            with Horizontal():
                yield Button("Call it off", variant="warning", id="yes")
                yield Button("Back", id="no")

    def _question(self) -> str:
        first, *others = self._rows
        return f"Call off these {len(self._rows)}?" if others else f"Call off {first.id} {clean(first.name)}?"

    def _about(self) -> str:
        """What is called off: of one its state and line, of several a line for each of the first."""
        children = {0: "", 1: "its child is called off with it"}.get(
            self._children, f"its {self._children} children are called off with it"
        )
        first, *others = self._rows
        if not others:
            about = "; ".join(filter(None, [f"{first.place}, {first.state} for {seconds(first.age)}", children]))
            return "\n".join(filter(None, [about, at(first.where)]))
        those = [f"{row.id} {clean(row.name)}  {line(row.where)}" for row in self._rows[:_SHOWN]]
        if len(self._rows) > _SHOWN:
            those.append(f"and {len(self._rows) - _SHOWN} more")
        return "\n".join([*those, *filter(None, [children.replace("its", "their", 1)])])

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


#: how bad each kind of verdict is, where nothing is left that still runs
_SEVERITY = {"cancelled": "information", "before": "information"}


def told(stopped: Stopped) -> tuple[str, str]:
    """How the cancel ended, as a sentence and how bad that is: ``information``, ``warning`` or ``error``."""
    found = verdict(stopped)
    name = "it" if stopped.row is None else clean(f"{stopped.row.id} {stopped.row.name}")
    return f"{name}: {found}", "error" if found.left else _SEVERITY.get(found.kind, "warning")
