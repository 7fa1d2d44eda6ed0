"""What is to be seen, and in which order: as a question to the programs, and in words for the first line."""

from msgspec.structs import replace

from ..control import Query
from ..control._filter import read_filter
from ..control._records import ENDED, LIVE, SORTS
from ._cells import clean

__all__ = ["View"]


class View:
    """What was chosen.

    Attributes:
        typed: the filter, as it was typed.
        by: by what the rows are sorted.
        reverse: whether the other way round.
        tasks: whether plain asyncio tasks are shown, too.
        folded: whether what is alike is one row.
        history: whether the ended ones are shown in place of those that run.
        paused: whether nothing is looked at any more.
    """

    def __init__(self, *, by: str, tasks: bool) -> None:
        self.typed = ""
        self.by = by
        self.tasks = tasks
        self.reverse = self.folded = self.history = self.paused = False
        self._only = Query()

    def read(self, typed: str) -> None:
        """Look through another filter.

        Raises:
            ValueError: it is not yet a whole one; the one before stays.
        """
        self._only = read_filter(typed)
        self.typed = typed

    def next(self) -> str:
        """The column after the one by which the rows are sorted."""
        return SORTS[(SORTS.index(self.by) + 1) % len(SORTS)]

    def question(self, first: int, limit: int) -> Query:
        """What the programs are asked for so many rows from that one on."""
        only, half = self._only, ENDED if self.history else LIVE
        return replace(
            only,
            # where none of those that are wanted can be here, they are asked for all the same: nothing is shown, not all
            states=tuple(state for state in only.states or half if state in half) or only.states,
            tasks=(self.tasks or only.tasks) and not self.history,
            ended=self.history,
            fold=self.folded and not self.history,
            sort="ended" if self.history else self.by,
            reverse=self.reverse and not self.history,
            offset=first,
            limit=limit,
            where=not self.history,
        )

    def words(self, marked: int, every: str) -> str:
        """It all in a line.

        Args:
            marked: how many rows are marked.
            every: how often is looked; empty where there is no room for that.
        """
        parts = ["history, latest first"] if self.history else [f"by {self.by}{' reversed' if self.reverse else ''}"]
        if self.typed:
            parts.append(f"filter {clean(self.typed)}")
        if marked:
            parts.append(f"{marked} marked")
        if self.tasks and not self.history:
            parts.append("with tasks")
        if self.folded and not self.history:
            parts.append("folded")
        if self.paused or every:
            parts.append("PAUSED" if self.paused else f"every {every}")
        return " · ".join(parts)
