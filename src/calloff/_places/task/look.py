"""One look at a suspended coroutine: what it waits for, and whether it is in its clean-up. Each frame is visited once.

What the ladder decides of a body is decided from such looks: whether the body is asked again, or children that it waits
for are; what has to be forced; what goes on. Where a thousand bodies refuse at the same time, it is these looks that the
event loop waits for, so there is one for each coroutine and step of the ladder.
"""

import asyncio
import gc
import sys
from collections.abc import Iterator
from types import CoroutineType
from typing import Any

from ..._words.place import Body
from .executors import anyio_call, executor_call
from .greenlets import greenlets_in, is_in_handlers
from .objects import (
    FUTURES,
    TASKS,
    children_of,
    entered_in,
    fields,
    is_a,
    is_done,
    is_error,
    is_started_by,
    members_of,
    own_self,
)
from .stack import (
    GROUP_WAITS,
    awaited_from,
    coro_of,
    holds,
    inside,
    is_operation,
    is_shield,
    kind_of,
    kinds,
    parts_of,
    stems_from,
)
from .subprocesses import subprocess_of
from .waits import waited_for, watched_by

__all__ = ["Look", "look_at"]

_LIMIT = 200


class Look:
    """What one look at a coroutine has found.

    Attributes:
        waits: the tasks, the calls in threads and the processes that it waits for by itself, and that have not ended.
        blocks: the tasks of groups whose blocks it is inside of; they end with the block.
        aborted: the tasks of groups that have cancelled theirs.
        shielded: the task of a shield of ours that it waits in, which only force passes.
        handles: whether a frame of it is in an ``except`` or ``finally`` that the error has led to.
        greenlet: whether sync code in a greenlet is part of it, which is clean-up that can't always be told.
    """

    __slots__ = ("_behind", "aborted", "blocks", "greenlet", "handles", "shielded", "waits")

    def __init__(self) -> None:
        self.waits: list[Any] = []
        self.blocks: list[Any] = []
        self.aborted: list[Any] = []
        self.shielded: list[Any] = []
        self.handles = False
        self.greenlet = False
        #: where what it waits for goes on, behind the frames that were looked at
        self._behind: object = None

    @property
    def is_alone(self) -> bool:
        """Whether nothing but the coroutine itself has been found."""
        return not self.waits and not self.blocks

    def tasks(self) -> "list[asyncio.Task[Any]]":
        """Return the tasks among what it waits for."""
        return [part for part in self.waits if is_a(part, TASKS)]

    def is_obeying(self, error: BaseException | type[BaseException] | None) -> bool:
        """Return whether it, or what it waits for, is in its clean-up.

        What it waits for was cancelled for it, with a `CancelledError` of its own; the request itself (then `error` is
        ``None``) has perhaps not even arrived.
        """
        if self.handles:
            return True
        if self._behind is None:
            return False
        for step, is_other_task in awaited_from(self._behind):
            sought = asyncio.CancelledError if is_other_task else error
            if sought is not None and parts_of(step) is not None and holds(step, sought):
                return True
        return False


def look_at(
    coro: object, waiter: object, error: BaseException | type[BaseException] | None, owner: object = None
) -> Look:
    """Look at a suspended coroutine.

    Args:
        coro: the coroutine.
        waiter: the future that its task waits for; ``None`` where it is to be found out.
        error: what it may be busy with; ``None`` when nothing has arrived.
        owner: the operation. Of tasks that its code only watches, by `asyncio.wait` or `asyncio.as_completed`, of the
            handlers of a server whose end it waits for, and of processes, those are part of it which it has started.
    """
    found = Look()
    greenlets = "greenlet" in sys.modules
    current: Any = coro
    outer: object = None  # what awaits it
    for _ in range(_LIMIT):
        if type(current) is CoroutineType:  # the usual case, fast
            frame, running, awaited = current.cr_frame, current.cr_running, current.cr_await
        elif type(current) is asyncio.Future:  # the usual end: a sleep, a lock, a socket
            if not current.done() and (behind := executor_call(current)) is not None:
                found.waits.append(behind)
            break
        else:
            parts = parts_of(current)
            if parts is None:
                if current is None:
                    break
                if is_a(current, FUTURES):
                    found.waits += _in_future(current)
                    if found._behind is None:
                        found._behind = current
                    break
                driven = fields(current).get("coro")
                current = driven if type(driven) is CoroutineType else inside(current)
                continue
            frame, running, awaited = parts
        if frame is None or (running and awaited is None):  # a generator whose step waits says that it runs
            break
        kind = kinds.get(id(frame.f_code))
        if kind is None:
            kind = kind_of(frame.f_code)
        if kind == 1 or greenlets:
            _look_into(found, gc.get_referents(current), error, opens=kind == 1, greenlets=greenlets)
        elif error is not None and not found.handles:
            held = gc.get_referents(current)
            if any(map(is_error, map(type, held))):  # hardly ever, and all of that is C
                _look_into(found, held, error, opens=False, greenlets=False)
        if kind == 2:
            if found._behind is None:
                found._behind = current
            if is_shield(frame):
                work = fields(own_self(frame)).get("_work")
                if is_a(work, TASKS) and not is_done(work):
                    found.shielded.append(work)
                break
            code = frame.f_code
            if code.co_name in GROUP_WAITS:
                group = own_self(frame)
                members = tuple(filter(_is_plain_task, members_of(group)))
                if fields(group).get("_aborting") is True:  # asyncio's and ours
                    found.aborted += members
                found.waits += members
            elif code.co_name == "run_sync_in_worker_thread":
                call = anyio_call(frame)
                if call is not None:
                    found.waits.append(call)
                    break
            elif (future := waited_for(frame)) is not None:
                found.waits += _in_future(future)
                break
            elif (process := subprocess_of(frame, outer, owner)) is not None:
                found.waits.append(process)
            else:
                found.waits += [
                    task for task in watched_by(frame, outer) if _is_plain_task(task) and is_started_by(task, owner)
                ]
        if waiter is not None and type(awaited).__name__ == "FutureIter":
            awaited = waiter
        outer, current = current, awaited
    return found


def _look_into(
    found: Look, parts: list[Any], error: BaseException | type[BaseException] | None, *, opens: bool, greenlets: bool
) -> None:
    """Look at what one frame refers to."""
    if error is not None and not found.handles:
        for part in parts:
            if issubclass(type(part), BaseException) and stems_from(part, error):
                found.handles = True
                break
    if opens:
        for group in entered_in(parts):
            found.blocks += filter(_is_plain_task, members_of(group))
    if greenlets and (frames := greenlets_in(parts)):
        found.greenlet = True
        found.handles = found.handles or (error is not None and any(map(is_in_handlers, frames)))


def _in_future(future: Any) -> Iterator[Any]:
    if type(future) is asyncio.Future:  # the usual case, fast
        call = None if future.done() else executor_call(future)
        if call is not None:
            yield call
        return
    if is_done(future) or is_operation(future):
        return
    if is_a(future, TASKS):
        if _is_plain_task(future):
            yield future
        return
    children = children_of(future)
    for member in children:
        yield from _in_future(member)
    if not children and is_a(future, asyncio.Future):
        call = executor_call(future)
        if call is not None:
            yield call


def _is_plain_task(task: object) -> bool:
    """Whether a future is a task that no operation drives: those have a ladder of their own."""
    return is_a(task, TASKS) and not is_a(coro_of(task), Body)
