"""`timeout` and `timeout_at`: the block ends by then, or `TimedOut` is raised."""

import asyncio
from asyncio import CancelledError
from math import inf, isnan
from types import TracebackType
from typing import TYPE_CHECKING, Any

from .._words.duration import limit
from .._words.errors import TimedOut, is_cancel
from .._words.untouched import is_a
from .pool import pool_of, pools
from .scope import Scope, State
from .where import raised_at

__all__ = ["Timeout", "timeout", "timeout_at"]

_CREATED, _DOOMED, _ACTIVE = State.CREATED, State.DOOMED, State.ACTIVE
_running_loop = asyncio.get_running_loop


class Timeout(Scope):
    """A limit on a block of code. Made by `calloff.timeout` and `calloff.timeout_at`, entered once.

    ``with`` and ``async with`` are the same. Everything `asyncio.Timeout` has, it has too.
    """

    __slots__ = ()

    if TYPE_CHECKING:  # it never swallows

        def __exit__(
            self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
        ) -> None: ...

        async def __aexit__(
            self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
        ) -> None: ...

    def when(self) -> float | None:
        """The deadline on the clock of the loop, ``None`` without one."""
        return None if self._when == inf else self._when

    def reschedule(self, when: float | None) -> None:
        """Set another deadline.

        Args:
            when: a point on the clock of the loop (`loop.time()`); ``None`` for no limit any more. One that has
                passed ends the block at its next await.

        Raises:
            RuntimeError: the block was not entered yet, has ended, or is being ended already.
        """
        if self._state is not _ACTIVE:
            if self._state is _CREATED or self._state is _DOOMED:
                raise RuntimeError("Timeout has not been entered")
            raise RuntimeError(f"Cannot change state of {self._state.value} Timeout")
        self._set_deadline(_point(when, "when"))

    def expired(self) -> bool:
        """Whether the deadline came while the block ran."""
        return self._state is State.EXPIRING or self._state is State.EXPIRED

    def _ended(self, error: BaseException | None, ours: bool) -> None:
        if error is None or not ours:
            return
        if type(error) is CancelledError or is_cancel(error):
            raise self._timed_out(error) from error
        # an error of the clean-up: it was raised while the block was ended by the deadline, and says so
        self._put_behind(error)
        if is_a(error, ExceptionGroup):
            members: Any = error
            for member in members.exceptions:
                self._put_behind(member)

    def _timed_out(self, cancelled: BaseException) -> TimedOut:
        return TimedOut(None, self._why(), raw=raised_at(cancelled))

    def _put_behind(self, error: BaseException) -> None:
        """Put a `TimedOut` between the error and the cancel it was raised under."""
        while error.__context__ is not None:
            context = error.__context__
            if is_cancel(context):
                timed_out = self._timed_out(context)
                timed_out.__context__ = timed_out.__cause__ = context
                error.__context__ = timed_out
                return
            error = context


def timeout(delay: float | None, grace: float | None = None) -> Timeout:
    """Limit a block of code to `delay` seconds, counted from this call.

    When they are over, `asyncio.CancelledError` is raised where the block awaits, and what comes out of the block is
    `TimedOut` (a `TimeoutError`), whose text names the limit and the line. ``with`` and ``async with`` are the same::

        with calloff.timeout(3):
            await call_api()

    Args:
        delay: seconds; ``None`` or infinity for no limit; zero or less ends the block at its first await.
        grace: seconds the block has for its clean-up; after that it is cancelled again, and again with growing
            pauses, until it ends. ``None``: it is cancelled once.

    Raises:
        TimedOut: at the end of the block. The block's fault, or the limit was too short.
        ValueError: `delay` is NaN, or `grace` negative or NaN. The caller's fault.
        RuntimeError: no running event loop; on entry: outside a task, or entered before.

    When the task is cancelled by somebody else, before or at the same time, their `CancelledError` comes out. A block
    that swallows the cancel and ends by itself ends well; `Timeout.expired` tells.
    """
    try:
        pool = pools[_running_loop()]
    except KeyError:
        pool = pool_of(_running_loop())
    scope = Timeout()
    scope._pool = pool
    scope._limit = delay
    try:
        if delay is not None and delay > 0:
            scope._when = pool.now() + delay
            scope._state = _CREATED
        else:
            scope._when = inf if delay is None else _point(pool.now() + delay, "delay")
            scope._state = _CREATED if delay is None else _DOOMED
            scope._reason = None
    except TypeError:
        raise TypeError(f"delay must be a number of seconds or None, not {delay!r}") from None
    except OverflowError:  # an integer beyond every clock
        return timeout(inf if delay is not None and delay > 0 else 0.0, grace)
    if grace is not None:
        grace = limit(grace, "grace")
    scope._grace = grace
    return scope


def timeout_at(when: float | None, grace: float | None = None) -> Timeout:
    """Like `timeout`, to a point on the clock of the loop (`loop.time()`); needs no running loop until it is entered."""
    scope = Timeout()
    scope._pool = None
    scope._limit = None
    scope._when = _point(when, "when")
    scope._state = _CREATED
    if grace is not None:
        grace = limit(grace, "grace")
    scope._grace = grace
    return scope


def _point(when: float | None, name: str) -> float:
    if when is None:
        return inf
    try:
        if isnan(when):
            raise ValueError(f"{name} must be a number or None, not NaN")
    except OverflowError:  # an integer beyond every clock
        return inf if when > 0 else 0.0
    except TypeError:
        raise TypeError(f"{name} must be a point on the clock of the loop or None, not {when!r}") from None
    return when
