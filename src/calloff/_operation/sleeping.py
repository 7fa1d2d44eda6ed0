"""Threads that wait in `checkpoint`, and what wakes them when their operation is asked to stop."""

import threading

__all__ = ["sleepers", "wake"]

sleepers: dict[threading.Event, object] = {}


def wake(operation: object) -> None:
    """Wake the threads of an operation that was asked to stop."""
    for bell, sleeping in tuple(sleepers.items()):
        if sleeping is operation:
            bell.set()
