"""The evidence of a stop: who asked, which step ended it, where it was."""

from enum import IntEnum
from typing import NamedTuple

from .durations_text import spoken
from .frame import Frame, at_line
from .reason import Reason, why
from .text import clean

__all__ = ["ENDS", "NOT_STOPPED", "Rung", "StopReport", "how", "places", "refused"]


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
        survivors: what goes on all the same, in words: child tasks and calls in threads with their line, processes out of
            reach with the reason why.
        helped: the names of the functions given to `calloff.on_stop` that were run to ask it, in this order.
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
    helped: tuple[str, ...] = ()

    def __str__(self) -> str:
        return clean("; ".join((f"{why(self.reason)}: {how(self)}", *places(self))))

    @property
    def seconds(self) -> float:
        """How long the stop took."""
        return self.ended_at - self.requested_at


#: what is said of an operation that was abandoned, wherever its ending is told
NOT_STOPPED = "could not be stopped and was abandoned"
#: what each rung says to people
ENDS = {
    Rung.ASKED: "it stopped when asked",
    Rung.INSISTED: "it stopped when asked again",
    Rung.INTERRUPTED: "it was blocking the event loop and was interrupted",
    Rung.FORCED: "ended by force",
    Rung.TERMINATED: "it ended when asked by a signal",
    Rung.KILLED: "killed",
    Rung.ABANDONED: f"it {NOT_STOPPED}",
}


def how(report: StopReport, own_end: str = "") -> str:
    """Say in words how a stop ended, and when; `own_end`, where the body did not obey, is what it did instead."""
    if not report.started:
        return "it never began to run"
    after = "at once" if report.seconds < 0.005 else f"{spoken(report.seconds)} after the request"
    if own_end:
        return f"asked to stop, it {own_end} {after}{refused(report.refusals)}"
    return f"{ENDS[report.rung]} ({report.rung}) {after}{refused(report.refusals)}"


def refused(count: int) -> str:
    """Say how often it was asked and went on, to be appended: nothing where it obeyed at once."""
    return {0: "", 1: ", 1 refusal"}.get(count, f", {count} refusals")


def places(report: StopReport) -> list[str]:
    """Say where it is stuck, or where it was when it was asked; and what goes on all the same."""
    found: list[str] = []
    stuck, asked = at_line(report.stuck_at), at_line(report.where)
    if stuck:
        found.append(f"stuck at {stuck}")
    elif asked:
        found.append(f"it was at {asked}")
    if report.helped:
        found.append(f"helped by {', '.join(report.helped)}")
    return found + [f"still running: {survivor}" for survivor in report.survivors]
