"""A stop on its way: carries out what the ladder decides, and keeps the evidence."""

import asyncio
from typing import TYPE_CHECKING, Any

from .._scopes.scope import Scope, is_running
from .._scopes.timers import NEVER
from .._words.frame import RawStack, develop
from .._words.ladder import Climb, Step, next_step
from .._words.reason import Kind, Reason
from .._words.report import Rung, StopReport

if TYPE_CHECKING:
    from .operation import Operation

__all__ = ["Stop", "unblock"]


class Stop:
    """The stop of one operation, from the request to the ending.

    Most bodies obey the first asking within a tick of the loop, and a hundred thousand of them may be asked at once. So
    this holds little at first: what is only needed by those who refuse, or by those who read the report, is made then.
    """

    rung = Rung.ASKED
    refusals = 0
    where: RawStack | None = None
    stuck: RawStack = ()
    survivors: tuple[str, ...] = ()
    insisted_at: float | None = None  # last; a body that was let alone in its clean-up was not asked again
    _climb: Climb | None = None
    _reason: Reason | None = None

    def __init__(self, kind: Kind, text: str, by: str | None, requested_at: float, grace: float, started: bool) -> None:
        self.kind = kind
        self.text = text
        self.by = by
        self.requested_at = requested_at
        self.force_at = requested_at + grace
        self.started = started

    @property
    def reason(self) -> Reason:
        """Who asked and why."""
        if self._reason is None:
            self._reason = Reason(self.kind, self.text, self.by, self.requested_at)
        return self._reason

    def advance(self, operation: "Operation[Any]", now: float) -> None:
        """Carry out every step that is due and wait for the next one."""
        body = operation.body
        policy = operation.policy
        climb = self._climb or Climb(self.requested_at, self.force_at, 1, self.requested_at)
        while body is not None and not operation.done():
            step, at = next_step(policy, climb, insists=body.insists)
            self._climb = climb
            if at > now:
                operation.timers.add(operation, at)
                return
            if step is Step.INSIST:
                refused = body.reached
                if body.insist():
                    self.refusals += refused
                    self.rung = Rung.INSISTED
                    self.insisted_at = now
                climb = climb.asked_again(now)
            elif step is Step.FORCE:
                refused = body.reached
                self.rung = Rung.FORCED  # first: a body that turns out to have ended already knows better
                self.refusals += body.force() and refused
                climb = climb.forced(now)
            else:
                self.stuck = body.where()
                refused = body.reached
                self.refusals += body.abandon() and refused
                self.rung = Rung.ABANDONED
                operation.give_up()

    def hasten(self, operation: "Operation[Any]", now: float, grace: float) -> None:
        """A further request may bring force nearer, never put it off."""
        if now + grace < self.force_at:
            self.force_at = now + grace
            if self._climb is not None:
                self._climb = self._climb.hastened(self.force_at)
            if operation.timer_at > self.force_at:
                operation.timers.remove(operation)
                operation.timers.add(operation, self.force_at)

    def report(self, ended_at: float, where: RawStack) -> StopReport:
        """The evidence so far; `where` stands in while the request has not arrived in the body."""
        return StopReport(
            self.reason,
            self.started,
            self.requested_at,
            ended_at,
            self.rung,
            self.refusals,
            develop(where if self.where is None else self.where),
            develop(self.stuck),
            self.survivors,
        )


def unblock(operation: "Operation[Any]", now: float) -> None:
    """The body of `operation` blocks the loop: take the steps that are due for it and for those that wait for it.

    The limit of an operation above it, or of a block that waits for it, ends here, with kind `parent`, as it would have
    done with a loop that runs. An operation above that was stopped before may be in its clean-up and need this very
    one: only when its grace is over, too, does that count. Then there is no grace left for this one either, since nothing
    that waits for it can go on before it ends.
    """
    line = {operation}
    above = operation.parent
    while above is not None and not above.done() and above.get_loop() is operation.get_loop():
        line.add(above)
        stop = above._stop
        if above.overdue(now) is not None if stop is None else stop.force_at <= now:
            _tick(above, now)
            stop = above._stop
            assert stop is not None
            if stop.force_at > now and _is_shielded(operation, above):
                break
            grace = operation._grace if stop.force_at > now else 0.0
            operation.request(Kind.PARENT, stop.text or str(stop.kind), str(above.ref), grace)
        above = above.parent
    _tick(operation, now)
    holds_up = getattr(operation.body, "holds_up", None)
    if operation._stop is None and holds_up is not None:
        for entry in operation.timers.late(now):
            host = getattr(entry, "timer_host", None)  # a scope or a group in some other task
            if host is None or host is asyncio.current_task() or host is getattr(operation.body, "task", None):
                continue
            if holds_up(host, through_shields=False) or not line.isdisjoint(getattr(entry, "operations", ())):
                if not is_running(host):
                    operation.timers.remove(entry)
                    entry.timer_due(now)
                elif isinstance(entry, Scope):  # below it on the stack: it hears of it when this operation has ended
                    entry.interrupting()
                text = "the block that waits for it ran out of time"
                operation.request(Kind.PARENT, text, None, operation._grace)


def _is_shielded(operation: "Operation[Any]", above: "Operation[Any]") -> bool:
    """Whether `above` waits for it behind a shield."""
    holds_up: Any = getattr(operation.body, "holds_up", None)
    host = getattr(above.body, "task", None)
    return bool(holds_up and host and holds_up(host) and not holds_up(host, through_shields=False))


def _tick(operation: "Operation[Any]", now: float) -> None:
    if not operation.done() and NEVER != operation.timer_at <= now:
        operation.timers.remove(operation)
        operation.timer_due(now)
