"""Those who wait for an operation: how its end reaches them, and how their own cancel reaches it.

The first one who awaits an operation waits on the operation itself, as on any future. Each further one, and each who only
looks on, has a future of its own.

A task passes its cancel on at once to what it waits for, and so does the first one here: an item of a queue, or a permit
of a semaphore, that comes in the very turn of the cancel is then left where it is. The caller is woken, too: an operation
that refuses must not keep it from hearing of its cancel.
"""

import asyncio
from asyncio import AbstractEventLoop, CancelledError, Future, _get_running_loop, current_task
from collections.abc import Generator
from contextlib import suppress
from typing import TYPE_CHECKING, Any, TypeVar

from .._words.errors import OperationCancelled, StopForced, carry
from .._words.reason import Kind, Reason
from .._words.ref import Ref
from .._words.report import Rung
from .._words.state import State
from .._words.text import text_of
from .._words.untouched import cause_of, is_a
from .elsewhere import forget_elsewhere, is_elsewhere, request_elsewhere, wait_elsewhere
from .known import current_operation
from .loops import closing

if TYPE_CHECKING:
    from .operation import Operation

__all__ = [
    "UNSET",
    "carry_failure",
    "completion",
    "follow",
    "forget",
    "goes_along",
    "refuse_itself",
    "result_in_the_end",
    "see_to_the_end",
    "wakes_caller",
    "words_of",
]

T = TypeVar("T")
UNSET: Any = object()
_exception = Future.exception
_result = Future.result
_COMPLETED, _FAILED = State.COMPLETED, State.FAILED
_REQUESTED = Kind.REQUESTED
_current = current_operation.get
#: what a cancel is being passed on to, by loop: one after the other, as they are found to wait for each other
_passing: "dict[AbstractEventLoop, list[tuple[Operation[Any], Operation[Any] | None, Any]]]" = {}
#: how many at once; who is further in hears of it in a later turn of the loop
_AT_ONCE = 50
#: tell the inspectors of Python 3.14 and newer which task waits for which
_waits_for: Any = getattr(asyncio, "future_add_to_awaited_by", None)
_waits_no_more_for: Any = getattr(asyncio, "future_discard_from_awaited_by", None)


class _Woken:
    """Stands for the task that awaits an operation, once it was woken by a cancel of its own."""

    __slots__ = ("task",)

    def __init__(self, task: Any) -> None:
        self.task = task


def words_of(reason: object, message: object) -> tuple[Kind, str, str | Ref | None]:
    """Return what sort of request a `cancel` is, its words, and who asks.

    Args:
        reason: a `Reason` that is handed on, or words.
        message: what asyncio gives in its place.
    """
    if reason is None:
        reason = None if message is UNSET else message
    elif is_a(reason, Reason):
        assert isinstance(reason, Reason)
        return reason.kind, reason.text, reason.by
    caller = _current()
    return _REQUESTED, "" if reason is None else text_of(reason), None if caller is None else caller.ref


def result_in_the_end(operation: "Operation[T]") -> Generator[Any, None, T]:
    """Wait for the end, and return or raise what the operation has ended with; see `Operation`.

    A cancel of the caller stops the operation with it, and is raised after its end.
    """
    if operation._ended_at is not None and operation.done():  # in another thread it may be between the two
        return operation.result()
    held: BaseException | None = None
    task: Any = current_task() if operation._awaited_by is None else None
    if task is not None:
        # The first one who waits needs no future besides the operation. Whether a cancel is meant for the task that
        # waits or for the operation is told by that task's count of requests.
        if _current() is operation:
            refuse_itself(operation)
        operation._awaited_by = task
        operation._awaited_level = level = task.cancelling()
        shown = None
        if _waits_for is not None and operation._parent is None and operation.body is not None:
            shown = operation.body.task
            if shown is not None:
                _waits_for(shown, task)
        operation._asyncio_future_blocking = True
        try:
            yield operation
        except BaseException as error:
            if is_a(error, CancelledError) and (
                type(operation._awaited_by) is _Woken or task.cancelling() > level or operation._ended_at is None
            ):
                held = CancelledError() if is_a(error, OperationCancelled) else error
            elif is_a(error, StopForced) and goes_along(operation):
                held = error
            elif operation._asyncio_future_blocking and type(error) is RuntimeError and is_elsewhere(operation):
                operation._asyncio_future_blocking = False  # asyncio has refused it, as it belongs to another loop
            elif not is_a(error, CancelledError):  # its own: a future gives the traceback once; or one thrown in here
                raise
        else:
            if operation._phase is _COMPLETED:  # the usual case: nothing is left to be looked at
                return _result(operation)
        finally:
            operation._awaited_by = None
            if shown is not None:
                _waits_no_more_for(shown, task)
        if held is not None and operation._ended_at is None:
            follow(operation, held)
    while not operation.done():
        try:
            yield from completion(operation)
        except CancelledError as error:  # it is the caller that is cancelled
            if held is None:
                held = error
                follow(operation, error)
        except StopForced as error:
            if not goes_along(operation):
                raise
            held = error
            follow(operation, error)
    if held is not None:
        carry_failure(held, operation)
        raise held
    return _result(operation) if operation._phase is _COMPLETED else operation.result()


def carry_failure(cancel: BaseException, operation: "Operation[Any]") -> None:
    """Have the cancel of a caller carry, as its cause, the error that the operation has ended with: it goes before that."""
    if operation.cancelled():
        return
    error = _exception(operation)  # seen: no complaint that it was never retrieved
    if error is not None and operation._phase is _FAILED and error is not cancel and cause_of(cancel) is None:
        carry(cancel, error)


async def see_to_the_end(operation: "Operation[Any]") -> None:
    """Wait until it has ended, however often the caller is cancelled meanwhile; raise the caller's cancel then."""
    held: BaseException | None = None
    while not operation.done():
        try:
            await completion(operation)
        except CancelledError as error:
            if not is_a(held, StopForced):
                held = error
        except StopForced as error:
            if not goes_along(operation):
                raise
            held = error
            follow(operation, error)
    if held is not None:
        raise held


def completion(operation: "Operation[Any]") -> "Future[None]":
    """Return a future of one waiter's own that is done when the operation is."""
    if _current() is operation:
        refuse_itself(operation)
    if is_elsewhere(operation):
        return wait_elsewhere(operation)
    waiter: Future[None] = operation._loop.create_future()
    if operation._ended_at is not None:
        waiter.set_result(None)
    elif operation._waiters is None:
        operation._waiters = [waiter]
    else:
        operation._waiters.append(waiter)
    return waiter


def forget(operation: "Operation[Any]", waiter: "Future[None]") -> None:
    """Forget a waiter that lost interest."""
    if is_elsewhere(operation):
        forget_elsewhere(operation, waiter)
        return
    if operation._waiters is not None and waiter in operation._waiters:
        operation._waiters.remove(waiter)


def refuse_itself(operation: "Operation[Any]") -> None:
    """Raise, if the code that runs in the operation is its very body, which can't wait for its own end."""
    if operation.body is not None and operation.body.is_here():
        raise RuntimeError(f"{operation.name!r} can't wait for its own end")


def wakes_caller(operation: "Operation[Any]", message: Any) -> bool:
    """Return whether the task that awaits the operation is what is being cancelled: then that task is woken with it."""
    task = operation._awaited_by
    loop = operation._loop
    if task is None or _get_running_loop() is not loop:
        return False
    if type(task) is _Woken:  # it has not run since; who asks it once more does not ask the operation
        requests = task.task.cancelling()
        is_again: bool = requests > operation._awaited_level
        operation._awaited_level = requests
        return is_again
    requests = task.cancelling()
    if requests <= operation._awaited_level and not task._must_cancel:  # one that arrives only as the task waits
        operation._awaited_level = requests
        return False
    operation._awaited_by, operation._awaited_level = _Woken(task), requests
    callbacks: Any = operation._callbacks or ()
    for callback, context in tuple(callbacks):
        if getattr(callback, "__self__", None) is task:
            operation.remove_done_callback(callback)
            cancelled: Future[None] = loop.create_future()
            cancelled.cancel(message)
            loop.call_soon(callback, cancelled, context=context)
            _pass_on(operation, context.get(current_operation), message)
    return True


def _pass_on(operation: "Operation[Any]", caller: "Operation[Any] | None", message: Any) -> None:
    """Stop the operation at once, since its caller was woken with a cancel: what `follow` does in the caller's next step.

    That is left to it where the caller is being forced, as not all that it waits for goes along, and at the end of the
    program or the loop, which asks all that is left itself. Of operations that wait for each other, each is asked after
    the one before, and no stack gets deep.
    """
    stop = None if caller is None else caller._stop
    if stop is not None and (stop.rung >= Rung.FORCED or stop.kind is Kind.SHUTDOWN):
        return
    loop = operation._loop
    line = _passing.get(loop)
    if line is not None:
        if len(line) < _AT_ONCE:
            line.append((operation, caller, message))
        return
    if loop in closing:
        return
    _passing[loop] = line = [(operation, caller, message)]
    try:
        for each, its_caller, words in line:  # which grows meanwhile
            with suppress(Exception):  # not for whoever cancels the caller to hear
                each.request(Kind.PARENT, *_words_for(its_caller, words), each._grace)
    finally:
        del _passing[loop]


def goes_along(operation: "Operation[Any]") -> bool:
    """Return whether an operation that still runs is forced with the calling code, which waits for it: its parent's.

    It belongs to that, so nothing may be told of the parent's end before it has ended, and its grace, which may be much
    longer, is over as well.
    """
    parent = operation._parent
    return parent is not None and operation._ended_at is None and parent is _current()


def follow(operation: "Operation[Any]", error: BaseException) -> None:
    """Stop the operation, because the code that awaits the operation was cancelled, or forced."""
    text, by = _words_for(_current(), error.args[0] if error.args else None)
    grace = 0.0 if is_a(error, StopForced) else operation._grace
    if _get_running_loop() is operation._loop:
        operation.request(Kind.PARENT, text, by, grace)
    else:
        request_elsewhere(operation, Kind.PARENT, text, by, grace)


def _words_for(caller: "Operation[Any] | None", message: object) -> tuple[str, str | None]:
    """Return the words of a stop that comes with the cancel of the caller, and who asks."""
    text = "the code that awaits it was cancelled" if message is None else text_of(message)
    if caller is None:
        return text, None
    if caller._stop is not None:
        text = caller._stop.text or str(caller._stop.kind)
    return text, str(caller.ref)
