"""Threads that wait in `checkpoint`, and what wakes them when their operation is asked to stop, or has a new limit."""

import threading

__all__ = ["sleepers", "wake"]

sleepers: dict[threading.Event, object] = {}


def wake(operation: object) -> None:
    """Have the threads of an operation look at what became of it."""
    for bell, sleeping in tuple(sleepers.items()):
        if sleeping is operation:
            bell.set()
