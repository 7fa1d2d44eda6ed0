"""A stop on its way: carries out what the ladder decides, and keeps the evidence."""

from typing import TYPE_CHECKING, Any

from .._words.frame import RawFrame, develop
from .._words.ladder import Climb, Step, next_step
from .._words.reason import Reason
from .._words.report import Rung, StopReport

if TYPE_CHECKING:
    from .operation import Operation

__all__ = ["Stop"]


class Stop:
    """The stop of one operation, from the request to the ending."""

    __slots__ = ("climb", "ended_at", "reason", "refusals", "rung", "started", "stuck", "survivors", "where")

    def __init__(self, reason: Reason, now: float, grace: float, started: bool, where: tuple[RawFrame, ...]) -> None:
        self.reason = reason
        self.climb = Climb(now, now + grace, 1, now)
        self.started = started
        self.where = where
        self.rung = Rung.ASKED
        self.refusals = 0
        self.ended_at = now
        self.stuck: tuple[RawFrame, ...] = ()
        self.survivors: tuple[str, ...] = ()

    def advance(self, operation: "Operation[Any]", now: float) -> None:
        """Carry out every step that is due and wait for the next one."""
        body = operation.body
        policy = operation.policy
        while body is not None and not operation.done():
            step, at = next_step(policy, self.climb, insists=body.insists)
            if at > now:
                operation.timers.add(operation, at)
                return
            if step is Step.INSIST:
                if body.insist():
                    self.refusals += 1
                    self.rung = Rung.INSISTED
                self.climb = self.climb.asked_again(now)
            elif step is Step.FORCE:
                self.refusals += body.force()
                self.rung = Rung.FORCED
                self.climb = self.climb.forced(now)
            else:
                self.stuck = body.where()
                self.refusals += body.abandon()
                self.rung = Rung.ABANDONED
                operation.give_up()

    def hasten(self, operation: "Operation[Any]", now: float, grace: float) -> None:
        """A further request may bring force nearer, never put it off."""
        climb = self.climb.hastened(now + grace)
        if climb is not self.climb:
            self.climb = climb
            operation.timers.remove(operation)
            self.advance(operation, now)

    def report(self) -> StopReport:
        """The evidence so far."""
        return StopReport(
            self.reason,
            self.started,
            self.climb.requested_at,
            self.ended_at,
            self.rung,
            self.refusals,
            develop(self.where),
            develop(self.stuck),
            self.survivors,
        )
