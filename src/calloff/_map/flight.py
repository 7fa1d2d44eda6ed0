"""One item on its way, and the counts of all of them."""

from typing import Any, NamedTuple

from .._words.errors import ended_error
from .._words.outcome import Completed, Failed, Outcome

__all__ = ["Counts", "Flight", "Wrong", "error_of", "flight_of"]


class Flight:
    """An item from the moment it is drawn to the moment its ending is delivered.

    Attributes:
        item: what the function is given.
        number: which item of the source it is, from 0.
        place: which one of those that run it is, from 0; differs from `number` where a resumed run leaves items out.
        attempt: how often it was started; 0 for what is no item at all.
        key: under which its ending is written; ``None`` without an output.
        since: when the attempt was started, on the clock of the loop.
        seconds: how long the last attempt took.
        packed: its pickle, when it took a thread to make it.
        work: the command of the last attempt, which has what that printed; ``None`` for what is none.
    """

    __slots__ = ("attempt", "item", "key", "number", "packed", "place", "seconds", "since", "work")

    def __init__(self, item: Any, number: int, place: int) -> None:
        self.item: Any = item
        self.number: int = number
        self.place: int = place
        self.attempt: int = 1
        self.key: str | None = None
        self.since: float = 0.0
        self.seconds: float = 0.0
        self.packed: Any = None
        self.work: Any = None


def flight_of(item: Any, who: "int | Flight") -> Flight:
    """What is known of an item: as long as that is nothing but its number, nothing else is made for it."""
    return who if type(who) is Flight else Flight(item, who, who)  # type: ignore[arg-type]  # it is a number


class Wrong:
    """What a source gives in the place of an item that it can't make: it fails with `error` and the others run.

    Attributes:
        text: what was found instead.
        flight: by what it is known in an output; ``None`` without one.
    """

    __slots__ = ("error", "flight", "text")

    def __init__(self, text: str, error: Exception) -> None:
        self.text = text
        self.error = error
        self.flight: Flight | None = None


class Counts(NamedTuple):
    """How far a map is.

    Attributes:
        completed: items whose function returned.
        failed: items that ended in any other way, for good.
        running: items in flight, those that wait for a worker included.
        waiting: items that wait for their next attempt.
        skipped: items that an earlier run has done.
        failed_before: those of them that did not complete, and are not run again.
    """

    completed: int = 0
    failed: int = 0
    running: int = 0
    waiting: int = 0
    skipped: int = 0
    failed_before: int = 0

    def __str__(self) -> str:
        parts = [f"{self.completed} done", f"{self.failed} failed", f"{self.running} running"]
        if self.waiting:
            parts.append(f"{self.waiting} wait to be tried again")
        if self.skipped:
            failed = f", of which {self.failed_before} did not complete" if self.failed_before else ""
            parts.append(f"{self.skipped} done before{failed}")
        return ", ".join(parts)


def error_of(outcome: Outcome[Any]) -> BaseException | None:
    """What `unwrap` would raise; ``None`` for a value."""
    if isinstance(outcome, Completed):
        return None
    if isinstance(outcome, Failed):
        return outcome.error
    return ended_error(outcome.operation, outcome.report)
