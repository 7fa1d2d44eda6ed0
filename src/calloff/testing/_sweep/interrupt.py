"""SIGINT in place of a cancel, as `calloff.run` hears it: the first asks the program to stop, the second uses force.

The signal is a real one, so a program that has set a handler of its own gets it there, and ends in its own way.
"""

import signal
from types import FrameType
from typing import Any

from ..._words.reason import Kind

__all__ = ["Interrupts"]


class Interrupts:
    """Sends SIGINT to this process, which is that of a run, for an operation that is its main one."""

    def __init__(self, operation: Any) -> None:
        self._operation = operation
        self._number = 0
        self._handler = self._heard
        if signal.getsignal(signal.SIGINT) in (signal.SIG_DFL, signal.default_int_handler):
            signal.signal(signal.SIGINT, self._handler)

    def send(self) -> bool:
        """Send one; returns whether the program takes it by a handler of its own."""
        taken = signal.getsignal(signal.SIGINT) != self._handler
        signal.raise_signal(signal.SIGINT)
        return taken

    def _heard(self, signum: int, frame: FrameType | None) -> None:
        self._number += 1
        operation = self._operation
        operation.request(Kind.SHUTDOWN, "SIGINT", "SIGINT", operation._grace if self._number == 1 else 0.0)
