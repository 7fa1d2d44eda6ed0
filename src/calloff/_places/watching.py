"""Looks after the helpers of what is waited for: a start, or an end that was ordered.

A helper that was stopped, or never comes up, must not hold anybody up: as long as something is waited for, it is looked
after four times a second, and not at all otherwise.
"""

from asyncio import AbstractEventLoop, TimerHandle
from contextvars import Context
from time import monotonic
from typing import ClassVar, Protocol

from .keeper import Keeper

__all__ = ["Watch"]

#: seconds between two looks
_LOOK = 0.25


class _Watched(Protocol):
    keeper: Keeper

    def look_after(self, now: float, state: str) -> bool:
        """Its keeper was in that state: whether waiting has a point."""
        ...


class Watch:
    """Looks after the helpers of what is waited for on one loop: a start, or an end that was ordered."""

    all: ClassVar[dict[AbstractEventLoop, "Watch"]] = {}

    def __init__(self, loop: AbstractEventLoop) -> None:
        self._loop = loop
        self._waited: dict[_Watched, None] = {}
        self._timer: TimerHandle | None = None

    @classmethod
    def of(cls, loop: AbstractEventLoop) -> "Watch":
        """The one of this loop."""
        found = cls.all.get(loop)
        if found is None:
            for closed in [known for known in cls.all if known.is_closed()]:
                del cls.all[closed]
            found = cls.all[loop] = cls(loop)
        return found

    def add(self, guarded: _Watched) -> None:
        """A letter of it is due."""
        self._waited[guarded] = None
        if self._timer is None and not self._loop.is_closed():
            self._timer = Context().run(self._loop.call_later, _LOOK, self._look)

    def done(self, guarded: _Watched) -> None:
        """The letter came."""
        self._waited.pop(guarded, None)

    def _look(self) -> None:
        self._timer = None
        now = monotonic()
        states = {keeper: keeper.go_on() for keeper in {guarded.keeper for guarded in self._waited}}
        for guarded in [each for each in self._waited if not each.look_after(now, states[each.keeper])]:
            del self._waited[guarded]
        if self._waited:
            self._timer = Context().run(self._loop.call_later, _LOOK, self._look)
