"""A stop on its way: carries out what the ladder decides, and keeps the evidence.

Read from top to bottom, `Stop` is the whole ladder: `begin` arms the timer first, then asks, then gathers evidence;
`advance` insists, forces and gives up, each when it is due; `report` is the evidence. A body may fail in any of its
methods: what it raises is logged, and the ladder goes on, since its timer does not depend on the body.
"""

import logging
from asyncio import AbstractEventLoop, CancelledError
from collections.abc import Callable
from math import inf
from typing import Any, Protocol, TypeVar

from .._scopes.timers import NEVER, Entry, Timers
from .._words.errors import StopForced
from .._words.frame import Frame, RawStack, develop
from .._words.ladder import Climb, Due, Step, next_step
from .._words.place import Body
from .._words.policy import DEFAULT, Policy
from .._words.reason import Kind, Reason
from .._words.ref import Ref
from .._words.report import Rung, StopReport
from .asking import hand_on, handed, press

__all__ = ["Stop", "Stoppable", "frames_of", "survivors_of", "where_of"]

T = TypeVar("T")
_FIRST_PAUSE = DEFAULT.pause(1)
#: a body ends in one turn of the loop, whoever waits for it hears of that in the next
_LATE_TURNS = 5
#: what a method of a body may raise without keeping the stop up
_RAISED = (Exception, CancelledError, StopForced)
_logger = logging.getLogger("calloff")


class Stoppable(Entry, Protocol):
    """What a stop needs of its operation."""

    body: Body | None
    timers: Timers
    policy: Policy
    _grace: float
    _stop: "Stop | None"
    _children: Any

    @property
    def ref(self) -> Ref:
        """Id and name."""
        ...

    @property
    def parent(self) -> "Stoppable | None":
        """The operation that started it."""
        ...

    @property
    def force_at(self) -> float | None:
        """When its grace is over: of the stop on its way, or of the one that its limit asks for."""
        ...

    def done(self) -> bool:
        """Whether it has ended."""
        ...

    def get_loop(self) -> AbstractEventLoop:
        """Its event loop."""
        ...

    def overdue(self, now: float, /) -> tuple[Kind, str] | None:
        """The limit that has passed unheeded."""

    def request(self, kind: Kind, text: str, by: str | Ref | None, grace: float, /) -> None:
        """Begin the stop, or hasten the one on its way."""

    def give_up(self) -> None:
        """Give control back to whoever waits, although the body has not ended."""


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
    helped: tuple[str, ...] = ()
    is_passed_on = False  # asyncio has called it off, whoever began: for a caller that waits for it in a `gather`
    insisted_at: float | None = None  # last; a body that was let alone in its clean-up was not asked again
    _torn_at: float | None = None
    _let_in = False  # force has left the asking a turn of the loop in which it can arrive
    _late_turns = 0  # that a loop which was late has had since then, for the end of what was forced
    _climb: Climb | None = None
    _again: Due | None = None  # the asking that the timer was set for
    _reason: Reason | None = None

    def __init__(
        self, kind: Kind, text: str, by: str | Ref | None, requested_at: float, grace: float, started: bool
    ) -> None:
        self.kind = kind
        self.text = text
        self.by = by
        self.requested_at = requested_at
        self.force_at = requested_at + grace
        self.started = started

    def begin(self, operation: Stoppable, body: Body, now: float) -> None:
        """Arm the timer, ask the body, and note where it was."""
        self.arm(operation, body, now)
        timers = operation.timers
        try:  # as `_attempt` does, written out: a hundred thousand may be asked at once
            where = body.ask(self.text)
        except _RAISED:
            _failed(operation, "ask")
            where = None
        if operation.timer_at == now:  # no grace at all: force comes in the next turn of the loop, behind the asking
            timers.remove(operation)
            self._let_in = True
            timers.loop.call_soon(self._no_grace, operation)
        if where is None and operation._children and body.coro is not None and not operation.done():
            where = where_of(body, wait=False)  # it may be waiting for one that is gone in a moment
        if where is not None and self.where is None:
            self.where = where

    def arm(self, operation: Stoppable, body: Body, now: float) -> None:
        """Wait for the step behind the first asking; alone, when somebody else has asked the body."""
        try:
            insists = body.insists
        except _RAISED:
            _failed(operation, "insists")
            insists = False
        if insists and self.force_at - now > _FIRST_PAUSE:
            insisting = operation.timers.insisting
            entries = insisting.entries
            if entries:  # what FifoTimer.add does, without the call
                operation.timer_at = now + _FIRST_PAUSE
                operation.timer_bucket = entries
                entries[operation] = None
            else:
                insisting.add(operation, now + _FIRST_PAUSE)
        else:
            operation.timers.add(operation, self.force_at)

    def lose(self, operation: Stoppable, body: Body | None) -> None:
        """Use force without a loop, and note where the body is: nobody will hear of its end."""
        self.rung = Rung.ABANDONED
        self.stuck = where_of(body)
        if self.where is None:
            self.where = self.stuck
        if body is not None and body.task is None:
            self._attempt(operation, body.force, default=False)
        if handed:
            hand_on(operation)

    def _no_grace(self, operation: Stoppable) -> None:
        if not operation.done() and operation.timer_at == NEVER:
            self.advance(operation, operation.timers.now())

    def hasten(self, operation: Stoppable, now: float, grace: float) -> None:
        """Bring force nearer; a further request never puts it off."""
        if now + grace < self.force_at:
            self.force_at = now + grace
            if self._climb is not None:
                self._climb = self._climb.hastened(self.force_at)
            self._again = None
            if operation.timer_at > self.force_at:
                operation.timers.remove(operation)
                operation.timers.add(operation, self.force_at)

    def advance(self, operation: Stoppable, now: float) -> None:
        """Carry out every step that is due, and wait for the next one; also when a step fails, there is a next one."""
        try:
            self._carry_out(operation, now)
        finally:
            if operation.timer_at == NEVER and not operation.done():
                operation.timers.add(operation, self._next(operation).at)

    def _next(self, operation: Stoppable) -> Due:
        if self._climb is None:
            self._climb = Climb(self.requested_at, self.force_at, 1, self.requested_at)
        body = operation.body
        try:  # as `_attempt` does, written out
            insists = body is not None and body.insists
        except _RAISED:
            _failed(operation, "insists")
            insists = False
        return next_step(operation.policy, self._climb, insists=insists)

    def _carry_out(self, operation: Stoppable, now: float) -> None:
        while (body := operation.body) is not None and not operation.done():
            due, self._again = self._again or self._next(operation), None
            step, at = due
            climb = self._climb
            if at > now or climb is None:
                if operation.timer_at == NEVER:
                    operation.timers.add(operation, at)
                if step is Step.INSIST:
                    self._again = due
                return
            try:  # as `_attempt` does, written out: a thousand may refuse at once
                reached = bool(body.reached)
            except _RAISED:
                _failed(operation, "reached")
                reached = False
            if step is Step.INSIST:
                self._climb = climb.asked_again(now)  # first, so that the ladder goes on whatever comes of it
                if self._attempt(operation, body.insist, default=False):
                    self.refusals += reached
                    self.rung = Rung.INSISTED
                    self.insisted_at = now
            elif step is Step.FORCE and not reached and not self._let_in:
                self._let_in = True  # a loop that was late has not carried out the asking yet: force comes a turn later
                return
            elif step is Step.FORCE:
                self._climb = climb.forced(now)
                self.rung = Rung.FORCED  # a body that turns out to have ended already knows better
                if operation._children:
                    self._force_children(operation)
                self.refusals += bool(self._attempt(operation, body.force, default=False)) and reached
                if handed:
                    press(operation)
            elif self._is_held_up(operation, now - at) or self._is_torn(operation, body, now, reached=reached):
                return  # the next look finds it ended, or goes on here
            else:
                self.stuck = where_of(body, wait=body.coro is None)
                self.survivors = survivors_of(body)
                self.refusals += bool(self._attempt(operation, body.abandon, default=True)) and reached
                self.rung = Rung.ABANDONED
                operation.give_up()
                return

    def _is_held_up(self, operation: Stoppable, late: float) -> bool:
        """Whether the loop has come to this step so `late` that the body gets turns first: it may be about to end.

        What was forced with it, a little later, is not given up before it: that would look as if it had ended.
        """
        timers, parent = operation.timers, operation.parent
        if timers.until == inf:  # the loop is blocked, and has no turns to give
            return False
        if parent is not None and parent.timers is timers and not parent.done():
            above = parent._stop
            if above is not None and above._late_turns:
                self._late_turns = above._late_turns
                return True
        if late <= operation.policy.slack or self._late_turns == _LATE_TURNS:
            return False
        self._late_turns += 1
        return True

    def _force_children(self, operation: Stoppable) -> None:
        """Force the operations that were started in it and are being stopped: it waits for them, as a rule."""
        text, by, loop = self.text or str(self.kind), str(operation.ref), operation.get_loop()
        for child in tuple(operation._children):
            if child._stop is None or child.get_loop().is_closed():
                continue
            if child.get_loop() is loop:
                child.request(Kind.PARENT, text, by, 0.0)
            else:  # in a thread that runs a loop of its own
                child.timers.call(child.request, Kind.PARENT, text, by, 0.0)

    def _is_torn(self, operation: Stoppable, body: Body, now: float, *, reached: bool) -> bool:
        """Whether the body gets a moment more, since it has refused force and can't refuse what is used now."""
        since = self._torn_at
        until = now if since is None else since + operation.policy.tearing
        if now > until:
            return False
        if self._attempt(operation, body.tear, default=False):
            if since is None:
                self._torn_at = now
                self.refusals += reached and not operation.done()
            return True
        if now < until:  # what it waits for has been ended; it will hear of that in the next turns of the loop
            operation.timers.add(operation, until)
        return now < until

    def _attempt(self, operation: Stoppable, call: Callable[..., T], *args: object, default: T) -> T:
        """Call something of the body; when that raises, log the error and go on with `default`."""
        try:
            return call(*args)
        except _RAISED:
            _failed(operation, getattr(call, "__name__", "?").lstrip("_"))
            return default

    @property
    def reason(self) -> Reason:
        """Who asked and why."""
        if self._reason is None:
            by = None if self.by is None else str(self.by)
            self._reason = Reason(self.kind, self.text, by, self.requested_at)
        return self._reason

    def report(self, ended_at: float, where: RawStack) -> StopReport:
        """Return the evidence so far; `where` stands in while the request has not arrived in the body."""
        return StopReport(
            self.reason,
            self.started,
            self.requested_at,
            ended_at,
            self.rung,
            self.refusals,
            frames_of(where if self.where is None else self.where),
            frames_of(self.stuck),
            self.survivors,
            self.helped,
        )


def where_of(body: Body | None, *, wait: bool = True) -> RawStack:
    """Return where a body is, for people; never raises: without an answer, it is the empty stack.

    Not to `wait` means: only what is known without asking another process.
    """
    if body is None:
        return ()
    try:
        return body.where() if wait else body.known_where()
    except (Exception, CancelledError, StopForced):
        _logger.exception("a body could not tell where it is")
        return ()


def frames_of(stack: RawStack) -> tuple[Frame, ...]:
    """Return the frames of what a place gave as a stack; never raises: what is none has no frames."""
    try:
        return develop(stack)
    except Exception:
        _logger.exception("a place gave no stack, but %.100r", type(stack))
        return ()


def survivors_of(body: Body) -> tuple[str, ...]:
    """Return what goes on of a body that is abandoned; never raises."""
    try:
        return tuple(map(str, body.survivors()))
    except (Exception, CancelledError, StopForced):
        _logger.exception("a body could not tell what goes on of it")
        return ()


def _failed(operation: Stoppable, method: str) -> None:
    _logger.exception("%s: its place failed to %s; the stop goes on", operation.ref, method)
