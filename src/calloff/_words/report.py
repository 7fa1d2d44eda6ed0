"""The evidence of a stop: who asked, which step ended it, where it was."""

from enum import IntEnum
from typing import NamedTuple

from .frame import Frame
from .reason import Reason

__all__ = ["Rung", "StopReport"]


class Rung(IntEnum):
    """The step of the ladder that ended an operation, from the gentlest to the last."""

    ASKED = 1
    INSISTED = 2
    INTERRUPTED = 3
    FORCED = 4
    TERMINATED = 5
    KILLED = 6
    ABANDONED = 7

    def __str__(self) -> str:
        return self.name


class StopReport(NamedTuple):
    """What happened between the request and the end. True: nothing is called ended that still runs.

    Attributes:
        reason: why the stop was asked for.
        started: ``False`` when the body never got to run.
        requested_at: when the stop was asked for, on the clock of the event loop.
        ended_at: when the operation ended or was abandoned, same clock.
        rung: the step that ended it.
        refusals: how often the body was asked and went on.
        where: the stack of the body at the request, outermost first.
        stuck_at: the stack of the body when it was abandoned, else empty.
        survivors: processes out of reach, with the reason why.
    """

    reason: Reason
    started: bool
    requested_at: float
    ended_at: float
    rung: Rung
    refusals: int = 0
    where: tuple[Frame, ...] = ()
    stuck_at: tuple[Frame, ...] = ()
    survivors: tuple[str, ...] = ()

    @property
    def seconds(self) -> float:
        """How long the stop took."""
        return self.ended_at - self.requested_at
