"""One item on its way, and the counts of all of them."""

from typing import Any, NamedTuple

__all__ = ["Counts", "Flight"]


class Flight:
    """An item from the moment it is drawn to the moment its ending is delivered.

    Attributes:
        item: what the function is given.
        number: which item of the source it is, from 0.
        place: which one of those that run it is, from 0; differs from `number` where a resumed run leaves items out.
        attempt: how often it was started.
        key: under which its ending is written; ``None`` without an output.
        since: when the attempt began, on the clock of the loop.
    """

    __slots__ = ("attempt", "item", "key", "number", "place", "since")

    def __init__(self, item: Any, number: int, place: int) -> None:
        self.item = item
        self.number = number
        self.place = place
        self.attempt = 1
        self.key: str | None = None
        self.since = 0.0


class Counts(NamedTuple):
    """How far a map is.

    Attributes:
        completed: items whose function returned.
        failed: items that ended in any other way, for good.
        running: items in flight, those that wait for a worker included.
        waiting: items that wait for their next attempt.
        skipped: items that an earlier run has done.
    """

    completed: int = 0
    failed: int = 0
    running: int = 0
    waiting: int = 0
    skipped: int = 0

    def __str__(self) -> str:
        parts = [f"{self.completed} done", f"{self.failed} failed", f"{self.running} running"]
        if self.waiting:
            parts.append(f"{self.waiting} wait to be tried again")
        if self.skipped:
            parts.append(f"{self.skipped} done before")
        return ", ".join(parts)
