"""The operation that the running code belongs to, and what code may say and ask from inside it."""

import asyncio
from math import inf
from typing import Any

from .._scopes.scope import nearest_deadline
from .operation import Operation, current_operation

__all__ = ["current", "current_deadline", "progress", "remaining"]


def current() -> Operation[Any] | None:
    """The operation that the calling code runs in, or ``None`` outside any."""
    return current_operation.get()


def progress(value: Any = None, /) -> None:
    """Report that the current operation gets on; outside any operation nothing happens.

    Args:
        value: what watchers are shown: a number, a text, or a pair ``(done, total)``.

    A report starts the silence anew that `stall` limits.
    """
    operation = current_operation.get()
    if operation is not None:
        operation.progressed(value)


def current_deadline() -> float:
    """The nearest deadline of all enclosing scopes and operations, on the clock of the loop; infinity without any."""
    nearest = nearest_deadline()
    operation = current_operation.get()
    while operation is not None:
        deadline = operation.deadline
        if deadline is not None and deadline < nearest:
            nearest = deadline
        operation = operation.parent
    return nearest


def remaining() -> float:
    """Seconds until `current_deadline`: zero when it has passed, infinity when there is none."""
    deadline = current_deadline()
    if deadline == inf:
        return inf
    operation = current_operation.get()  # knows the clock in other threads, too
    now = asyncio.get_running_loop().time() if operation is None else operation.timers.now()
    return max(0.0, deadline - now)
