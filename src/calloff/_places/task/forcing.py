"""Raises an exception in a plain task, at its await, without touching its coroutine.

A task waits for a future with a callback of its own: the wake-up. Taken off that future and called with one that has
failed already, it makes the task's next step throw the error of that future, as if that was what it had waited for.
"""

import asyncio
import sys
from contextlib import suppress
from contextvars import Context
from functools import partial
from types import BuiltinMethodType, MethodType
from typing import Any

from ..._words.errors import StopForced
from .locks import TAKEN_SOON, ForcedOut, takes_lock_again, waits_for_lock
from .objects import FUTURES, TASKS, children_of, is_a, is_done, is_settled
from .stack import chain_of, coro_of, is_operation, stems_from

__all__ = [
    "calm_anyio",
    "cancel_for_sure",
    "force_task",
    "is_about_to_hear",
    "is_awake",
    "is_stopped_group",
    "note_forced",
    "raise_in",
    "waiter_of",
]

#: how many turns of the loop a task with a step before it is waited for
_TURNS = 20
#: what the wake-up of a task is, in C and in Python
_METHODS = (BuiltinMethodType, MethodType)
_members: Any = BaseExceptionGroup.__dict__["exceptions"].__get__


def waiter_of(task: Any) -> Any:
    """Return the future that a task waits for; ``None`` when it has a step before it."""
    return getattr(task, "_fut_waiter", None)


def is_awake(task: Any) -> bool:
    """Return whether a task has a step before it, in which whatever was asked of it arrives."""
    waiter = waiter_of(task)
    return waiter is None or (is_a(waiter, FUTURES) and is_settled(waiter))


def is_about_to_hear(task: Any) -> bool:
    """Return whether whatever was asked of a task arrives in its next step, in this turn of the loop or the next.

    A task that waits for an operation sleeps on for a moment when it was cancelled: by way of that it is woken.
    """
    waiter = waiter_of(task)
    return is_awake(task) or (is_operation(waiter) and waiter._awaited_by is not task)


def raise_in(task: Any, error: BaseException) -> bool:
    """Raise `error` in a task that waits, in its next step; ``False``, and nothing happens, when it can't be now."""
    return not task._must_cancel and _wake_with(task, error, again=True)


def cancel_for_sure(task: Any, error: BaseException) -> bool:
    """Cancel a task, and where what it waits for refuses to be cancelled, wake it without that.

    Returns:
        Whether it is `error` that is raised in the task, in place of a `CancelledError`.
    """
    waiter: Any = waiter_of(task)
    try:
        task.cancel()
    except Exception:  # of somebody's own class of futures
        return _wake_with(task, error)
    if is_a(waiter, asyncio.Future) and not is_a(waiter, TASKS) and type(waiter).cancel is not asyncio.Future.cancel:
        if not is_done(waiter) and not is_operation(waiter) and not children_of(waiter):
            cancelled: bool = task._must_cancel  # then it is a `CancelledError`, whatever it is woken with
            return _wake_with(task, error) and not cancelled
    return False


def _wake_with(task: Any, error: BaseException, *, again: bool = False) -> bool:
    waiter: Any = waiter_of(task)
    if is_awake(task) or not is_a(waiter, asyncio.Future):
        return False
    callbacks: list[tuple[Any, Any]] = waiter._callbacks or []
    for callback, context in tuple(callbacks):
        if type(callback) in _METHODS and callback.__self__ is task:
            asyncio.Future.remove_done_callback(waiter, callback)
            asyncio.Future.add_done_callback(waiter, _stopped_unseen)
            loop: asyncio.AbstractEventLoop = waiter.get_loop()
            failed: asyncio.Future[None] = loop.create_future()
            failed.set_exception(error)
            failed.exception()  # seen: no complaint if the loop ends before the step
            if again:
                loop.call_soon(_deliver, task, callback, failed, context=context)
            else:
                loop.call_soon(callback, failed, context=context)
            with suppress(Exception):  # of somebody's own class of futures
                waiter.cancel()
            return True
    return False


def _deliver(task: Any, wake_up: Any, failed: Any) -> None:
    """Make the step. A cancel that came just before takes the place of what is raised there: then force comes once more."""
    is_overtaken: bool = task._must_cancel
    wake_up(failed)
    error = failed._exception
    if is_overtaken and is_a(error, StopForced):
        force_task(task, StopForced, gently=type(error) is not StopForced)


def _stopped_unseen(waiter: Any) -> None:
    """Who would have heard of its end was taken off: nobody is to blame for not asking for the error of a stop."""
    error = waiter._exception  # reading this private field marks nothing as seen
    if stems_from(error, asyncio.CancelledError) or stems_from(error, StopForced):
        asyncio.Future.exception(waiter)


def force_task(
    task: "asyncio.Task[Any]", kind: type[BaseException], turns: int = _TURNS, *, gently: bool = True
) -> None:
    """Raise an exception in a task at its await; where it has a step before it, once that is made.

    One that never waits (it only yields to the loop) can't be reached; it is cancelled instead. One that waits for a lock
    is forced `gently`: code that swallows a `CancelledError` swallows that. One that takes the lock of a condition again
    is forced when it has that.
    """
    if task.done():
        return
    loop, coro = task.get_loop(), coro_of(task)
    chain = chain_of(coro)
    if takes_lock_again(chain):
        if turns:
            loop.call_later(TAKEN_SOON, partial(force_task, task, kind, turns - 1, gently=gently), context=Context())
    elif raise_in(task, ForcedOut() if gently and waits_for_lock(chain) else kind()):
        return
    elif turns:
        loop.call_soon(partial(force_task, task, kind, turns - 1, gently=gently))
    else:
        task.cancel()


def note_forced(task: "asyncio.Task[Any]") -> None:
    """A forced task has ended: that nobody asks for its error is no reason to complain."""
    if stems_from(task._exception, StopForced):  # reading this private field marks nothing as seen
        task.exception()


def calm_anyio(task: Any) -> None:
    """End the cancelling of a task by its scopes of anyio, which do that anew in every turn of the loop.

    Until then such a task always has a step before it, and whatever its clean-up awaits after force would be cancelled.
    """
    backend: Any = sys.modules.get("anyio._backends._asyncio")
    state = None if backend is None else backend._task_states.get(task)
    scope = None if state is None else state.cancel_scope
    while scope is not None:
        if scope._cancel_handle is not None:
            scope._cancel_handle.cancel()
        scope = scope._parent_scope


def is_stopped_group(error: BaseException) -> bool:
    """Return whether it is how a group of tasks tells that all of them were stopped."""
    if not is_a(error, BaseExceptionGroup):
        return False
    ahead: list[BaseException] = [error]
    while ahead:
        step = ahead.pop()
        if is_a(step, BaseExceptionGroup):
            ahead.extend(_members(step))
        elif not is_a(step, (asyncio.CancelledError, StopForced)):
            return False
    return True
