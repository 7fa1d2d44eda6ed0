"""How a stop begins: by a request, by a limit that has passed, or by the end of the loop."""

from asyncio import _get_running_loop
from typing import TYPE_CHECKING, Any

from .._scopes.timers import NEVER
from .._words.policy import DEFAULT
from .._words.reason import Kind
from .._words.ref import Ref
from .._words.report import Rung
from .._words.state import State
from .asking import hand_on, handed
from .hooks import emit, hooks
from .limits import Limits
from .loops import CLOSING, is_closing
from .sleeping import sleepers, wake
from .stopping import Stop

if TYPE_CHECKING:
    from .operation import Operation

__all__ = ["arm", "due", "is_being_closed", "note_passed_on", "request", "reschedule", "start_limits"]

_PENDING, _STOPPING = State.PENDING, State.STOPPING


def request(operation: "Operation[Any]", kind: Kind, text: str, by: str | Ref | None, grace: float) -> None:
    """Begin the stop, or hasten the one on its way; on the loop's thread."""
    body = operation.body
    if body is None or operation._ended_at is not None:
        return
    now = operation.timers.now()
    stop = operation._stop
    parent = operation._parent
    if parent is not None and parent._stop is not None and _is_forced(parent, parent._stop):
        grace = min(grace, operation.policy.forced)
    if stop is not None:
        stop.hasten(operation, now, grace)
        return
    stop = operation._stop = Stop(kind, text, by, now, grace, operation._phase is not _PENDING)
    operation._phase = _STOPPING
    if operation.timer_at != NEVER:
        operation.timers.remove(operation)
    stop.begin(operation, body, now)
    if sleepers:
        wake(operation)
    if handed or hooks.asked:
        _tell(operation)


def note_passed_on(operation: "Operation[Any]") -> None:
    """asyncio has passed on to it the cancel of a caller, perhaps in the moment between its end and the news of that."""
    if operation._stop is not None:
        operation._stop.is_passed_on = True


def _is_forced(operation: "Operation[Any]", stop: Stop) -> bool:
    """Return whether force was used and it has not ended: what it calls off in its clean-up has to end within that."""
    return stop.rung is Rung.FORCED and operation._ended_at is None


def is_being_closed(operation: "Operation[Any]") -> bool:
    """Return whether it was whoever closes the loop that cancelled the body: then its stop has begun with that."""
    body = operation.body
    if body is None or not is_closing():
        return False
    now = operation.timers.now()
    grace = min(operation._grace, DEFAULT.grace)
    stop = operation._stop = Stop(Kind.SHUTDOWN, CLOSING, None, now, grace, operation._phase is not _PENDING)
    operation._phase = _STOPPING
    if operation.timer_at != NEVER:
        operation.timers.remove(operation)
    stop.arm(operation, body, now)
    _tell(operation)
    return True


def _tell(operation: "Operation[Any]") -> None:
    if handed:
        hand_on(operation)
    if hooks.asked:
        emit(hooks.asked, operation)


def due(operation: "Operation[Any]", now: float) -> None:
    """Take the next step of the stop, or begin it where a limit has passed."""
    if operation._stop is not None:
        operation._stop.advance(operation, now)
        return
    limits = operation._limits
    overdue = None if limits is None else limits.overdue(now)
    if overdue is None:
        arm(operation)
    else:
        request(operation, *overdue, None, operation._grace)


def start_limits(operation: "Operation[Any]", limits: Limits, now: float) -> None:
    """Start the clock of the limits: the body begins, or is as good as begun."""
    if limits.stall is None and type(limits) is Limits and operation.timer_at == NEVER and limits.timeout is not None:
        limits.heard_at = now  # nearly all of them: what follows does no more, with three calls
        limits.deadline = at = now + limits.timeout
        operation.timers.add(operation, at)
        return
    limits.start(now)
    arm(operation)


def arm(operation: "Operation[Any]") -> None:
    """Wait for the next limit."""
    if operation.timer_at != NEVER:
        operation.timers.remove(operation)
    limits = operation._limits
    at = None if limits is None else limits.due()
    if at is not None:
        operation.timers.add(operation, at)


def reschedule(operation: "Operation[Any]", timeout: float | None) -> None:
    """Set a new timeout: from now, or where the body waits for its turn, from its start."""
    if operation._stop is not None or operation.done():
        raise RuntimeError(f"{operation.name!r} is {operation._phase}: its deadline can't be changed any more")
    limits = operation._limits
    if limits is None:
        limits = operation._limits = Limits(timeout, None)
    limits.timeout = timeout
    if not _is_queued(operation):
        limits.deadline = None if timeout is None else operation.timers.now() + timeout
    if _get_running_loop() is operation.timers.loop:
        _rescheduled(operation)
    else:
        operation.timers.call(_rescheduled, operation)


def _rescheduled(operation: "Operation[Any]") -> None:
    """Wait for the new limit; on the loop's thread."""
    body = operation.body
    if body is None or operation._stop is not None:
        return
    if _is_queued(operation):
        body.limited()  # what was told of the former limit counts no more
        return
    arm(operation)
    body.limited()
    if sleepers:
        wake(operation)


def _is_queued(operation: "Operation[Any]") -> bool:
    body = operation.body
    return operation._phase is _PENDING and body is not None and body.queued
