"""Looking at an operation each second, on the shared timer."""

import asyncio
from asyncio import _get_running_loop
from collections.abc import AsyncIterator
from typing import Any, NamedTuple, Protocol

from .._scopes.timers import NEVER, Entry, Timers, timers_of
from .._words.duration import period
from .._words.frame import Frame
from .._words.state import State

__all__ = ["Tick", "Watch"]


class Tick(NamedTuple):
    """One look at an operation.

    Attributes:
        number: 1, 2, 3, ...
        elapsed: seconds since the operation started.
        remaining: seconds until its deadline, ``None`` without one.
        state: where it is in its life.
        progress: what the body reported last.
        where: the stack of its body, outermost first.
    """

    number: int
    elapsed: float
    remaining: float | None
    state: State
    progress: Any
    where: tuple[Frame, ...]


class Watched(Protocol):
    """What is looked at."""

    timers: Timers

    @property
    def elapsed(self) -> float: ...
    @property
    def remaining(self) -> float | None: ...
    @property
    def state(self) -> State: ...
    @property
    def progress(self) -> Any: ...
    def where(self) -> tuple[Frame, ...]: ...
    def done(self) -> bool: ...
    def completion(self) -> "asyncio.Future[None]": ...
    def forget(self, waiter: "asyncio.Future[None]", /) -> None: ...


class Watch(AsyncIterator[Tick]):
    """The async iterator of `Operation.watch`."""

    def __init__(self, operation: Watched, every: float) -> None:
        self._operation = operation
        self._every = period(every, "every")
        self._number = 0
        loop = _get_running_loop()  # another one than the operation's may look on
        self._timers = operation.timers if loop is None else timers_of(loop)
        self._next = self._timers.now() + self._every
        self._waiter: asyncio.Future[None] | None = None
        self.timer_at = NEVER
        self.timer_bucket: dict[Entry, None] | None = None

    def __aiter__(self) -> "Watch":
        return self

    async def __anext__(self) -> Tick:
        operation = self._operation
        if operation.done():
            raise StopAsyncIteration
        timers = self._timers
        self._waiter = operation.completion()
        timers.add(self, self._next)
        try:
            await self._waiter
        finally:
            if self.timer_at != NEVER:
                timers.remove(self)
            operation.forget(self._waiter)
        if operation.done():
            raise StopAsyncIteration
        missed = (timers.now() - self._next) // self._every
        self._next += self._every * (1 + max(0.0, missed))
        self._number += 1
        return Tick(
            self._number,
            operation.elapsed,
            operation.remaining,
            operation.state,
            operation.progress,
            operation.where(),
        )

    def timer_due(self, now: float) -> None:
        """Time for the next tick."""
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)
