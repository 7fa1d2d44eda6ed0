"""The cancels that were confirmed: carries them out, and keeps what is told of each."""

from collections.abc import AsyncGenerator, Callable
from typing import Any, Protocol

from ..control import ControlError, Detail, Overview, Query, Row, Stopped
from ._cancel import Order, told
from ._cells import clean

__all__ = ["TROUBLE", "Asked", "Orders"]

#: what may go wrong with one question, while the next may go well
TROUBLE = (ControlError, OSError, ValueError)


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


class Orders:
    """What was called off.

    Args:
        client: whom to ask.
        wait: seconds that a cancel waits for the endings.
        tell: called when there is something to tell: a sentence that is new, or nothing, and how bad it is.
        changed: called when the operations may look different now.

    Attributes:
        told: the last sentence about each, by its id.
    """

    def __init__(self, client: Asked, wait: float, tell: Callable[..., None], changed: Callable[[], None]) -> None:
        self.told: dict[str, str] = {}
        self._client = client
        self._wait = wait
        self._tell = tell
        self._changed = changed

    async def carry_out(self, rows: dict[str, Row], order: Order) -> None:
        """Call them off, and tell of each how that ended."""
        for id, row in rows.items():
            self.told.pop(id, None)
            self.told[id] = clean(f"{id} {row.name}: asked to stop, waiting for its end ...")
        self._tell()
        self._changed()
        query = Query(ids=tuple(rows), tasks=any(row.place == "asyncio" for row in rows.values()))
        waited = dict(rows)
        try:
            async for stopped in self._client.cancel(query, reason=order.reason, grace=order.grace, wait=self._wait):
                row = waited.popitem()[1] if stopped.row is None else waited.pop(stopped.row.id, stopped.row)
                self.judge(row, *told(stopped))
        except TROUBLE as error:
            for row in waited.values():
                self.judge(row, str(error), "warning")
        else:
            for row in waited.values():
                self.judge(row, f"{row.id} has ended before", "information")
        self._changed()

    def judge(self, row: Row, text: str, severity: Any) -> None:
        """Tell this of one."""
        self.told[row.id] = text
        self._tell(text, severity)
