"""What a run left behind: waited for as long as its kind deserves, and compared with what a run without a cancel leaves.

What such a run leaves as well (a connection that went back to its pool, say) is not waited for, and no finding. Nor is
a new connection in place of an old one, which such a run would have kept: pools drop a connection at a cancel, and open
another for the next who asks.
"""

import asyncio
import gc
import threading
import weakref
from collections import Counter
from typing import Any

from .case import Result
from .clock import Clock
from .course import Course
from .leftovers import CLOSING, Left, Snapshot, open_files
from .still import is_still

__all__ = ["Leftovers"]


class Leftovers:
    """What one run left.

    Args:
        oracles: those that are switched on.
        usual: a run without a cancel; ``None`` in such a run itself.
        others: tasks that have nothing to do with the swept function.

    Attributes:
        kept: the files and sockets that were open before the function ran and, at the latest look, still were.
    """

    snapshot: Snapshot
    kept: list[str]

    def __init__(
        self, oracles: frozenset[str], usual: Result | None, others: "weakref.WeakSet[asyncio.Task[Any]]"
    ) -> None:
        self._oracles = oracles
        self._usual = usual
        self._others = others
        self._found: list[Left] = []
        self.kept = []

    def look(self, loop: asyncio.AbstractEventLoop) -> None:
        """Note what is there before the function runs."""
        self.snapshot = Snapshot(loop, self._oracles)

    async def settle(self, course: Course, clock: Clock) -> None:
        """Let what is on its way out go, and note what stays; the clock goes on only when that takes time."""
        loop = asyncio.get_running_loop()
        await asyncio.sleep(0)
        threads = len(threading.enumerate()) > len(self.snapshot.threads)
        gc.collect()
        for _ in range(2):
            await asyncio.sleep(0)
        began, outside = loop.time(), clock.outside()
        turns = still = 0
        while self._look_again(course) and (
            turns < _TURNS or self._is_on_its_way(loop.time() - began, clock.outside() - outside)
        ):
            still = still + 1 if turns >= _TURNS and is_still(loop) else 0
            if still > _STILL:
                break
            if turns < _TURNS:
                for _ in range(_AT_ONCE):
                    await asyncio.sleep(0)
            else:
                clock.go_on()
                await asyncio.sleep(_pause(loop.time() - began))
            turns += _AT_ONCE
        if turns or threads:
            await asyncio.sleep(0)
            gc.collect()  # what a thread handed over just now, and nobody took: Python complains of it when it goes

    def _look_again(self, course: Course) -> bool:
        files = open_files()
        ended = {} if self._usual is None else self._usual.ended
        self._found = self.snapshot.left(course, self._others, ended, files)
        self.kept = self.snapshot.still_open(files)
        return bool(self._found or self.unclosed())

    def _is_on_its_way(self, spent: float, outside: float) -> bool:
        """Whether there is something to wait for: `outside` are the seconds for other processes."""
        unusual = self.unusual()
        if self._usual is not None and all(item.oracle == "files" for item in unusual):
            slow = min(2 * self._usual.took, _SLOWEST)  # what takes long to make may take as long to be put away
            return spent < max(CLOSING, slow) and bool(unusual or self.unclosed())
        waited = ((item, outside if item.oracle == "processes" else spent) for item in unusual)
        return any(item.patience > seconds for item, seconds in waited) or bool(spent < CLOSING and self.unclosed())

    async def let_go(self) -> None:
        """A moment for what was told to end."""
        for _ in range(5):
            await asyncio.sleep(0)
        loop = asyncio.get_running_loop()
        began = loop.time()
        self.kept = self.snapshot.still_open(open_files())
        still = 0
        while (spent := loop.time() - began) < _LETTING_GO and self._is_there():
            still = still + 1 if is_still(loop) else 0
            if still > _STILL:
                break
            await asyncio.sleep(_pause(spent))
            self.kept = self.snapshot.still_open(open_files())

    def _is_there(self) -> bool:
        return any(not item.gone() for item in self._found) or bool(self.unclosed(last=True))

    def forget_gone(self) -> None:
        """Drop what has gone away since."""
        self._found = [item for item in self._found if not item.gone()]
        self.kept = self.snapshot.still_open(open_files())

    def counted(self) -> Counter[str]:
        """What is left, by kind and name."""
        return Counter(map(_name, self._found))

    def unusual(self, *, last: bool = False) -> list[Left]:
        """What is left beyond the usual (`last`: after the teardown)."""
        usual = self._usual
        if usual is None:
            return list(self._found)
        allowed = Counter(usual.left if last else usual.left_first)
        kept = usual.given_kept if last else usual.given_first
        allowed[_SOCKET] += max(0, kept.count("socket") - self.kept.count("socket"))
        found: list[Left] = []
        for item in self._found:
            if allowed[_name(item)] > 0:
                allowed[_name(item)] -= 1
            else:
                found.append(item)
        return found

    def unclosed(self, *, last: bool = False) -> Counter[str]:
        """What the function was given to close, closes without a cancel, and has not closed now."""
        usual = self._usual
        if usual is None or "files" not in self._oracles or self.snapshot.given != usual.given:
            return Counter()
        return Counter(self.kept) - Counter(usual.given_kept if last else usual.given_first)


def _name(item: Left) -> str:
    return f"{item.oracle} {item.key}"


def _pause(spent: float) -> float:
    """Seconds until the next look: a look costs more than what it waits for."""
    return min(max(spent / 4, 0.004), 0.05)


_SOCKET = "files socket"
#: turns of the loop without a pause, and how many of them between two looks
_TURNS, _AT_ONCE = 12, 3
_LETTING_GO = 0.1
#: looks in a row at which nothing can happen any more, before nobody waits
_STILL = 2
_SLOWEST = 5.0
