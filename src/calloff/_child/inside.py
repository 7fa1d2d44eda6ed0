"""The operation as the code inside a worker sees it: what `calloff.current()` returns there.

`calloff` finds it when it is imported in a worker (it is the default of its context variable), so that `progress`,
`current`, `current_deadline` and `checkpoint` work there without the worker having to import calloff.
"""

import contextlib
import os
import pickle
import time
from _socket import MSG_DONTWAIT
from _socket import socket as Socket
from math import inf
from struct import Struct
from typing import Any

from .page import Page

__all__ = ["InsideOperation", "operation"]

_NUMBER = Struct("<Q")


class InsideOperation:
    """Stands in the worker for the operation that it works for.

    Attributes:
        id: the operation's id in the owner.
        name: its name.
    """

    place = "process"
    parent = None
    body = None
    timer_at = -1.0
    _stop = None
    _grace = 5.0

    def __init__(self) -> None:
        self.id = ""
        self.name = ""
        self.number = 0
        self.asked: tuple[Any, ...] | None = None
        self.news: Socket | None = None
        self.page: Page | None = None
        self.told = 0
        self._children: dict[Any, None] | None = None
        self._started_at = 0.0
        self._progress: Any = None
        self._deadline: float | None = None

    def ready(self) -> None:
        """Tell the owner that work may come."""
        if self.news is not None:
            with contextlib.suppress(OSError):  # nobody is there any more
                self.news.send(b"R", MSG_DONTWAIT)

    def begin(self, number: int, id: str, name: str, left: float | None) -> None:
        """A new job."""
        self.number, self.id, self.name = number, id, name
        self.asked = None
        self.told = 0
        self._children = None
        self._progress = None
        self._started_at = now = time.monotonic()
        self._deadline = None if left is None else now + left

    # --- what calloff's functions and the work's own code call

    def progressed(self, value: Any, /) -> None:
        """Tell the owner; a report that finds no room because the owner is busy is left out."""
        self._progress = value
        self._send(b"P", value)

    def cancel(self, reason: object = None, *, grace: float | None = None, msg: object = None) -> bool:
        """Ask the owner to call the operation off."""
        text = reason if reason is not None else msg
        return self._send(b"C", ("" if text is None else str(text), grace))

    def _send(self, kind: bytes, value: Any) -> bool:
        if not self.number or self.news is None:
            return False
        try:
            self.news.send(kind + _NUMBER.pack(self.number) + pickle.dumps(value, 5), MSG_DONTWAIT)
        except OSError:  # no room, or too long for one message
            return False
        self.told += 1
        return True

    def done(self) -> bool:
        """Whether its job is over."""
        return not self.number

    def cancelled(self) -> bool:
        """Never, as long as somebody is there to ask."""
        return False

    @property
    def ref(self) -> Any:
        """Id and name as plain data."""
        from calloff._words.ref import Ref

        return Ref(self.id, self.name)

    @property
    def reason(self) -> Any:
        """Why it was asked to stop, or ``None``."""
        if self.asked is None:
            return None
        from calloff._words.reason import Kind, Reason

        kind, text, by, at = self.asked
        return Reason(Kind(kind), text, by, at)

    @property
    def report(self) -> None:
        """Known to the owner only."""
        return None

    @property
    def state(self) -> Any:
        """Running or stopping."""
        from calloff._words.state import State

        return State.RUNNING if self.asked is None else State.STOPPING

    @property
    def progress(self) -> Any:
        """What was reported last."""
        return self._progress

    @property
    def elapsed(self) -> float:
        """Seconds since the worker began with it."""
        return time.monotonic() - self._started_at

    @property
    def deadline(self) -> float | None:
        """The point on the monotonic clock at which it is stopped, as the owner told it last, or ``None``."""
        page = self.page
        if page is not None and page.limited == self.number:
            return None if page.deadline == inf else page.deadline
        return self._deadline

    @property
    def remaining(self) -> float | None:
        """Seconds until the deadline, not below zero; ``None`` without one."""
        deadline = self.deadline
        return None if deadline is None else max(0.0, deadline - time.monotonic())

    @property
    def children(self) -> tuple[Any, ...]:
        """The operations that the work started in this worker."""
        return tuple(self._children or ())

    # --- what calloff itself looks at

    class timers:
        """The clock."""

        now = staticmethod(time.monotonic)

    class policy:
        """How late the owner may be before its deadline counts here."""

        slack = 0.02

    def overdue(self, now: float) -> None:
        """The owner and the guard look after the deadline."""

    def get_loop(self) -> object:
        """The loop of the owner is not here."""
        return self

    def __repr__(self) -> str:
        return f"<Operation {self.id} {self.name!r} in its worker, process {os.getpid()}>"


#: the one of this worker
operation = InsideOperation()
