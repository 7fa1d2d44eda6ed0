"""`shield`: clean-up that is run to its end, whoever cancels meanwhile, and never for ever.

`asyncio.shield` lets go of the work when the caller is cancelled: it runs on, detached, while the caller's own clean-up
goes ahead of it. Here the caller stays. The work runs in a child task, which no cancel of the caller reaches, not even a
native one, and which can use timeouts and task groups of its own. The caller waits for it, remembers that it was
cancelled, and raises that afterwards; nothing is given back, so the counts are as whoever cancelled expects them.
"""

import asyncio
import logging
from asyncio import CancelledError, Task
from collections.abc import Awaitable
from contextvars import Context, copy_context
from typing import Any, Generic, TypeVar

from .._words.duration import limit
from .._words.errors import TimedOut
from .._words.frame import at_line, develop
from .._words.policy import DEFAULT
from .._words.reason import Kind, Reason
from .scope import innermost
from .timeout import timeout as limited
from .where import waiting_at

__all__ = ["shield"]

T = TypeVar("T")
_INSIST_AFTER = 0.25
_UNSET: Any = object()
_logger = logging.getLogger("calloff")
#: what refused to end; asyncio itself holds tasks only weakly
_given_up: set[Task[Any]] = set()


async def shield(awaitable: Awaitable[T], timeout: float | None = 5.0) -> T:
    """Run clean-up to its end in place, and hold back every cancel of the caller until then.

    Args:
        awaitable: the clean-up, mostly a coroutine. It runs in a task of its own; what it sets in context variables is
            set for the caller, too. The limits of the caller's scopes do not count in it.
        timeout: seconds it may take; ``None`` for no limit. When they are over it is cancelled; 0.25 s later again, and
            again with growing pauses; one second after the first cancel the caller goes on without it, and a warning
            is logged that names the line where it is stuck.

    Returns:
        Its value, when the caller was not cancelled meanwhile.

    Raises:
        asyncio.CancelledError: the caller was cancelled meanwhile. An error of the clean-up is its context.
        TimedOut: it was cancelled at the limit. Its fault, or the limit was too short.

    ::

        try:
            await serve(connection)
        finally:
            await calloff.shield(connection.close(), timeout=5)

    An operation that is forced to end ends its shields, too: the clean-up is then forced, and is part of what is told.
    """
    try:
        seconds = limit(timeout, "timeout")
    except (TypeError, ValueError):
        if asyncio.iscoroutine(awaitable):
            awaitable.close()
        raise
    return await _Shielded(awaitable, seconds).outcome()


class _Shielded(Generic[T]):
    is_shield = True  # for stack walkers: no cancel goes further than here

    def __init__(self, awaitable: Awaitable[T], seconds: float | None) -> None:
        loop = asyncio.get_running_loop()
        self._seconds = seconds
        self._give_up_at = None if seconds is None else loop.time() + seconds + DEFAULT.last
        self._context: Context = copy_context()
        self._context.run(innermost.set, None)
        self._work: Task[T] = loop.create_task(_within(awaitable, seconds), context=self._context)

    @property
    def waits_in(self) -> object:
        """For stack walkers: what the caller waits for."""
        return self._work

    async def outcome(self) -> T:
        """Wait for the end, and say it to the caller."""
        work = self._work
        held: CancelledError | None = None
        try:
            while not work.done():
                left = None
                if self._give_up_at is not None:
                    left = self._give_up_at - asyncio.get_running_loop().time()
                    if left <= 0:
                        break
                try:
                    await asyncio.wait([work], timeout=left)
                except CancelledError as error:
                    if held is None:
                        held = error
        except BaseException:  # StopForced, or the coroutine is closed
            work.cancel()
            raise
        try:
            value = work.result() if work.done() else self._without_it()
        except BaseException:
            if held is not None:
                raise held  # noqa: B904 - the error is its context
            raise
        finally:
            if work.done():
                _bring_back(self._context)
            del work
        if held is not None:
            raise held
        return value

    def _without_it(self) -> T:
        work = self._work
        _given_up.add(work)
        work.add_done_callback(_ended_late)
        stack = waiting_at(work.get_coro())
        _logger.warning("shielded clean-up could not be stopped: stuck at %s", at_line(develop(stack)))
        now = work.get_loop().time()
        raise TimedOut(None, Reason(Kind.DEADLINE, f"within {self._seconds:g} s", None, now), raw=stack)


async def _within(awaitable: Awaitable[T], seconds: float | None) -> T:
    with limited(seconds, grace=_INSIST_AFTER):
        return await awaitable


def _bring_back(context: Context) -> None:
    """Set for the caller what was set in the clean-up."""
    for variable, value in context.items():
        if variable is not innermost and variable.get(_UNSET) is not value:
            variable.set(value)


def _ended_late(work: "Task[Any]") -> None:
    _given_up.discard(work)
    how = "it was cancelled" if work.cancelled() else repr(work.exception() or "it returned")
    _logger.warning("shielded clean-up that could not be stopped has ended: %.200s", how)
