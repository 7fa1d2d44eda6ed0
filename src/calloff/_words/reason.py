"""Why a stop was asked for: plain data that crosses tasks, threads and processes."""

from enum import StrEnum
from typing import NamedTuple

__all__ = ["LIMITS", "TURN", "Kind", "Reason", "why"]


class Kind(StrEnum):
    """What sort of event asked for a stop."""

    REQUESTED = "requested"
    DEADLINE = "deadline"
    STALLED = "stalled"
    PARENT = "parent"
    SIBLING = "sibling"
    SHUTDOWN = "shutdown"
    DISCONNECTED = "disconnected"
    EXTERNAL = "external"


#: how the text of a deadline begins that was one for the wait, not for the work
TURN = "its turn "
#: the kinds that are a limit of the work's own, not somebody's wish
LIMITS = frozenset({Kind.DEADLINE, Kind.STALLED})


class Reason(NamedTuple):
    """Why work was stopped.

    Attributes:
        kind: what sort of event asked (`requested`, `deadline`, `stalled`, ...).
        text: the words given by whoever asked, or ours for a limit; may be empty.
        by: who asked: an operation, a signal, or a process and user; ``None`` where nobody is known.
        at: when, on the clock of the event loop (`loop.time()`).
    """

    kind: Kind
    text: str = ""
    by: str | None = None
    at: float = 0.0

    def __str__(self) -> str:
        words = f"{self.kind}: {self.text}" if self.text else str(self.kind)
        return f"{words} (by {self.by})" if self.by else words


def why(reason: Reason) -> str:
    """Say in words what happened to an operation: ``did not end within 3 s``, ``was called off [not needed]``."""
    if reason.kind is Kind.DEADLINE:
        return f"did not {'get' if reason.text.startswith(TURN) else 'end'} {reason.text}"
    if reason.kind is Kind.STALLED:
        return f"made no progress {reason.text}"
    words = "was called off" if reason.kind is Kind.REQUESTED else f"was called off ({reason.kind})"
    told = ", ".join(part for part in (reason.text, reason.by and f"by {reason.by}") if part)
    return f"{words} [{told}]" if told else words
