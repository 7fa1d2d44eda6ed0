"""The limits of one operation: a deadline, the longest silence between two reports of progress, the longest wait."""

from math import inf

from .._words.reason import TURN, Kind

__all__ = ["Limits", "PatientLimits"]


class Limits:
    """What an operation with a limit keeps beside it; the clock of timeout and stall starts with its body.

    Attributes:
        timeout: seconds from the start of the body; ``None`` for no end.
        stall: seconds of silence; ``None`` for any.
        deadline: the point on the clock of the loop that follows from `timeout`; ``None`` before the start.
        heard_at: when the body reported progress last. Nobody expects progress before the start.
        patience: seconds that it may be pending; ``None`` for any.
        turn_by: the point at which these are over; ``None`` where it does not wait.
    """

    __slots__ = ("deadline", "heard_at", "stall", "timeout")
    patience: float | None = None
    turn_by: float | None = None

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
        deadline = self.deadline if self.turn_by is None else self.turn_by
        if self.stall is None:
            return deadline
        silent = self.heard_at + self.stall
        return silent if deadline is None or silent < deadline else deadline

    def overdue(self, now: float) -> tuple[Kind, str] | None:
        """Return the limit that has passed unheeded, if any, in words."""
        if self.turn_by is not None and self.turn_by <= now:
            return Kind.DEADLINE, f"{TURN}within {self.patience:g} s"
        if self.deadline is not None and self.deadline <= now:
            return Kind.DEADLINE, f"within {self.timeout:g} s"
        if self.stall is not None and self.heard_at + self.stall <= now:
            return Kind.STALLED, f"for {self.stall:g} s"
        return None


class PatientLimits(Limits):
    """Those of an operation that waits for its turn no longer than `patience`; few do, and only these have room for it."""

    __slots__ = ("patience", "turn_by")

    def __init__(self, timeout: float | None, stall: float | None, patience: float) -> None:
        super().__init__(timeout, stall)
        self.patience = patience
        self.turn_by = None

    def wait(self, now: float) -> None:
        """It waits for its turn from now on."""
        self.turn_by = now + (self.patience or 0.0)

    def start(self, now: float) -> None:
        """Start the clock; it waits no more."""
        super().start(now)
        self.turn_by = None
