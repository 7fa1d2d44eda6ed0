"""Whoever wants to know of every operation: logs, spans and metrics; and the registry's history.

The core emits and knows nobody: it imports no listener, and where nobody listens it does no more than look at an empty
tuple. What an observer is handed is the live operation itself, in the middle of its own step; it reads what it needs and
keeps plain data, since an operation that is kept keeps its result, its context and everything they hold on to.

The order of calls for one operation is `started`, `entered` (unless it was stopped before its first step), `asked` (when
a stop was requested), `ended`; and of an abandoned one, if its body ever ends, `ended_late`.
"""

import logging
from asyncio import CancelledError
from collections.abc import Callable
from functools import partial
from threading import Lock
from typing import Any

from .._words.state import State
from .hooks import EVENTS, hooks
from .operation import Operation

__all__ = ["Observer", "failure", "ignore", "listen"]

_logger = logging.getLogger("calloff")


class Observer:
    """Base of those who listen: does nothing; what a subclass overrides, it hears of.

    All calls come on the thread of the operation's event loop, of which a process may have several. They hold up the
    loop, so they must be short. What they raise is logged (logger ``calloff``) and does no harm to the operation.
    """

    __slots__ = ()

    def started(self, operation: Operation[Any], /) -> None:
        """It was made and is about to begin; the current context is the one of the code that starts it."""

    def entered(self, operation: Operation[Any], /) -> None:
        """Its body is about to take its first step; the current context is its own from here to its end.

        For processes and commands, whose bodies can't see it, that context is an empty one.
        """

    def asked(self, operation: Operation[Any], /) -> None:
        """Somebody asked for its stop, for the first time: `reason` and `report` are there."""

    def ended(self, operation: Operation[Any], /) -> None:
        """It is done, with its outcome; its children are asked to stop. An abandoned one still has its `where`."""

    def ended_late(self, operation: Operation[Any], how: str, /) -> None:
        """The body of an abandoned one has ended after all.

        Args:
            how: `returned 3`, `raised ValueError('x')`, `obeyed`: follows the word "it".
        """


_observers: list[Observer] = []
_changing = Lock()


def listen(observer: Observer, /) -> None:
    """Tell `observer` of everything from now on; from any thread. Once is enough: a second time changes nothing."""
    with _changing:
        if observer not in _observers:
            _observers.append(observer)
            _rewire()


def ignore(observer: Observer, /) -> None:
    """Tell `observer` nothing more; from any thread."""
    with _changing:
        if observer in _observers:
            _observers.remove(observer)
            _rewire()


def _rewire() -> None:
    for event in EVENTS:
        silent = getattr(Observer, event)
        heard = [observer for observer in _observers if getattr(type(observer), event) is not silent]
        setattr(hooks, event, tuple(partial(_guarded, getattr(observer, event)) for observer in heard) or None)


def _guarded(method: Callable[..., object], operation: Operation[Any], *details: str) -> None:
    try:
        method(operation, *details)
    except (Exception, CancelledError):
        _logger.exception("an observer of %s failed in %s", operation.ref, getattr(method, "__name__", "?"))


def failure(operation: Operation[Any], /) -> BaseException | None:
    """What the body of an ended operation raised of its own accord, or ``None``.

    Reading it here, unlike with `Operation.exception`, asyncio still complains when nobody else ever does.
    """
    if operation.state is not State.FAILED:
        return None
    error: BaseException | None = operation._exception
    return error
