"""A body of glass: one of its methods fails, so that tests can show that the operation above it holds its promise.

`Glass` wraps any work. Its body hands everything on to the real body, but for one method: that one raises, blocks the event
loop for a while, or lies. Whatever a place does wrong there, a stop must end within its bound, with a true verdict.
"""

import time
from collections.abc import Callable
from typing import Any

from .._api.start import body_of
from .._words.frame import RawStack
from .._words.place import Body, Sink, Work

__all__ = ["BLOCKED", "FAULTS", "METHODS", "Broken", "Glass"]

#: what can be broken
METHODS = ("ask", "insist", "force", "abandon", "where", "survivors", "reached", "insists")
FAULTS = ("raises", "blocks", "lies")
#: seconds for which a method blocks
BLOCKED = 0.1


class Broken(Exception):
    """What a broken method raises."""


class Glass(Work[Any]):
    """Work whose body fails in one method.

    Args:
        work: the real work, as for `calloff.start`.
        method: which of `METHODS` fails.
        fault: how, one of `FAULTS`.

    Attributes:
        body: the body, once it was opened; its `real` is the real one.
    """

    def __init__(self, work: Any, method: str, fault: str) -> None:
        self.place: str = getattr(work, "place", "task")
        self._work = work
        self._method = method
        self._fault = fault
        self.body: GlassBody | None = None

    def open(self) -> "GlassBody":
        """The body of glass around the real one."""
        self.body = GlassBody(body_of(self._work), self._method, self._fault)
        return self.body


class GlassBody(Body):
    """Hands everything on to `real`, but for one method."""

    def __init__(self, real: Body, method: str, fault: str) -> None:
        self.real = real
        self.broken: str = method
        self._fault = fault
        self.place: str = real.place
        self.name: str = real.name
        self.queued: bool = real.queued
        self.argv: tuple[str, ...] = real.argv

    def _through(self, method: str, call: Callable[[], Any], lie: Any) -> Any:
        if method != self.broken:
            return call()
        if self._fault == "raises":
            raise Broken(method)
        if self._fault == "blocks":
            time.sleep(BLOCKED)
            return call()
        call()
        return lie

    @property
    def insists(self) -> bool:  # type: ignore[override]  # computed when it is read, like those below
        found: bool = self._through("insists", lambda: self.real.insists, "no")
        return found

    @property
    def reached(self) -> bool:  # type: ignore[override]
        found: bool = self._through("reached", lambda: self.real.reached, 7)
        return found

    @property
    def coro(self) -> Any:
        return self.real.coro

    @property
    def task(self) -> Any:  # type: ignore[override]
        return self.real.task

    @property
    def pid(self) -> int | None:  # type: ignore[override]
        return self.real.pid

    def begin(self, sink: Sink, /) -> None:
        self.real.begin(sink)

    def ask(self, text: str, /) -> RawStack | None:
        found: RawStack | None = self._through("ask", lambda: self.real.ask(text), ["no", "stack"])
        return found

    def insist(self) -> bool:
        found: bool = self._through("insist", self.real.insist, "perhaps")
        return found

    def force(self) -> bool:
        found: bool = self._through("force", self.real.force, None)
        return found

    def abandon(self) -> bool:
        found: bool = self._through("abandon", self.real.abandon, object())
        return found

    def survivors(self) -> tuple[str, ...]:
        found: tuple[str, ...] = self._through("survivors", self.real.survivors, 3)
        return found

    def where(self) -> RawStack:
        found: RawStack = self._through("where", self.real.where, (len.__class__, 3, "x"))
        return found

    def look(self) -> None:
        self.real.look()

    def is_here(self) -> bool:
        return self.real.is_here()

    def noted(self, error: BaseException, /) -> bool:
        return self.real.noted(error)

    def interrupt(self, act: Callable[[], object], /) -> BaseException | None:
        return self.real.interrupt(act)

    def holds_up(self, task: Any, /, *, through_shields: bool = True) -> bool:
        return self.real.holds_up(task, through_shields=through_shields)

    def limited(self) -> None:
        self.real.limited()
