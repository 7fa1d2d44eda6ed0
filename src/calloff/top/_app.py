"""The screen: looks each second, at the rows in sight, and carries out what its user asks for.

One task looks, again and again; whatever changes what is in sight (scrolling, a filter, another order) wakes it. So there
is never more than one question under way, however long an answer takes, and the keys work meanwhile.
"""

import asyncio
from collections.abc import AsyncGenerator
from typing import Any, ClassVar, Protocol

from textual import on
from textual.app import App, ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Horizontal
from textual.widgets import Footer, Input, Static

from ..control import ControlError, Detail, Overview, Query, Row, Stopped
from ..control._records import ENDED, LIVE, SORTS, STATES
from ._cancel import Ask, Order, verdict
from ._cells import clean, seconds
from ._detail import Pane
from ._table import Table

__all__ = ["Asked", "Top"]

#: what may go wrong with one question, while the next may go well
_TROUBLE = (ControlError, OSError, ValueError)
_NOTHING = """\
No operation runs that can be looked at.

A program is seen here when it is started by  calloff run,
with  calloff.run(main(), expose=True),  or with  CALLOFF_EXPOSE=1  in its environment."""


class Asked(Protocol):
    """What is needed of `calloff.control.Client`."""

    async def list(self, query: Query | None = None) -> Overview:
        """The rows."""
        ...

    async def show(self, id: str) -> Detail:
        """Everything about one."""
        ...

    def cancel(
        self, query: Query, *, reason: str = "", grace: float | None = None, wait: float = 10.0
    ) -> AsyncGenerator[Stopped, None]:
        """Call off, and the endings."""
        ...


class Top(App[None]):
    """The application.

    Args:
        client: whom to ask.
        every: seconds between two looks.
        wait: seconds that a cancel waits for the ending.
        name: only operations whose name has this in it, or fits it as a pattern.
        sort: by what the rows are sorted at first.
        tasks: whether plain asyncio tasks are shown, too.
    """

    TITLE = "calloff top"
    ENABLE_COMMAND_PALETTE = False
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("c,delete", "call_off", "Call off"),
        Binding("slash", "filter", "Filter"),
        Binding("s", "sort", "Sort"),
        Binding("r", "reverse", "Reverse"),
        Binding("h", "history", "History"),
        Binding("t", "tasks", "Tasks"),
        Binding("f", "fold", "Fold"),
        Binding("space", "pause", "Pause"),
        Binding("escape", "leave", "Back", show=False),
        Binding("q,ctrl+c", "quit", "Quit"),
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
        self._wait = wait
        self._named = name
        self._by = sort
        self._reverse = False
        self._tasks = tasks
        self._folded = False
        self._history = False
        self._paused = False
        self._detail: str | None = None
        self._wake = asyncio.Event()
        self._orders: dict[str, str] = {}
        # kept, since a search only finds those of the screen in front, which may be the question before a cancel
        self._counts = Static(id="counts", markup=False)
        self._view = Static(id="view", markup=False)
        self._filter = Input(placeholder="name, or a pattern with * and ?", id="filter", compact=True, value=name)
        self._table = Table()
        self._nothing = Static(_NOTHING, id="nothing", markup=False)
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
        yield Footer()

    def on_mount(self) -> None:
        """Begin to look."""
        self._table.sort = self._by
        self._table.focus()
        self._tell_view()
        self.run_worker(self._follow(), name="look", exit_on_error=True)
        self.set_interval(min(self._every, 1.0), self._table.refresh)

    # --- looking

    async def _follow(self) -> None:
        while True:
            self._wake.clear()
            try:
                await self._look()
            except _TROUBLE as error:
                self._say(str(error))
            try:
                await asyncio.wait_for(self._wake.wait(), None if self._paused else self._every)
            except TimeoutError:
                pass

    async def _look(self) -> None:
        """Ask once, for what is in sight."""
        asked = self._question()
        overview = await self._client.list(asked)
        if asked.offset and asked.offset >= overview.total:  # the list has become shorter than where we are in it
            asked = self._question(max(0, overview.total - (asked.limit or 1)))
            overview = await self._client.list(asked)
        if self._question(asked.offset) != asked:  # meanwhile something else is to be seen
            self._wake.set()
            return
        self._table.show(asked.offset, overview.rows, overview.total)
        self._tell_counts(overview)
        nothing = not overview.total and not self._named and not self._history
        self._nothing.set_class(nothing, "open")
        self._table.display = not nothing
        if nothing:
            self._nothing.update(_NOTHING)
        await self._look_at_one()

    def _question(self, offset: int | None = None) -> Query:
        first, limit = self._table.view
        name = self._named if not self._named or set("*?") & set(self._named) else f"*{self._named}*"
        return Query(
            name=name,
            states=ENDED if self._history else LIVE,
            tasks=self._tasks and not self._history,
            ended=self._history,
            fold=self._folded and not self._history,
            sort="ended" if self._history else self._by,
            reverse=self._reverse and not self._history,
            offset=first if offset is None else offset,
            limit=limit,
            where=not self._history,
        )

    async def _look_at_one(self) -> None:
        pane = self._pane
        if self._detail is None or not pane.has_class("open"):
            return
        try:
            pane.show(await self._client.show(self._detail))
        except _TROUBLE as error:
            pane.say(self._detail, str(error))

    # --- what is told at the edges

    def _tell_counts(self, overview: Overview) -> None:
        number = len(overview.processes)
        parts = [f"{number} process" if number == 1 else f"{number} processes"]
        parts += [f"{overview.counts[state]} {state}" for state in STATES if overview.counts.get(state)]
        if overview.silent:
            silent = ", ".join(f"{each.pid} {clean(' '.join(each.argv))[:30]}" for each in overview.silent)
            parts.append(f"no answer from {silent}")
        self._counts.update(" · ".join(parts), layout=False)

    def _tell_view(self) -> None:
        parts = ["history, latest first"] if self._history else [f"by {self._by}{' reversed' if self._reverse else ''}"]
        if self._named:
            parts.append(f"filter {clean(self._named)}")
        if self._tasks and not self._history:
            parts.append("with tasks")
        if self._folded and not self._history:
            parts.append("alike ones folded")
        parts.append("PAUSED" if self._paused else f"every {seconds(self._every)}")
        self._view.update(" · ".join(parts))

    def _say(self, text: str) -> None:
        """A sentence in place of the table."""
        nothing = self._nothing
        nothing.update(text)
        nothing.add_class("open")
        self._table.display = False

    def _tell_verdicts(self) -> None:
        shown = self._verdicts
        shown.update("\n".join(list(self._orders.values())[-4:]))
        shown.set_class(bool(self._orders), "open")

    def _changed(self) -> None:
        """Something else is to be seen."""
        self._tell_view()
        self._table.clear()
        self._wake.set()

    # --- what its user does

    @on(Table.Wanted)
    def _scrolled(self) -> None:
        self._wake.set()

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
        if event.by == self._by:
            self.action_reverse()
        else:
            self._sort(event.by)

    def action_sort(self) -> None:
        """By the next column."""
        if not self._history:
            self._sort(SORTS[(SORTS.index(self._by) + 1) % len(SORTS)])

    def action_reverse(self) -> None:
        """The other way round."""
        if not self._history:
            self._reverse = self._table.reverse = not self._reverse
            self._changed()

    def _sort(self, by: str) -> None:
        self._by = self._table.sort = by
        self._reverse = self._table.reverse = False
        self._changed()

    def action_history(self) -> None:
        """The ended ones in place of those that run, and back."""
        self._history = self._table.history = not self._history
        self._changed()

    def action_tasks(self) -> None:
        """Plain asyncio tasks, too, or no longer."""
        self._tasks = not self._tasks
        self._changed()

    def action_fold(self) -> None:
        """One row for all that are alike, or one for each."""
        self._folded = not self._folded
        self._changed()

    def action_pause(self) -> None:
        """Look no more, or look again."""
        self._paused = not self._paused
        self._table.paused = self._paused
        self._tell_view()
        self._wake.set()

    def action_filter(self) -> None:
        """Ask for a filter."""
        field = self._filter
        field.add_class("open")
        field.focus()

    @on(Input.Changed, "#filter")
    def _typed(self, event: Input.Changed) -> None:
        if event.value.strip() != self._named:
            self._named = event.value.strip()
            self._changed()

    @on(Input.Submitted, "#filter")
    def _typed_enough(self) -> None:
        self._filter.remove_class("open")
        self._table.focus()

    def action_leave(self) -> None:
        """Leave the filter, then the details, then what was said of the last cancels."""
        field, pane = self._filter, self._pane
        if field.has_class("open") or (self._named and not pane.has_class("open")):
            field.value = ""
            field.remove_class("open")
        elif pane.has_class("open"):
            pane.remove_class("open")
            self._detail = None
        else:
            self._orders.clear()
            self._tell_verdicts()
        self._table.focus()

    # --- calling off

    def action_call_off(self) -> None:
        """Ask, and call off the operation under the cursor."""
        row = self._table.row
        if row is None or (row.outcome is not None and row.state != "abandoned"):
            self.notify("there is nothing to call off here", severity="warning", markup=False)
            return
        self.run_worker(self._call_off(row), name="call off")

    async def _call_off(self, row: Row) -> None:
        try:
            detail = await self._client.show(row.id)
        except _TROUBLE as error:
            self._judge(row, str(error), "warning")
            return
        row = detail.row  # of one that stands for several, which itself has another name
        order = await self.push_screen_wait(Ask(row, len(detail.children)))
        if order is not None:
            await self._carry_out(row, order)

    async def _carry_out(self, row: Row, order: Order) -> None:
        self._orders.pop(row.id, None)
        self._orders[row.id] = clean(f"{row.id} {row.name}: asked to stop, waiting for its end ...")
        self._tell_verdicts()
        self._wake.set()
        query = Query(ids=(row.id,), tasks=row.place == "asyncio")
        told: tuple[str, str] = f"{row.id} has ended before", "information"
        try:
            async for stopped in self._client.cancel(query, reason=order.reason, grace=order.grace, wait=self._wait):
                told = verdict(stopped, self._wait)
        except _TROUBLE as error:
            told = str(error), "warning"
        self._judge(row, *told)
        self._wake.set()

    def _judge(self, row: Row, text: str, severity: Any) -> None:
        self._orders[row.id] = text
        self._tell_verdicts()
        self.notify(text, title="Call off", severity=severity, timeout=8, markup=False)
