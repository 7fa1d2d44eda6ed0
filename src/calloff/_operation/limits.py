"""The limits of one operation: a deadline, and the longest silence between two reports of progress."""

from math import inf

from .._words.reason import Kind

__all__ = ["Limits"]


class Limits:
    """What an operation with a timeout or a stall keeps beside it; the clock of both starts with its body.

    Attributes:
        timeout: seconds from the start of the body; ``None`` for no end.
        stall: seconds of silence; ``None`` for any.
        deadline: the point on the clock of the loop that follows from `timeout`; ``None`` before the start.
        heard_at: when the body reported progress last. Nobody expects progress before the start.
    """

    __slots__ = ("deadline", "heard_at", "stall", "timeout")

    def __init__(self, timeout: float | None, stall: float | None) -> None:
        self.timeout = timeout
        self.stall = stall
        self.deadline: float | None = None
        self.heard_at = inf

    def start(self, now: float) -> None:
        """Start the clock: the body begins, or is as good as begun."""
        self.heard_at = now
        if self.timeout is not None:
            self.deadline = now + self.timeout

    def due(self) -> float | None:
        """Return the point at which the next limit passes, as things stand; ``None`` without any."""
        deadline = self.deadline
        if self.stall is None:
            return deadline
        silent = self.heard_at + self.stall
        return silent if deadline is None or silent < deadline else deadline

    def overdue(self, now: float) -> tuple[Kind, str] | None:
        """Return the limit that has passed unheeded, if any, in words."""
        if self.deadline is not None and self.deadline <= now:
            return Kind.DEADLINE, f"within {self.timeout:g} s"
        if self.stall is not None and self.heard_at + self.stall <= now:
            return Kind.STALLED, f"for {self.stall:g} s"
        return None
