"""`wait_for`: asyncio's as of 3.13, on every Python."""

import asyncio
from asyncio import CancelledError
from collections.abc import Awaitable, Coroutine
from typing import TypeVar

from .._words.errors import TimedOut
from .._words.reason import Kind, Reason
from .timeout import timeout as limited
from .where import raised_at

__all__ = ["wait_for"]

T = TypeVar("T")


async def wait_for(fut: Awaitable[T], timeout: float | None) -> T:
    """Await something with a limit.

    Args:
        fut: a coroutine, a future, a task, an operation.
        timeout: seconds; ``None`` for no limit; zero or less: cancelled at once, unless it is done already.

    Returns:
        Its value, also when it swallowed the cancel at the limit and came to one later.

    Raises:
        TimedOut: (a `TimeoutError`) it was cancelled at the limit. Its fault, or the limit was too short.
        TypeError, ValueError: `timeout` is no number. The caller's fault.

    When the caller is cancelled, the awaitable is cancelled with it, and the caller's `CancelledError` is never lost,
    also when the value comes in the same tick.
    """
    try:
        goes_on = timeout is None or timeout > 0
    except TypeError:
        raise _refused(TypeError, fut, timeout) from None
    if goes_on:
        with limited(timeout):
            return await fut
    if timeout != timeout:
        raise _refused(ValueError, fut, timeout)
    future = asyncio.ensure_future(fut)
    if not future.done():
        future.cancel()
        await asyncio.wait([future])  # not for the future itself: its cancel and the caller's could not be told apart
        try:
            return future.result()
        except CancelledError as error:
            now = asyncio.get_running_loop().time()
            reason = Reason(Kind.DEADLINE, f"within {timeout:g} s", None, now)
            raise TimedOut(None, reason, raw=raised_at(error)) from error
    return future.result()


def _refused(kind: type[Exception], fut: object, timeout: object) -> Exception:
    """Return what is raised for a timeout that is none; what was to be awaited never begins."""
    if isinstance(fut, Coroutine):
        fut.close()
    return kind(f"timeout must be a number of seconds or None, not {timeout!r}")
