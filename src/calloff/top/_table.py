"""The table: draws the rows that are in sight, and knows nothing of the others but their number.

A row is a line on the screen, so the heights are known without having the rows: `view` says which ones are wanted, and
`show` brings them. Between two looks the ages and the bars go on by themselves. The cursor stays with its operation, not
with its line, as long as that operation is in sight.
"""

import time
from collections.abc import Sequence
from typing import ClassVar

import msgspec
from rich.segment import Segment
from rich.style import Style
from textual import events
from textual.binding import Binding, BindingType
from textual.geometry import Region, Size
from textual.message import Message
from textual.reactive import reactive
from textual.scroll_view import ScrollView
from textual.strip import Strip

from ..control import Row
from ._cells import Column, cells, columns, fitted

__all__ = ["Table"]

_MARGIN = 5
_LIVE = ("pending", "running", "stopping")


class Table(ScrollView, can_focus=True):
    """The rows in sight, with a cursor.

    Attributes:
        total: how many rows there are, in sight or not.
        history: whether they are ended ones.
        sort: by what they are sorted.
        reverse: whether the other way round.
        paused: whether time stands still.
        marked: the marked rows by their ids, as they were last seen.
    """

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("up,k", "move(-1)", "Up", show=False),
        Binding("down,j", "move(1)", "Down", show=False),
        Binding("pageup", "page(-1)", "Page up", show=False),
        Binding("pagedown", "page(1)", "Page down", show=False),
        Binding("home,g", "edge(0)", "First", show=False),
        Binding("end,G", "edge(1)", "Last", show=False),
        Binding("enter", "open", "Details"),
        Binding("m", "mark", "Mark"),
    ]
    COMPONENT_CLASSES: ClassVar[set[str]] = {
        "head", "cursor", "name", "faint", "rest", "pending", "running", "stopping", "completed", "failed", "cancelled",
        "abandoned", "time", "soon", "late", "done", "marked", "count",
    }  # fmt: skip
    DEFAULT_CSS = """
    Table {
        background: $surface;
        scrollbar-size-horizontal: 0;
        & > .head { background: $panel; color: $text-muted; text-style: bold; }
        & > .cursor { background: $surface-lighten-2; }
        &:focus > .cursor { background: $primary-muted; }
        & > .name { text-style: bold; }
        & > .count { color: $text-muted; text-style: bold; }
        & > .marked { color: $text-accent; text-style: bold; }
        & > .faint, & > .pending { color: $foreground-darken-3; }
        & > .rest { color: $foreground-darken-3; }
        & > .running, & > .completed { color: $text-success; }
        & > .stopping, & > .cancelled { color: $text-warning; }
        & > .failed, & > .abandoned { color: $text-error; }
        & > .abandoned { text-style: bold; }
        & > .time, & > .done { color: $primary; }
        & > .soon { color: $warning; }
        & > .late { color: $error; }
    }
    """
    cursor: reactive[int] = reactive(0)

    class Wanted(Message):
        """Other rows came into sight."""

    class Opened(Message):
        """The row under the cursor is to be shown in full."""

    class Selected(Message):
        """The cursor stands on another operation."""

    class Marked(Message):
        """Other rows are marked now."""

    class Sorted(Message):
        """A heading was clicked."""

        def __init__(self, by: str) -> None:
            super().__init__()
            self.by = by

    def __init__(self) -> None:
        super().__init__()
        self.total: int = 0
        self.history: bool = False
        self.sort: str = "tree"
        self.reverse: bool = False
        self.paused: bool = False
        self.marked: dict[str, Row] = {}
        self._rows: dict[int, Row] = {}
        self._seen_at = 0.0
        self._base: Style | None = None
        self._selected: str | None = None

    # --- what is in sight

    @property
    def view(self) -> tuple[int, int]:
        """The first row that is wanted and how many, a few more than are in sight."""
        first = max(0, self.scroll_offset.y - _MARGIN)
        return first, max(1, self.scroll_offset.y - first + self.size.height - 1 + _MARGIN)

    @property
    def row(self) -> Row | None:
        """The row under the cursor, if it is known."""
        return self._rows.get(self.cursor)

    def show(self, first: int, rows: Sequence[Row], total: int) -> None:
        """These rows, from `first` on, are how things stand now."""
        self._rows = dict(enumerate(rows, first))
        self._seen_at = time.monotonic()
        self.total = total
        self.marked.update((row.id, row) for row in rows if row.id in self.marked)
        size = Size(self.size.width, total + 1)
        if size != self.virtual_size:
            self.virtual_size = size
        here = next((at for at, row in self._rows.items() if row.id == self._selected), None)
        self.cursor = max(0, min(self.cursor if here is None else here, total - 1))
        self._select()
        self.refresh()

    def clear(self) -> None:
        """Other rows are coming: forget these, and begin at the top."""
        self._rows = {}
        self._selected = None
        self.cursor = 0
        self.scroll_to(y=0, animate=False)
        self.refresh()

    def _select(self) -> None:
        row = self.row
        selected = None if row is None else row.id
        if selected != self._selected and (row is not None or not self.total):
            self._selected = selected
            self.post_message(self.Selected())

    # --- drawing

    def render_lines(self, crop: Region) -> list[Strip]:
        """The lines of the screen that have to be drawn anew."""
        self._base = self.rich_style  # for all of them: it takes longer than drawing a line
        return super().render_lines(crop)

    def render_line(self, y: int) -> Strip:
        """One line of the screen."""
        width = self.scrollable_content_region.width  # without the bar that scrolls
        found = columns(history=self.history, width=width)
        if y == 0:
            return self._head(found, width)
        at = self.scroll_offset.y + y - 1
        row = self._rows.get(at)
        base = self._base or self.rich_style
        if row is None:
            strip = Strip([Segment(" …" if at < self.total else "", self._style("faint"))], None)
        else:
            depth = row.depth if self.sort == "tree" and not self.history else 0
            seen, style_of_id = self._now(row), "faint"
            if row.id in self.marked:
                seen, style_of_id = msgspec.structs.replace(seen, id=f"●{row.id}"), "marked"
            (id_, _), *rest = cells(found, seen, depth, width)
            pieces = [(id_, style_of_id), *rest]
            strip = Strip([Segment(text, self._style(style)) for text, style in pieces])
        if at == self.cursor and at < self.total:
            base += self._style("cursor")
        return strip.adjust_cell_length(self.size.width).apply_style(base)

    def _now(self, row: Row) -> Row:
        """The row with the time that has passed since it was seen."""
        if self.paused or row.state not in _LIVE:
            return row
        more = time.monotonic() - self._seen_at
        left = None if row.remaining is None else row.remaining - more
        return msgspec.structs.replace(row, age=row.age + more, remaining=left)

    def _head(self, found: Sequence[Column], width: int) -> Strip:
        text = ""
        for column in found:
            mark = (
                (" ▴" if self.reverse else " ▾")
                if column.sort and column.sort == self.sort and not self.history
                else ""
            )
            room = column.width or max(0, width - len(text))
            title = fitted(column.title + mark, max(0, room - 1))
            text += (title.rjust(room - 1) + " ") if column.right else title.ljust(room)
        return Strip([Segment(text, self._style("head"))]).adjust_cell_length(width, self._style("head"))

    def _style(self, name: str) -> Style:
        return self.get_component_rich_style(name, partial=name != "head") if name else Style.null()

    # --- moving

    def watch_cursor(self) -> None:
        """Keep the cursor in sight."""
        height = self.size.height - 1
        if height > 0:
            self.scroll_to_region(Region(0, self.cursor, 1, 2), animate=False, force=True)
        self._select()
        self.refresh()

    def watch_scroll_y(self, old_value: float, new_value: float) -> None:
        """Rows come into sight."""
        super().watch_scroll_y(old_value, new_value)
        if round(old_value) != round(new_value):
            self.post_message(self.Wanted())

    def action_move(self, by: int) -> None:
        """Up and down."""
        self.cursor = max(0, min(self.cursor + by, self.total - 1))

    def action_page(self, by: int) -> None:
        """A screen up or down."""
        self.action_move(by * max(1, self.size.height - 2))

    def action_edge(self, last: int) -> None:
        """To the first or the last row."""
        self.cursor = max(0, self.total - 1) if last else 0

    def action_open(self) -> None:
        """Show the details of the row under the cursor, or no longer."""
        self.post_message(self.Opened())

    def action_mark(self) -> None:
        """Mark the row under the cursor, or no longer, and go to the next one."""
        row = self.row
        if row is None or self.history:
            return
        if self.marked.pop(row.id, None) is None:
            self.marked[row.id] = row
        self.post_message(self.Marked())
        self.action_move(1)
        self.refresh()

    def on_click(self, event: events.Click) -> None:
        """A heading sorts, a row is chosen, a second click on it shows its details."""
        at = event.get_content_offset(self)
        if at is None:
            return
        if at.y == 0:
            left = at.x
            for column in columns(history=self.history, width=self.scrollable_content_region.width):
                if not column.width or left < column.width:
                    if column.sort and not self.history:
                        self.post_message(self.Sorted(column.sort))
                    return
                left -= column.width
            return
        clicked = self.scroll_offset.y + at.y - 1
        if clicked < self.total:
            if event.chain == 2:
                self.action_open()
            self.cursor = clicked

    def on_resize(self) -> None:
        """More rows, or fewer, are in sight."""
        self.post_message(self.Wanted())
