"""What the core emits: for each event the functions to call.

The core knows no listener. Where nobody listens, an event costs no more than the look at a ``None``. `observers`
fills these fields with tuples of the methods of observers.
"""

from collections.abc import Callable
from typing import Any

__all__ = ["EVENTS", "Hooks", "Listener", "emit", "hooks"]

Listener = Callable[..., object]
EVENTS = ("started", "entered", "asked", "ended", "ended_late")


class Hooks:
    """The listeners of each event, ``None`` without any: what is asked of every operation is quickest with that.

    Attributes:
        started: an operation was made and is about to begin.
        entered: the body is about to take its first step.
        asked: somebody asked for the stop, for the first time.
        ended: the operation is done.
        ended_late: the body of an abandoned operation has ended after all.
    """

    __slots__ = EVENTS

    def __init__(self) -> None:
        self.started: tuple[Listener, ...] | None = None
        self.entered: tuple[Listener, ...] | None = None
        self.asked: tuple[Listener, ...] | None = None
        self.ended: tuple[Listener, ...] | None = None
        self.ended_late: tuple[Listener, ...] | None = None


#: read by the core at each event
hooks = Hooks()


def emit(listeners: tuple[Listener, ...] | None, operation: Any, *details: str) -> None:
    """Call the listeners of an event; the last one may have left in another thread, just after the caller's look."""
    for listener in listeners or ():
        listener(operation, *details)
