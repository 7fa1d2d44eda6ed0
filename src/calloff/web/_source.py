"""What the page needs of `calloff.control.Client`; the tests have a fake of it."""

from collections.abc import AsyncIterator
from typing import Protocol

from ..control import Detail, Overview, Query, Stopped

__all__ = ["Source"]


class Source(Protocol):
    """All processes of the user side by side. All three raise `calloff.control.ControlError`."""

    async def list(self, query: Query) -> Overview:
        """The operations that `query` means."""
        ...

    async def show(self, id: str) -> Detail:
        """Everything about one operation."""
        ...

    def cancel(
        self, query: Query, *, reason: str = "", grace: float | None = None, wait: float = 10.0
    ) -> AsyncIterator[Stopped]:
        """Call off what `query` means; tells of each how it ended, or that it still runs after `wait` seconds."""
        ...
