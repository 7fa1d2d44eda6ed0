"""The ladder of a stop, decided in plain code: given the policy and how far the stop has come, what is next and when.

The code that acts (the operation) asks `next_step`, waits until the step is due, carries it out and notes it with
`Climb.asked_again` or `Climb.forced`. Nothing here reads a clock or touches a loop, so that it can be proved by
property tests. The order of the rungs (ask, insist, force, give up) follows Erlang/OTP's supervisor shutdown and
trio's process delivery.
"""

from enum import Enum
from typing import NamedTuple

from .policy import Policy

__all__ = ["Climb", "Due", "Step", "next_step"]


class Step(Enum):
    """What to do to the body next."""

    ASK = "ask"
    INSIST = "insist"
    FORCE = "force"
    ABANDON = "abandon"


class Due(NamedTuple):
    """A step and the point on the clock at which it is due."""

    step: Step
    at: float


class Climb(NamedTuple):
    """How far a stop has come.

    Attributes:
        requested_at: when the stop was asked for.
        force_at: when grace is over; a later request may only bring it nearer.
        asked: how many times the body was asked.
        asked_at: when it was asked last.
        forced_at: when force was used, or ``None``.
    """

    requested_at: float
    force_at: float
    asked: int = 0
    asked_at: float = 0.0
    forced_at: float | None = None

    def asked_again(self, now: float) -> "Climb":
        """The body was asked at `now`."""
        return Climb(self.requested_at, self.force_at, self.asked + 1, now, self.forced_at)

    def forced(self, now: float) -> "Climb":
        """Force was used at `now`."""
        return self._replace(forced_at=now)

    def hastened(self, force_at: float) -> "Climb":
        """A further request: it can only bring force nearer, never put it off."""
        return self._replace(force_at=force_at) if force_at < self.force_at else self


def next_step(policy: Policy, climb: Climb, *, insists: bool = True) -> Due:
    """The next step of a stop that has not ended, and when it is due.

    Args:
        policy: the timing.
        climb: how far the stop has come.
        insists: whether asking again means anything at this place.

    There is always a next step until the body has ended or was abandoned: force comes exactly at the end of grace,
    and the body is abandoned `policy.last` seconds after force.
    """
    if climb.forced_at is not None:
        return Due(Step.ABANDON, climb.forced_at + policy.last)
    if not climb.asked:
        return Due(Step.ASK, climb.requested_at)
    if insists:
        again = climb.asked_at + policy.pause(climb.asked)
        if again < climb.force_at:
            return Due(Step.INSIST, again)
    return Due(Step.FORCE, climb.force_at)
