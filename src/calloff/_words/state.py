"""The life of an operation as one enum and one transition table."""

from enum import StrEnum

__all__ = ["TRANSITIONS", "State"]


class State(StrEnum):
    """Where an operation is in its life; each member is its word, too: ``op.state == "running"``."""

    PENDING = "pending"
    RUNNING = "running"
    STOPPING = "stopping"
    COMPLETED = "completed"
    FAILED = "failed"
    CANCELLED = "cancelled"
    ABANDONED = "abandoned"

    @property
    def ended(self) -> bool:
        """Whether the outcome is settled."""
        return self not in _LIVE


_LIVE = frozenset({State.PENDING, State.RUNNING, State.STOPPING})
_ENDINGS = frozenset({State.COMPLETED, State.FAILED, State.CANCELLED})

#: What may follow what. An ending is final: an abandoned body that ends late is logged, never re-judged.
TRANSITIONS: dict[State, frozenset[State]] = {
    State.PENDING: frozenset({State.RUNNING, State.STOPPING}) | _ENDINGS,
    State.RUNNING: frozenset({State.STOPPING}) | _ENDINGS,
    State.STOPPING: frozenset({State.ABANDONED}) | _ENDINGS,
    State.COMPLETED: frozenset(),
    State.FAILED: frozenset(),
    State.CANCELLED: frozenset(),
    State.ABANDONED: frozenset(),
}
