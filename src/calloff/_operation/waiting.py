"""Waiting for several operations, without ever losing the cancel of the one who waits."""

import asyncio
from asyncio import CancelledError
from collections.abc import Callable, Iterable
from typing import Any

from .._words.errors import StopForced
from .callers import follow, goes_along
from .operation import Operation

__all__ = ["changed", "force", "settled"]


async def settled(
    operations: Callable[[], Iterable[Operation[Any]]], on_cancel: Callable[[CancelledError], None]
) -> CancelledError | None:
    """Wait until no operation of `operations()` runs.

    When the caller is cancelled, `on_cancel` is told, once, and the wait goes on: the operations are expected to be
    called off then, so that it is bounded. When the caller is forced, those are forced that it has started, and waited for;
    `StopForced` is raised then.

    Returns:
        The caller's cancel, which the caller has to raise; ``None`` without one.
    """
    held: CancelledError | None = None
    forced: StopForced | None = None
    pending: list[Operation[Any]] = []
    while True:
        while pending and pending[-1].done():
            pending.pop()
        pending = pending or [operation for operation in operations() if not operation.done()]
        if not pending:
            break
        try:
            await pending[-1].completion()
        except CancelledError as error:
            if held is None:
                held = error
                on_cancel(error)
        except StopForced as error:
            forced = error
            if not force(operations(), error):
                raise
    if forced is not None:
        raise forced
    return held


def force(operations: Iterable[Operation[Any]], error: BaseException) -> bool:
    """Force those of the operations that the calling code, which is forced, has started; whether there were any."""
    along = [operation for operation in operations if goes_along(operation)]
    for operation in along:
        follow(operation, error)
    return bool(along)


async def changed(operations: Iterable[Operation[Any]], seconds: float | None) -> None:
    """Wait until one of the operations has ended, or `seconds` have passed."""
    loop = asyncio.get_running_loop()
    waiter: asyncio.Future[None] = loop.create_future()

    def wake(_: object = None) -> None:
        if not waiter.done():
            waiter.set_result(None)

    timer = None if seconds is None else loop.call_later(seconds, wake)
    watched = tuple(operations)
    for operation in watched:
        operation.add_done_callback(wake)
    try:
        await waiter
    finally:
        if timer is not None:
            timer.cancel()
        for operation in watched:
            operation.remove_done_callback(wake)
