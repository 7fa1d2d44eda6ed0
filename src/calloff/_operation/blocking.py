"""A body that blocks the event loop, so that no timer runs: the steps that are due are taken for the loop."""

import asyncio
from collections.abc import Iterator
from math import inf

from .._scopes.scope import Scope, is_running
from .._scopes.timers import NEVER, Hosted
from .._words.reason import Kind
from .stopping import Stoppable

__all__ = ["out_of_grace", "unblock"]


def unblock(operation: Stoppable, now: float) -> None:
    """Take the steps that are due for an operation whose body blocks the loop, and for those that wait for it.

    The limit of an operation above it, or of a block that waits for it, ends this one, with kind `parent`, as it would have
    done with a loop that runs. An operation above that was stopped before may be in its clean-up and need this very
    one: only when the grace of that stop is over, too, does it count. Then there is no grace left for this one either,
    since nothing that waits for it can go on before it ends.
    """
    line: set[object] = {operation}
    for above in _above(operation):
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
    _tick(operation, now)
    if operation._stop is None and operation.body is not None:
        _for_blocks(operation, line, now)


def out_of_grace(operation: Stoppable, now: float) -> bool:
    """Whether an operation whose body blocks the loop has had all the grace of each that waits for it.

    So it is to be ended where an exception does harm, or is lost. Who was not asked, since the code was let go on, is asked
    here, as its limit would have done, or that of its group: force is due at once.
    """
    found = False
    line = [operation, *_above(operation)]
    for each in line:
        force_at = each.force_at
        if force_at is not None and force_at <= now:
            found = True
            overdue = each.overdue(now) if each._stop is None else None
            if overdue is not None:
                each.request(*overdue, None, 0.0)
    for entry in operation.timers.late(now):
        members: tuple[object, ...] = getattr(entry, "operations", ())  # of a group
        called_off = [each for each in line if each in members]
        if called_off and entry.timer_at + getattr(entry, "_grace", inf) <= now:
            found = True
            operation.timers.remove(entry)
            entry.timer_due(now)
            for each in called_off:
                each.request(Kind.PARENT, "the group that waits for it ran out of time", None, 0.0)
    return found


def _above(operation: Stoppable) -> Iterator[Stoppable]:
    """The operations above it that still run on its loop."""
    above = operation.parent
    while above is not None and not above.done() and above.get_loop() is operation.get_loop():
        yield above
        above = above.parent


def _for_blocks(operation: Stoppable, line: set[object], now: float) -> None:
    """Call off the blocks of other tasks that are overdue and wait for it, and it with them."""
    body = operation.body
    assert body is not None
    for entry in operation.timers.late(now):
        host = entry.timer_host if isinstance(entry, Hosted) else None
        if host is None or host is asyncio.current_task() or host is body.task:
            continue
        members: tuple[object, ...] = getattr(entry, "operations", ())  # of a group
        if body.holds_up(host, through_shields=False) or not line.isdisjoint(members):
            if not is_running(host):
                operation.timers.remove(entry)
                entry.timer_due(now)
            elif isinstance(entry, Scope):  # below it on the stack: it hears of it when this operation has ended
                entry.interrupting()
            text = "the block that waits for it ran out of time"
            operation.request(Kind.PARENT, text, None, operation._grace)


def _is_shielded(operation: Stoppable, above: Stoppable) -> bool:
    """Whether `above` waits for it behind a shield."""
    body = operation.body
    host = None if above.body is None else above.body.task
    return bool(body and host and body.holds_up(host) and not body.holds_up(host, through_shields=False))


def _tick(operation: Stoppable, now: float) -> None:
    if operation.done():
        return
    stop = operation._stop
    if NEVER != operation.timer_at <= now:
        operation.timers.remove(operation)
        operation.timer_due(now)
    elif operation.timer_at == NEVER and stop is not None and stop.force_at <= now and stop.requested_at < now:
        operation.timer_due(now)  # no grace at all: its turn of the loop does not come
