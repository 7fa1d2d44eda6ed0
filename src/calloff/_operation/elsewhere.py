"""Waiting for an operation in another event loop than its own, which runs in another thread.

Its end is told from its own loop, after its future was set: until then nobody else may look at that. An operation whose
loop does not run can't be waited for, since nobody would ever hear of its end.
"""

from asyncio import AbstractEventLoop, Future, _get_running_loop, get_running_loop
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from .._words.reason import Kind
from .known import live
from .loops import forget

if TYPE_CHECKING:
    from .operation import Operation

__all__ = ["Relay", "forget_elsewhere", "is_elsewhere", "request_elsewhere", "wait_elsewhere"]


def is_elsewhere(operation: "Operation[Any]") -> bool:
    """Return whether another event loop than the operation's own runs the calling code."""
    loop = _get_running_loop()
    return loop is not None and loop is not operation._loop


class Relay:
    """Stands among the waiters of an operation for one that waits in another event loop."""

    __slots__ = ("_loop", "waiter")

    def __init__(self, loop: AbstractEventLoop, waiter: "Future[None]") -> None:
        self._loop = loop
        self.waiter = waiter

    def done(self) -> bool:
        """Whether nobody need be told: only the other loop knows."""
        return False

    def set_result(self, _: None) -> None:
        """Tell the one who waits, once the operation's own future is set, too."""
        self._loop.call_soon(self.tell)

    def tell(self) -> None:
        """Wake the one who waits."""
        with suppress(RuntimeError):  # that loop was closed, too
            self.waiter.get_loop().call_soon_threadsafe(_wake, self.waiter)


def wait_elsewhere(operation: "Operation[Any]") -> "Future[None]":
    """Return a future of the running loop that is done when an operation of another loop is."""
    waiter: Future[None] = get_running_loop().create_future()
    if operation._loop.is_closed():
        forget(operation._loop, live)
    if operation.done():
        waiter.set_result(None)
    elif operation._loop.is_running():
        operation.timers.call(_register, operation, Relay(operation._loop, waiter))
    else:
        raise RuntimeError(
            f"{operation.name!r} belongs to another event loop, which does not run: it can't be waited for"
        )
    return waiter


def _register(operation: "Operation[Any]", relay: Relay) -> None:
    """On the operation's loop."""
    if operation.done():
        relay.tell()
    else:
        operation._waiters = [*(operation._waiters or ()), relay]


def forget_elsewhere(operation: "Operation[Any]", waiter: "Future[None]") -> None:
    """Forget a waiter of the running loop that lost interest."""
    with suppress(RuntimeError):  # that loop was closed
        operation.timers.call(_unregister, operation, waiter)


def _unregister(operation: "Operation[Any]", waiter: "Future[None]") -> None:
    """On the operation's loop."""
    waiters = operation._waiters or ()
    operation._waiters = [each for each in waiters if type(each) is not Relay or each.waiter is not waiter] or None


def _wake(waiter: "Future[None]") -> None:
    if not waiter.done():
        waiter.set_result(None)


def request_elsewhere(operation: "Operation[Any]", kind: Kind, text: str, by: str | None, grace: float) -> None:
    """Begin or hasten the stop of an operation, from another loop than its own."""
    try:
        operation.timers.call(operation.request, kind, text, by, grace)
    except RuntimeError:  # that loop was closed
        forget(operation._loop, live)
