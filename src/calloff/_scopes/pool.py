"""Deadlines of scopes that nobody has to look at yet.

Nearly every scope is left long before its deadline, so what counts is the price of coming and going: one entry in a
dict. The pool waits on the loop's timer, for all its scopes, for a point that none of their deadlines is before. A
deadline that is nearer than that point brings it nearer. When it comes, the scopes that are due are called off and the
others, which have proved to be long-lived, are handed to the timer one by one, so that none is looked at twice.
"""

import asyncio
from collections.abc import Callable
from math import inf
from typing import TYPE_CHECKING, Any

from .timers import NEVER, Entry, Timers, timers_of

if TYPE_CHECKING:
    from .scope import Scope

__all__ = ["Pool", "pool_of", "pools"]


class Pool:
    """The scopes of one event loop that were entered lately and have a deadline."""

    __slots__ = ("at", "loop", "now", "scopes", "timer_at", "timer_bucket", "timers")

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self.loop = loop
        self.timers: Timers = timers_of(loop)
        self.now: Callable[[], float] = self.timers.now
        #: no deadline in the pool is before this point; infinity when it waits for none
        self.at = inf
        #: used as a set; also the `timer_bucket` of each of them, out of which `Timers.remove` takes them
        self.scopes: dict[Any, None] = {}
        self.timer_at = NEVER
        self.timer_bucket: dict[Entry, None] | None = None

    def add(self, scope: "Scope", when: float) -> None:
        """Wait for a deadline; where it is not before `at`, an entry in `scopes` is all there is to do."""
        self.scopes[scope] = None
        scope.timer_bucket = self.scopes
        if when < self.at:
            self.timers.remove(self)
            self.timers.add(self, when)
            self.at = when

    def late(self, now: float) -> "list[Scope]":
        """Those that should have been called off by now; for the one who finds that the loop is blocked."""
        return [scope for scope in self.scopes if scope._when <= now]

    def timer_due(self, now: float) -> None:
        """Call off what is due, and hand on the rest."""
        self.at = inf
        add = self.timers.add
        due = []
        endless = []
        for scope in self.scopes:  # there may be many thousands: the loop must not be held up for long
            when = scope._when
            if when == inf:
                endless.append(scope)
            elif when > now:
                add(scope, when)
            else:
                scope.timer_bucket = None
                scope.timer_at = NEVER
                due.append(scope)
        self.scopes.clear()
        if endless:
            self.scopes.update(dict.fromkeys(endless))
        ahead = iter(due)
        try:
            for scope in ahead:
                scope.timer_due(now)
                if self.now() > self.timers.until:
                    break
        finally:
            for scope in ahead:  # one has failed, or time is up: the timer calls the others
                add(scope, now)


def pool_of(loop: asyncio.AbstractEventLoop) -> Pool:
    """The pool of `loop`, made at the first call."""
    try:
        return pools[loop]
    except KeyError:
        for closed in [known for known in list(pools) if known.is_closed()]:
            pools.pop(closed, None)
        return pools.setdefault(loop, Pool(loop))


pools: dict[asyncio.AbstractEventLoop, Pool] = {}
