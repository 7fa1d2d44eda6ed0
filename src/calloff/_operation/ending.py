"""The end of an operation: what is closed and told then, and what is left when its body does not end.

An operation ends once. A body that was given up may end later, which is logged, and changes nothing any more.
"""

import logging
from asyncio import Future
from contextlib import suppress
from functools import partial
from typing import TYPE_CHECKING, Any, TypeVar

from .._scopes.timers import NEVER
from .._words.errors import TimedOut
from .._words.frame import at_line, raised_at
from .._words.outcome import Abandoned, Cancelled, Completed, Failed, Outcome
from .._words.reason import LIMITS, Kind
from .._words.report import NOT_STOPPED, Rung
from .._words.state import State
from .._words.text import short, text_of
from .._words.untouched import args_of
from .asking import handed
from .elsewhere import Relay
from .history import recorder
from .hooks import emit, hooks
from .known import live
from .loops import CLOSING, is_closing
from .stopping import Stop, frames_of, where_of

if TYPE_CHECKING:
    from .operation import Operation

__all__ = ["abandon", "close", "lose_loop", "not_begun", "outcome_of", "raised", "returned", "stopped"]

T = TypeVar("T")
_logger = logging.getLogger("calloff")
_result = Future.result
_exception = Future.exception
_set_result = Future.set_result
_set_exception = Future.set_exception
_set_cancelled = Future.cancel
_PENDING, _REQUESTED = State.PENDING, Kind.REQUESTED
_COMPLETED, _FAILED, _CANCELLED, _ABANDONED = State.COMPLETED, State.FAILED, State.CANCELLED, State.ABANDONED


def close(operation: "Operation[Any]", state: State, error: BaseException | None) -> None:
    """Let go of everything that the operation holds, and wake those who only look on; its future is set after that."""
    operation._phase = state
    timers = operation.timers
    operation._ended_at = now = timers.now()
    if recorder.append is None:
        operation.body = None
    else:
        body, operation.body = operation.body, None
        recorder.record(operation, now, error, "" if body is None else body.node)
    try:
        del live[operation]
    except KeyError:  # its loop was lost
        pass
    if handed:
        handed.pop(operation, None)
    bucket = operation.timer_bucket
    if bucket is not None:  # what `Timers.remove` does, without the call
        del bucket[operation]
        operation.timer_bucket = None
        operation.timer_at = NEVER
    elif operation.timer_at != NEVER:
        timers.remove(operation)
    parent = operation._parent
    if parent is not None and parent._children is not None:
        parent._children.pop(operation, None)
    if operation._children:
        _stop_children(operation, operation._children)
    waiters = operation._waiters
    if waiters is not None:
        operation._waiters = None
        for waiter in waiters:
            if not waiter.done():
                waiter.set_result(None)


def _stop_children(operation: "Operation[Any]", children: "dict[Operation[Any], None]") -> None:
    stop = operation._stop
    text = "its parent ended" if stop is None else (stop.text or str(stop.kind))
    for child in tuple(children):
        if child._loop is operation._loop:
            child.request(Kind.PARENT, text, str(operation.ref), child._grace)
        elif not child._loop.is_closed():  # started in a thread that runs a loop of its own
            child.timers.call(child.request, Kind.PARENT, text, str(operation.ref), child._grace)


def _settle(operation: "Operation[Any]") -> None:
    """Set the future of an operation that was stopped, and tell who listens."""
    stop = operation._stop
    assert stop is not None
    kind = stop.kind
    if kind is not _REQUESTED and kind in LIMITS:  # the first is the usual one, and quicker looked at
        ended_at = operation._ended_at
        assert ended_at is not None
        evidence = partial(stop.report, ended_at, ()) if operation.body is None else operation._evidence()
        _set_exception(operation, TimedOut(operation.ref, stop.reason, evidence))
    else:
        _set_cancelled(operation, stop.text or None)
    if hooks.ended:
        emit(hooks.ended, operation)
    if operation._landing is not None:  # whoever has forced the end has more to do here
        operation._loop.call_soon(operation._landing, operation)


def returned(operation: "Operation[Any]", value: Any, survivors: tuple[str, ...] = ()) -> None:
    """The body ended with a value; `survivors` go on all the same."""
    if operation._ended_at is not None:
        _end_late(operation, "returned", value)
        return
    stop = operation._stop
    if stop is not None:
        body = operation.body
        if body is not None:
            stop.refusals += body.reached
    if survivors:
        _tell_survivors(operation, survivors)
    close(operation, _COMPLETED, None)
    _set_result(operation, value)
    if hooks.ended:
        emit(hooks.ended, operation)
    if operation._landing is not None:
        operation._landing(operation)


def raised(operation: "Operation[Any]", error: BaseException, survivors: tuple[str, ...] = ()) -> None:
    """The body ended with an error of its own; `survivors` go on all the same."""
    if operation._ended_at is not None:
        _end_late(operation, "raised", error)
        return
    if survivors:
        _tell_survivors(operation, survivors)
    close(operation, _FAILED, error)
    _set_exception(operation, error)
    if hooks.ended:
        emit(hooks.ended, operation)
    if operation._landing is not None:  # not here, where the error is being handled
        operation._loop.call_soon(operation._landing, operation)


def stopped(
    operation: "Operation[Any]",
    rung: Rung | None = None,
    survivors: tuple[str, ...] = (),
    error: BaseException | None = None,
) -> None:
    """The body ended because it was stopped; with `survivors`, a second call tells that these have ended, too."""
    if operation._ended_at is not None:
        _end_late(operation, "was let go of" if rung is Rung.ABANDONED else "obeyed")
        return
    stop = operation._stop
    if stop is None:
        stop = operation._stop = _unasked(operation, error)
        if stop.where is None and operation.body is not None and operation.body.coro is None:
            stop.where = where_of(operation.body, wait=False) or None
    if rung is not None:
        stop.rung = rung
    if survivors:
        stop.survivors = survivors
        stop.rung = Rung.ABANDONED
        abandon(operation)
    else:
        close(operation, _CANCELLED, None)
        _settle(operation)


def not_begun(operation: "Operation[Any]", error: BaseException) -> None:
    """End one whose body could not begin: whoever starts it hears the error, so that asyncio need not complain of it."""
    if operation._ended_at is None:
        raised(operation, error, ())
    if not operation.cancelled():
        _exception(operation)


def outcome_of(operation: "Operation[T]") -> Outcome[T]:
    """Return the ending as a value."""
    state = operation._phase
    if state is _COMPLETED:
        return Completed(_result(operation), operation.report)
    if state is _FAILED:
        error = _exception(operation)
        assert error is not None
        return Failed(error, operation.report)
    if not operation.cancelled():
        _exception(operation)  # seen: no complaint that it was never retrieved
    return (Abandoned if state is _ABANDONED else Cancelled)(operation.ref, operation._evidence())


def _unasked(operation: "Operation[Any]", error: BaseException | None) -> Stop:
    """Return the stop of one that was cancelled behind our back, or whose body raised `CancelledError` on its own."""
    now = operation.timers.now()
    limit = operation.overdue(now)
    if limit is not None or is_closing():
        kind, text = limit or (Kind.SHUTDOWN, CLOSING)
    else:
        kind, text = Kind.EXTERNAL, "its task was cancelled, or it raised CancelledError itself"
        words = args_of(error)[:1] if error is not None else ()
        if words and type(words[0]) is str and words[0]:  # of anything else the text is code of the program
            text += f": {text_of(words[0])}"
    stop = Stop(kind, text, None, now, operation._grace, operation._phase is not _PENDING)
    if error is not None:
        stop.where = raised_at(error) or None
    return stop


def _tell_survivors(operation: "Operation[Any]", survivors: tuple[str, ...]) -> None:
    """Log what goes on after an ending that was no stop, and note it where a stop was asked."""
    if operation._stop is not None:
        operation._stop.survivors = survivors
    _logger.warning("%s left behind what could not be ended: %s", operation.ref, "; ".join(survivors))


def abandon(operation: "Operation[Any]") -> None:
    """Give control back to whoever waits, although the body has not ended; the operation stays listed until it does."""
    body = operation.body
    close(operation, _ABANDONED, None)
    operation.body = body
    live[operation] = None
    stop = operation._stop
    assert stop is not None
    line = at_line(frames_of(stop.stuck))
    left = "; ".join(stop.survivors)
    _logger.warning(
        "%s %s%s%s",
        operation.ref,
        NOT_STOPPED,
        f": stuck at {line}" if line else "",
        f"; still running: {left}" if left else "",
    )
    _settle(operation)
    if body is not None and body.task is not None and is_closing():
        body.task.cancel()  # whoever closes the loop waits for the task: let go of it


def lose_loop(operation: "Operation[Any]") -> None:
    """Use force and give up: its loop was closed before the operation ended, so the body can't go on."""
    now = operation.timers.now()
    stop = operation._stop
    if stop is None:
        stop = operation._stop = Stop(Kind.SHUTDOWN, CLOSING, None, now, 0.0, operation._phase is not _PENDING)
    stop.lose(operation, operation.body)
    elsewhere = [waiter for waiter in operation._waiters or () if type(waiter) is Relay]
    operation._waiters = operation._children = operation._landing = None
    callbacks: Any = operation._callbacks or ()
    for callback, _ in tuple(callbacks):
        with suppress(Exception):  # it is compared with the others, by a method of its own
            operation.remove_done_callback(callback)
    _logger.warning("%s was abandoned: its event loop was closed before it ended", operation.ref)
    close(operation, _ABANDONED, None)
    try:
        _settle(operation)
    except RuntimeError:  # it is done; but a callback is left, and the loop takes none any more
        if hooks.ended:
            emit(hooks.ended, operation)
    for relay in elsewhere:
        relay.tell()


def _end_late(operation: "Operation[Any]", how: str, *what: object) -> None:
    """Log that the body has told its end once more: that matters when the operation was abandoned before."""
    if operation.body is None:
        return
    live.pop(operation, None)
    operation.body = None
    assert operation._ended_at is not None
    text = " ".join((how, *map(short, what)))
    late = operation.timers.now() - operation._ended_at
    _logger.warning("%s, abandoned %.3g s ago, ended: it %s", operation.ref, late, text)
    if hooks.ended_late:
        emit(hooks.ended_late, operation, text)
