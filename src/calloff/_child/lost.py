"""Guards that were killed: what they leave behind comes to the keeper, which kills it and tells their owner."""

import contextlib
import os
import signal
from _socket import socket as Socket
from collections.abc import Callable
from time import monotonic
from typing import Any

from .._os import proc, reaper
from .guard import send
from .page import Page
from .wire import letter

__all__ = ["Lost"]

#: seconds between two attempts to kill what a guard has left behind, at first, until it is told of, and afterwards
_PAUSE, _SHORT_PAUSE, _LONG_PAUSE = 0.002, 0.01, 1.0
#: seconds until what is left is told of
_PATIENCE = 1.0


class _Guard:
    """One that was killed."""

    def __init__(self) -> None:
        self.statuses: dict[int, int] = {}
        self.survivors: tuple[str, ...] | None = None
        """What is left; ``None`` until that is known."""
        self.control: Socket | None = None
        """Where the owner wants to be told."""
        self.leader = 0
        self.code = 0
        """How the guard ended."""
        self.page: Page | None = None


class Lost:
    """All that were killed, by the number that their owner knows their work by.

    Args:
        guards: the numbers of those that are not known to be dead, by their process.
        heirs: other keepers among our children.
        reap: takes note of children that have ended.
    """

    def __init__(self, guards: dict[int, int], heirs: set[int], reap: Callable[[], None]) -> None:
        self._me = os.getpid()
        self._guards = guards
        self._heirs = heirs
        self._reap = reap
        self._lost: dict[int, _Guard] = {}
        #: our first child: what it and its like have left is younger
        self._first = 0
        self._pause = _PAUSE
        self._until = 0.0

    def forked(self, pid: int) -> None:
        """We have this child."""
        self._first = self._first or pid

    def add(self, number: int, code: int, page: Page | None) -> None:
        """The guard of that work has ended so, and only now its orphans come here."""
        lost = self._lost.setdefault(number, _Guard())
        lost.survivors, lost.code, lost.page = None, code, page
        self._begin()

    def reaped(self, pid: int, code: int) -> None:
        """An orphan has ended."""
        for lost in self._lost.values():
            lost.statuses[pid] = code

    def left(self) -> float | None:
        """Seconds until the next attempt; ``None`` where nothing is left to be killed."""
        return self._pause if any(lost.survivors != () for lost in self._lost.values()) else None

    def bury(self) -> None:
        """Kill the orphans of guards; tell who has asked."""
        self._pause = min(2 * self._pause, _LONG_PAUSE if monotonic() >= self._until else _SHORT_PAUSE)
        denied = reaper.strike(self._first, self._guards.keys() | self._heirs)
        self._reap()
        orphans = self._orphans() or self._orphans()  # the system may leave one out while another one ends
        for lost in self._lost.values():
            if not orphans:
                lost.survivors = ()
            elif monotonic() >= self._until and lost.survivors is None:
                lost.survivors = tuple(reaper.told(pid, pid in denied) for pid in orphans)
        for number in list(self._lost):
            self._tell(number)

    def tell_later(self, number: int, file: int, leader: int) -> None:
        """The owner has seen the guard's end: it is told, in the guard's place, as soon as there is something to tell."""
        control = Socket(fileno=file)
        control.setblocking(False)
        if number in self._guards.values():  # its end has not come to us yet, or it has only closed its socket
            self._reap()
            for pid in [pid for pid, known in self._guards.items() if known == number]:
                with contextlib.suppress(OSError):
                    os.kill(pid, signal.SIGKILL)
        lost = self._lost.setdefault(number, _Guard())
        lost.control, lost.leader = control, leader
        self._begin()
        self._tell(number)  # it may all be over

    def forget(self) -> None:
        """In a fork: close what is the keeper's."""
        for lost in self._lost.values():
            if lost.control is not None:
                lost.control.close()

    def _begin(self) -> None:
        self._pause = _PAUSE
        self._until = monotonic() + _PATIENCE

    def _orphans(self) -> list[int]:
        me, ours = self._me, self._guards.keys() | self._heirs
        return [pid for pid, parent in proc.descendants(me, self._first) if parent == me and pid not in ours]

    def _tell(self, number: int) -> None:
        lost = self._lost[number]
        if lost.control is None or lost.survivors is None or number in self._guards.values():
            return
        if lost.leader >= 0:
            page = lost.page
            status = lost.statuses.get(lost.leader) if page is None or page.status is None else page.status
            how: dict[str, Any] = {"status": status, "cause": "lost", "asked": page is not None and page.asked > 0}
            how |= {"survivors": lost.survivors, "guard": lost.code, "launched": page is None or page.launched}
            how |= {"begun": 1 << 62 if page is None else page.begun, "refused": 0 if page is None else page.refused}
            send(lost.control, letter("ended", how))
            lost.leader = -1
        if not lost.survivors:
            send(lost.control, letter("gone"))
            lost.control.close()
            del self._lost[number]
