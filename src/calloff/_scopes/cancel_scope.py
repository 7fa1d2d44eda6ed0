"""`CancelScope`, `move_on_after` and `move_on_at`: a block that can be called off, and then is passed over."""

import asyncio
from math import inf
from types import TracebackType
from typing import TYPE_CHECKING

from .._words.duration import delay as checked_delay
from .._words.duration import limit
from .._words.errors import is_cancel, raise_carried
from .._words.reason import Kind, Reason
from .pool import pool_of, pools
from .scope import Scope, State

__all__ = ["CancelScope", "move_on_after", "move_on_at"]

_CREATED, _DOOMED, _ACTIVE = State.CREATED, State.DOOMED, State.ACTIVE
_running_loop = asyncio.get_running_loop
_new = object.__new__


class CancelScope(Scope):
    """A block of code that can be called off, by its deadline or by hand; the program goes on behind the block.

    ``with`` and ``async with`` are the same. It is entered once, and by a task::

        with calloff.CancelScope() as scope:
            button.on_click(scope.cancel)
            await long_work()
        if scope.cancelled_caught:
            print("the user had enough")

    Args:
        deadline: a point on the clock of the loop (`loop.time()`); infinity for none.
        grace: seconds the block has for its clean-up; after that it is cancelled again, and again with growing
            pauses, until it ends. ``None``: it is cancelled once.

    Raises:
        ValueError: a deadline or grace that is negative or NaN. The caller's fault.
        RuntimeError: on entry: outside a task, or entered before.

    A cancel of the task by somebody else is never swallowed, also when it comes at the same time. Nor are the failures in a
    `group` that is left by the cancel, nor the error in which an operation ends that the block waits for.
    """

    __slots__ = ("_caught",)
    _caught: bool

    if TYPE_CHECKING:

        def __exit__(
            self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
        ) -> bool: ...

        async def __aexit__(
            self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
        ) -> bool: ...

    def __init__(self, *, deadline: float = inf, grace: float | None = None) -> None:
        self._pool = None
        self._limit = None
        self._state = _CREATED
        self._reason = None
        self._when = _checked(deadline, "deadline")
        self._grace = None if grace is None else limit(grace, "grace")

    @property
    def deadline(self) -> float:
        """The point on the clock of the loop at which the block is called off, infinity without one; may be set."""
        return self._when

    @deadline.setter
    def deadline(self, deadline: float) -> None:
        when = _checked(deadline, "deadline")
        if self._state is _ACTIVE:
            self._set_deadline(when)
        else:
            self._when = when
            self._limit = None
            if self._state is _DOOMED and self._reason is None:
                self._state = _CREATED  # it was doomed by a deadline that it has no more

    def cancel(self, reason: str | Reason | None = None) -> None:
        """Call off the block; before the entry: as soon as it is entered. From any thread once it is entered.

        Args:
            reason: why, in words; arrives in the `CancelledError` in the block and in `CancelScope.reason`.

        The block hears of it at its next await. Only the first call counts; after the block has ended there is nothing
        to call off.
        """
        if self._state is not _CREATED and self._state is not _DOOMED and self._state is not _ACTIVE:
            return
        pool = self._pool
        if not isinstance(reason, Reason):
            now = 0.0 if pool is None else pool.now()
            reason = Reason(Kind.REQUESTED, "" if reason is None else str(reason), None, now)
        if self._state is not _ACTIVE:
            if self._state is _CREATED or self._reason is None:
                self._state = _DOOMED
                self._reason = reason
        elif pool is not None and asyncio._get_running_loop() is not pool.loop:
            pool.timers.call(self._call_off, reason)
        else:
            self._call_off(reason)

    @property
    def cancel_called(self) -> bool:
        """Whether it was called off, by hand or by its deadline."""
        if self._state is _DOOMED:
            return self._reason is not None
        return self._state is State.EXPIRING or self._state is State.EXPIRED

    @property
    def cancelled_caught(self) -> bool:
        """Whether the block was ended by it and its cancel swallowed here; ``False`` when the block ended by itself."""
        return self._state is State.EXPIRED and self._caught

    @property
    def reason(self) -> Reason | None:
        """Why it was called off, ``None`` while it is not."""
        if not self.cancel_called:
            return None
        return self._reason or self._why()

    def _ended(self, error: BaseException | None, ours: bool) -> bool:
        self._caught = ours and is_cancel(error)
        if self._caught and error is not None:
            raise_carried(error)
        return self._caught


def move_on_after(delay: float | None, grace: float | None = None) -> CancelScope:
    """Call off a block of code after `delay` seconds, counted from this call, and go on behind it.

    Args:
        delay: seconds, zero or more; ``None`` or infinity for no limit.
        grace: as for `CancelScope`.

    Raises:
        ValueError: a duration that is negative or NaN. The caller's fault.
        RuntimeError: no running event loop; on entry: outside a task, or entered before.

    ``scope.cancelled_caught`` tells whether it came to that::

        with calloff.move_on_after(3) as scope:
            await call_api()
    """
    try:
        pool = pools[_running_loop()]
    except KeyError:
        pool = pool_of(_running_loop())
    scope = _new(CancelScope)
    scope._pool = pool
    scope._limit = delay
    try:
        if delay is not None and delay > 0:
            scope._when = pool.now() + delay
            scope._state = _CREATED
        else:
            scope._when = inf if delay is None else pool.now() + checked_delay(delay, "delay")
            scope._state = _CREATED if delay is None else _DOOMED
            scope._reason = None
    except TypeError:
        raise TypeError(f"delay must be a number of seconds or None, not {delay!r}") from None
    except OverflowError:  # an integer beyond every clock
        return move_on_after(inf, grace)
    if grace is not None:
        grace = limit(grace, "grace")
    scope._grace = grace
    return scope


def move_on_at(when: float | None, grace: float | None = None) -> CancelScope:
    """Like `move_on_after`, to a point on the clock of the loop; needs no running loop until it is entered."""
    return CancelScope(deadline=inf if when is None else when, grace=grace)


def _checked(deadline: float, name: str) -> float:
    if not isinstance(deadline, (int, float)):
        raise TypeError(f"{name} must be a point on the clock of the loop, not {deadline!r}")
    if deadline != deadline or deadline < 0:
        raise ValueError(f"{name} must be 0 or more, a point on the clock of the loop, not {deadline!r}")
    try:
        return float(deadline)
    except OverflowError:  # an integer beyond every clock
        return inf
