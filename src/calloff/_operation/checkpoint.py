"""`checkpoint`: where work that computes for long hears that it was asked to stop."""

import asyncio
import sys
import threading
import time
from asyncio import CancelledError
from collections.abc import Awaitable, Generator
from functools import partial
from typing import Any

from .._scopes.scope import overdue_scope
from .._words.duration import delay
from .._words.errors import StopForced
from .._words.place import Body
from .operation import Operation, current_operation
from .sleeping import sleepers

__all__ = ["checkpoint", "is_obeying"]

#: seconds between two looks for a limit that has passed and was not heeded
_SHORTEST = 0.01


def checkpoint(wait: float = 0.0) -> Awaitable[None]:
    """Raise `asyncio.CancelledError` here when the current operation was asked to stop, or a deadline has passed.

    Args:
        wait: in a thread, block here for that many seconds, too: a `time.sleep` that a stop ends at once.

    Returns:
        Something that may be awaited, to let the event loop run for one turn: ``await calloff.checkpoint()``.

    Raises:
        asyncio.CancelledError: at each call since the stop was asked for, but not in the clean-up that it set going.
        RuntimeError: `wait` where an event loop runs, which it would block: use `asyncio.sleep`. The caller's fault.

    Outside any operation nothing ever stops it. Work that computes for long, in a thread, in a process or in a
    coroutine, calls it now and then, and can be stopped politely:

        def work(rows):
            for row in rows:
                calloff.checkpoint()
                crunch(row)
    """
    operation = current_operation.get()
    if operation is not None:
        _check(operation)
    loop = asyncio._get_running_loop()
    scope = None if loop is None else overdue_scope(loop.time())
    if scope is not None:
        raise scope.interrupting()
    if wait:
        _sleep(delay(wait, "wait"), operation)
    return _TURN


def _check(operation: Operation[Any]) -> None:
    now = operation.timers.now()
    on_loop = asyncio._get_running_loop() is operation.get_loop()
    if operation.reason is None:
        # in another thread the loop is let go first: it asks for the stop, and notes where it found the body; while it
        # does not come to that, the limit was raised there all the same, and the clean-up is not cut short by it
        late = now if on_loop else now - operation.policy.slack
        if not _overdue(operation, late, obeys=not on_loop and is_obeying()):
            return
    body = _own_body(operation)
    error: BaseException | None = None
    if on_loop:  # which no timer has reached while the body computes
        act = partial(operation.blocked, now)
        if body is None:
            act()
        else:
            error = body.interrupt(act)
    if error is None:
        reason = operation.reason
        if reason is not None and is_obeying():
            return
        error = CancelledError(*([reason.text] if reason is not None and reason.text else []))
    if body is not None and body.noted(error) and operation._stop is not None:
        operation._stop.refusals += 1
    raise error


def _own_body(operation: Operation[Any]) -> Body | None:
    """The body of `operation`, if the calling code runs in it: not in a further task or thread of its making."""
    body = operation.body
    return body if body is not None and body.is_here() else None


def _overdue(operation: Operation[Any] | None, now: float, *, obeys: bool) -> bool:
    """Whether it, or one above it, is late; one above that was asked may be in its clean-up, of which this is a part.

    Who obeys already does not hear of limits, only of the end of its grace.
    """
    while operation is not None and not operation.done():
        stop = operation._stop
        if (not obeys and operation.overdue(now) is not None) if stop is None else stop.force_at <= now:
            return True
        operation = operation.parent
    return False


def is_obeying() -> bool:
    """Whether the calling code is a clean-up, which a stop has set going."""
    step = sys.exception()
    while step is not None:
        if isinstance(step, (CancelledError, StopForced)):
            return True
        step = step.__context__
    return False


def _sleep(seconds: float, operation: Operation[Any] | None) -> None:
    if asyncio._get_running_loop() is not None:
        raise RuntimeError("checkpoint(wait) would block the event loop of this thread: use asyncio.sleep()")
    if operation is None:
        time.sleep(seconds)
        return
    until = time.monotonic() + seconds
    bell = threading.Event()
    sleepers[bell] = operation
    try:
        while True:
            bell.clear()
            _check(operation)  # a stop from now on rings, and so does a new limit
            rest = until - time.monotonic()
            if rest <= 0:
                return
            deadline = None if is_obeying() else operation.deadline
            if deadline is not None:  # which the loop may be late for
                rest = min(rest, max(_SHORTEST, deadline + operation.policy.slack - operation.timers.now()))
            bell.wait(min(rest, threading.TIMEOUT_MAX))
    finally:
        sleepers.pop(bell, None)


class _Turn:
    """Lets the event loop run for one turn."""

    def __await__(self) -> Generator[None, None, None]:
        yield


_TURN = _Turn()
