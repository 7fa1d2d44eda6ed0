"""The screen: looks each second, at the rows in sight, and carries out what its user asks for.

One task looks, again and again; whatever changes what is in sight (scrolling, a filter, another order) wakes it. So there
is never more than one question under way, however long an answer takes, and the keys work meanwhile.

An answer may come when the screen is being left: Textual takes its parts away one by one, and ends the tasks of the screen
only then. Whoever waited for an answer therefore looks whether there still is a screen (`is_running`) before touching it.
"""

import asyncio
import time
from collections.abc import Iterable
from typing import Any, ClassVar

from textual import on
from textual.app import App, ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Horizontal
from textual.events import Resize
from textual.widgets import HelpPanel, Input, Static

from ..control import Detail, Overview, Query, Row
from ..control._rates import Rates
from ._cancel import Ask
from ._cells import clean, seconds
from ._detail import Pane
from ._foot import Keys
from ._head import NOTHING, counted
from ._orders import TROUBLE, Asked, Orders
from ._table import Table
from ._view import View

__all__ = ["Top"]

#: cells; what is narrower tells less in its first line
_WIDE = 100
_WORDS = "part of a name   state:stopping   place:process   node:oak   pid:4312   older:30s"


class Top(App[None]):
    """The application.

    Args:
        client: whom to ask.
        every: seconds between two looks.
        wait: seconds that a cancel waits for the ending.
        name: a filter to begin with: part of a name or a pattern, ``state:``, ``place:``, ``node:``, ``pid:``, ``older:``.
        sort: by what the rows are sorted at first.
        tasks: whether plain asyncio tasks are shown, too.
    """

    TITLE = "calloff top"
    ENABLE_COMMAND_PALETTE = False
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("c,delete", "call_off", "Call off"),
        Binding("slash", "filter", "Filter"),
        Binding("f", "fold", "Fold"),
        Binding("question_mark", "keys", "Keys"),
        Binding("q,ctrl+c", "quit", "Quit"),
        Binding("h", "history", "History"),  # a usual terminal has no room for more than these
        Binding("s", "sort", "Sort"),
        Binding("r", "reverse", "Reverse"),
        Binding("t", "tasks", "Tasks"),
        Binding("space", "pause", "Pause"),
        Binding("escape", "leave", "Back", show=False),
    ]
    CSS = """
    #state { height: 1; padding: 0 1; background: $primary-muted; color: $text; }
    #state > #counts { width: 1fr; }
    #state > #view { width: auto; color: $text-muted; }
    #filter { display: none; height: 1; border: none; padding: 0 1; background: $boost; }
    #filter.open { display: block; }
    #nothing { display: none; height: 1fr; content-align: center middle; color: $text-muted; }
    #nothing.open { display: block; }
    #verdicts { display: none; height: auto; max-height: 4; padding: 0 1; background: $boost; }
    #verdicts.open { display: block; }
    Table { height: 1fr; }
    """

    def __init__(
        self,
        client: Asked,
        *,
        every: float = 1.0,
        wait: float = 10.0,
        name: str = "",
        sort: str = "tree",
        tasks: bool = False,
    ) -> None:
        super().__init__()
        self._client = client
        self._every = every
        self._chosen = View(by=sort, tasks=tasks)
        self._detail: str | None = None
        self._rates = Rates()
        self._wake = asyncio.Event()
        self._orders = Orders(client, wait, self._tell_verdicts, self._wake.set)
        # kept, since a search only finds those of the screen in front, which may be the question before a cancel
        self._counts = Static(id="counts", markup=False)
        self._view = Static(id="view", markup=False)
        self._filter = Input(
            placeholder=_WORDS,
            id="filter",
            compact=True,
            value=name,
        )
        self._table = Table()
        self._nothing = Static(NOTHING, id="nothing", markup=False)
        self._pane = Pane()
        self._verdicts = Static(id="verdicts", markup=False)

    def compose(self) -> ComposeResult:
        """From top to bottom."""
        yield Horizontal(self._counts, self._view, id="state")
        yield self._filter
        yield self._table
        yield self._nothing
        yield self._pane
        yield self._verdicts
        yield Keys()

    def on_mount(self) -> None:
        """Begin to look."""
        self._table.sort = self._chosen.by
        self._table.focus()
        self._read(self._filter.value)
        self.run_worker(self._follow(), name="look", exit_on_error=True)
        self.set_interval(min(self._every, 1.0), self._table.refresh)

    @on(Resize)
    def _resized(self) -> None:
        self._tell_view()

    # --- looking

    async def _follow(self) -> None:
        while self.is_running:
            self._wake.clear()
            try:
                await self._look()
            except TROUBLE as error:
                if self.is_running:
                    self._say(str(error))
            try:
                await asyncio.wait_for(self._wake.wait(), None if self._chosen.paused else self._every)
            except TimeoutError:
                pass

    async def _look(self) -> None:
        """Ask once, for what is in sight."""
        asked = self._question()
        overview = await self._client.list(asked)
        if asked.offset and asked.offset >= overview.total:  # the list has become shorter than where we are in it
            asked = self._question(max(0, overview.total - (asked.limit or 1)))
            overview = await self._client.list(asked)
        if not self.is_running:
            return
        if self._question(asked.offset) != asked:  # meanwhile something else is to be seen
            self._wake.set()
            return
        self._table.show(asked.offset, overview.rows, overview.total)
        self._tell_counts(overview)
        nothing = not overview.total and not self._chosen.typed and not self._chosen.history
        self._nothing.set_class(nothing, "open")
        self._table.display = not nothing
        if nothing:
            self._nothing.update(NOTHING)
        elif self.focused is None:  # a table that is hidden for a while loses the keys
            self._table.focus()
        await self._look_at_one()

    def _question(self, offset: int | None = None) -> Query:
        first, limit = self._table.view
        return self._chosen.question(first if offset is None else offset, limit)

    async def _look_at_one(self) -> None:
        pane = self._pane
        if self._detail is None or not pane.has_class("open"):
            return
        try:
            detail = await self._client.show(self._detail)
        except TROUBLE as error:
            if self.is_running:
                pane.say(self._detail, str(error))
        else:
            if self.is_running:
                pane.show(detail)

    # --- what is told at the edges

    def _tell_counts(self, overview: Overview) -> None:
        self._rates.see(time.monotonic(), overview.over)
        self._counts.update(counted(overview, self._rates, wide=self.size.width >= _WIDE), layout=False)

    def _tell_view(self) -> None:
        every = seconds(self._every) if self.size.width >= _WIDE else ""
        self._view.update(self._chosen.words(len(self._table.marked), every))

    def _say(self, text: str) -> None:
        """A sentence in place of the table."""
        nothing = self._nothing
        nothing.update(text)
        nothing.add_class("open")
        self._table.display = False

    def _tell_verdicts(self, said: str = "", severity: Any = "information") -> None:
        """Show what became of the last cancels; what is new in a corner, too."""
        if not self.is_running:
            return
        shown = self._verdicts
        shown.update("\n".join(list(self._orders.told.values())[-4:]))
        shown.set_class(bool(self._orders.told), "open")
        if said:
            self.notify(said, title="Call off", severity=severity, timeout=8, markup=False)

    def _changed(self) -> None:
        """Something else is to be seen."""
        self._tell_view()
        self._table.clear()
        self._wake.set()

    # --- what its user does

    @on(Table.Wanted)
    def _scrolled(self) -> None:
        self._wake.set()

    @on(Table.Marked)
    def _marked(self) -> None:
        self._tell_view()

    @on(Table.Selected)
    def _selected(self) -> None:
        row = self._table.row
        if row is not None and self._pane.has_class("open") and row.id != self._detail:
            self._detail = row.id
            self._wake.set()

    @on(Table.Opened)
    def _opened(self) -> None:
        pane, row = self._pane, self._table.row
        if pane.has_class("open") or row is None:
            self.action_leave()
            return
        self._detail = row.id
        pane.say(clean(f"{row.id} {row.name}"), "...")
        pane.add_class("open")
        self._wake.set()

    @on(Table.Sorted)
    def _sorted(self, event: Table.Sorted) -> None:
        if event.by == self._chosen.by:
            self.action_reverse()
        else:
            self._sort(event.by)

    def action_sort(self) -> None:
        """By the next column."""
        if not self._chosen.history:
            self._sort(self._chosen.next())

    def action_reverse(self) -> None:
        """The other way round."""
        if not self._chosen.history:
            self._chosen.reverse = self._table.reverse = not self._chosen.reverse
            self._changed()

    def _sort(self, by: str) -> None:
        self._chosen.by = self._table.sort = by
        self._chosen.reverse = self._table.reverse = False
        self._changed()

    def action_history(self) -> None:
        """The ended ones in place of those that run, and back."""
        self._chosen.history = self._table.history = not self._chosen.history
        self._changed()

    def action_tasks(self) -> None:
        """Plain asyncio tasks, too, or no longer."""
        self._chosen.tasks = not self._chosen.tasks
        self._changed()

    def action_fold(self) -> None:
        """One row for all that are alike, or one for each."""
        self._chosen.folded = not self._chosen.folded
        self._changed()

    def action_pause(self) -> None:
        """Look no more, or look again."""
        self._chosen.paused = self._table.paused = not self._chosen.paused
        self._tell_view()
        self._wake.set()

    def action_filter(self) -> None:
        """Ask for a filter."""
        field = self._filter
        field.add_class("open")
        field.focus()

    @on(Input.Changed, "#filter")
    def _typed_more(self, event: Input.Changed) -> None:
        if event.value.strip() != self._chosen.typed:
            self._read(event.value.strip())

    def _read(self, typed: str) -> None:
        """Look through another filter; while it is not yet a whole one, the one before stays."""
        try:
            self._chosen.read(typed)
        except ValueError as error:
            self._view.update(clean(str(error)))
        else:
            self._changed()

    @on(Input.Submitted, "#filter")
    def _typed_enough(self) -> None:
        self._filter.remove_class("open")
        self._table.focus()

    def action_keys(self) -> None:
        """Show what each key does, or no longer."""
        if self.screen.query(HelpPanel):
            self.action_hide_help_panel()
        else:
            self.action_show_help_panel()

    def action_leave(self) -> None:
        """Leave the filter, then the details, then the marks, then what was said of the last cancels."""
        field, pane = self._filter, self._pane
        if field.has_class("open") or (self._chosen.typed and not pane.has_class("open")):
            field.value = ""
            field.remove_class("open")
        elif pane.has_class("open"):
            pane.remove_class("open")
            self._detail = None
        elif self._table.marked:
            self._table.marked.clear()
            self._table.refresh()
            self._tell_view()
        else:
            self._orders.told.clear()
            self._tell_verdicts()
        self._table.focus()

    # --- calling off

    def action_call_off(self) -> None:
        """Ask, and call off the marked operations, or else the one under the cursor."""
        row = self._table.row
        rows = list(self._table.marked.values()) or ([] if row is None else [row])
        rows = [row for row in rows if row.outcome is None or row.state == "abandoned"]
        if not rows:
            self.notify("there is nothing to call off here", severity="warning", markup=False)
            return
        self.run_worker(self._call_off(rows), name="call off")

    async def _call_off(self, rows: list[Row]) -> None:
        found: dict[str, Detail] = {}
        for row in rows:
            try:
                detail = await self._client.show(row.id)
            except TROUBLE as error:
                self._orders.judge(row, str(error), "warning")
            else:
                found[row.id] = detail  # of one that stands for several, which itself has another name
        if not found or not self.is_running:
            return
        order = await self.push_screen_wait(Ask([detail.row for detail in found.values()], _children(found.values())))
        if order is not None:
            self._table.marked.clear()
            self._tell_view()
            await self._orders.carry_out({id: detail.row for id, detail in found.items()}, order)


def _children(details: Iterable[Detail]) -> int:
    return len({child for detail in details for child in detail.children})
