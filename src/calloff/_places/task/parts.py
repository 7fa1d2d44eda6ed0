"""What belongs to an operation besides its coroutine: the child tasks that its code waits for, and calls in threads.

A body that waits for a `TaskGroup`, a `gather`, or a task is over when the child is; cancelling the body a second time
does not reach the children of a group, and force would only tear the body off from them. So the children are found by
walking the stack of the body, are asked again and forced one by one, and the end is told when the last of them has ended.
A call that runs in a thread of an executor can't be ended at all: it is waited for during the stop, and named afterwards.

Only a child that was asked before is asked again: what a clean-up starts is nobody's refusal.
"""

import asyncio
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from functools import partial
from types import CoroutineType
from typing import Any

from ..._words.errors import StopForced
from ..._words.frame import RawStack, culprit, develop
from ..._words.place import Body
from ..._words.report import Rung
from .executors import Call, anyio_call, executor_call
from .forcing import calm_anyio, force_task, is_awake, waiter_of
from .objects import FUTURES, TASKS, children_of, entered, fields, is_a, is_done, members_of, own_self
from .stack import (
    GROUP_WAITS,
    coro_of,
    inside,
    is_greenlet_behind,
    is_handling,
    is_operation,
    is_shield,
    kind_of,
    parts_of,
    stack_of,
    stems_from,
    waited_for,
)

__all__ = ["Parts"]

_MOST = 100_000
_LIMIT = 200
#: seconds that code behind a greenlet has for its clean-up at least, before it is asked again
_UNSEEN = 0.25
#: seconds from force in the children until what waits for them is forced, too
_CHILDREN_FIRST = 0.1


class Parts:
    """The child tasks and calls of one operation, found when it is asked to stop, and again at each further step.

    Attributes:
        rung: the last step that has reached any of it.
        outlive: whether the coroutine has ended and these go on.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self.rung = Rung.ASKED
        self.outlive = False
        self._loop = loop
        self._since = loop.time()
        self._tasks: dict[Any, None] = {}
        self._calls: dict[int, Any] = {}
        self._asked: set[Any] = set()

    # --- finding them

    def collect(self, coro: object, waiter: object) -> None:
        """Find what a suspended coroutine, and what it waits for, waits for; `waiter` is the future at its end."""
        ahead: list[Any] = self.tasks()
        ahead += [part for part in _behind(coro, waiter, self._asked) if self._note(part)]
        while ahead and len(self._tasks) < _MOST:
            task = ahead.pop()
            ahead += [part for part in _behind(coro_of(task), waiter_of(task), self._asked) if self._note(part)]

    def _note(self, part: Any) -> bool:
        """Note a task or call; whether it is a task that was not known."""
        if not is_a(part, TASKS):
            self._calls.setdefault(id(part.key), part)
            return False
        if part in self._tasks:
            return False
        self._tasks[part] = None
        return True

    def note_asked(self) -> None:
        """The body was cancelled: what it waited for then was cancelled with it."""
        self._asked.update(task for task in self._tasks if task.cancelling())

    def ask_rest(self) -> None:
        """Cancel the child tasks that nobody has cancelled: the body has ended by the stop without doing that."""
        for task in self.tasks():
            if task not in self._asked and not task.cancelling():
                self._asked.add(task)
                task.cancel()

    # --- what is left of them

    def tasks(self) -> "list[asyncio.Task[Any]]":
        """Return the child tasks that have not ended."""
        return [task for task in self._tasks if not is_done(task)]

    def left(self) -> "list[asyncio.Task[Any] | Call]":
        """Return everything that has not ended; a call that has not begun is cancelled."""
        calls: list[Call] = []
        for call in self._calls.values():
            call.cancel()
            if call.pending() and not call.is_lookup():
                calls.append(call)
        return [*self.tasks(), *calls]

    def survivors(self) -> tuple[str, ...]:
        """Return what has not ended, in words, each with its line."""
        return tuple(map(_in_words, self.left()))

    def stack(self) -> RawStack:
        """Return the frames of the first of what is left."""
        for part in self.left():
            stack = stack_of(coro_of(part)) if is_a(part, TASKS) else part.stack()  # type: ignore[union-attr]  # a call
            if stack:
                return stack
        return ()

    def when_over(self, callback: Callable[[], object]) -> bool:
        """Have `callback` called on the event loop when all that is left has ended; ``False`` when nothing is left."""
        left = self.left()
        if not left:
            return False
        ahead = len(left)

        def ended(_: object = None) -> None:
            nonlocal ahead
            ahead -= 1
            if not ahead and not self.when_over(callback):  # more may have been found in the meantime
                callback()

        for part in left:
            if is_a(part, TASKS):
                part.add_done_callback(ended)  # type: ignore[union-attr]  # a task
            else:
                part.when_done(partial(self._call, ended))  # type: ignore[union-attr]  # a call
        return True

    def _call(self, callback: Callable[[], object]) -> None:
        """Call it on the loop; when that is closed, nobody is left to be told."""
        with suppress(RuntimeError):
            self._loop.call_soon_threadsafe(callback)

    def has_reached(self) -> bool:
        """Return whether a child task has got the request and has not ended."""
        return any(task in self._asked and not is_awake(task) for task in self.tasks())

    # --- asking again

    def refusing(
        self, coro: object, waiter: object, task: Any, error: BaseException | None
    ) -> "list[asyncio.Task[Any]]":
        """Return the tasks that were asked and went on, `task` of the body itself among them.

        A task that waits for others is not asked itself: it goes on when they have ended.
        """
        found: list[Any] = []
        seen: set[Any] = set()
        ahead: list[Any] = []
        if task is not None:
            children = self._asked_children(coro, waiter)
            if children:
                ahead += children
            elif not (error is None and is_awake(task)) and not self._is_obeying(coro, error):
                found.append(task)
        ahead += self.tasks()
        while ahead:
            child = ahead.pop()
            if child in seen or child is task or is_done(child):
                continue
            seen.add(child)
            if child.cancelling():
                self._asked.add(child)
            if child not in self._asked or is_awake(child):
                continue
            inner = coro_of(child)
            children = self._asked_children(inner, waiter_of(child))
            if children:
                ahead += children
            elif not self._is_obeying(inner, asyncio.CancelledError):
                found.append(child)
        return found

    def _asked_children(self, coro: object, waiter: object) -> list[Any]:
        tasks = [part for part in _behind(coro, waiter, self._asked, entered_too=False) if is_a(part, TASKS)]
        return [task for task in tasks if task in self._asked or task.cancelling()]

    def _is_obeying(self, coro: object, error: BaseException | type[BaseException] | None) -> bool:
        if is_handling(coro, error, behind=True):
            return True
        return self._loop.time() < self._since + _UNSEEN and is_greenlet_behind(coro)

    # --- force

    def force(self, tasks: "Iterable[asyncio.Task[Any]]", then: Callable[[], object] | None = None) -> None:
        """Raise `StopForced` in tasks, at their awaits, and call `then` when they have had time to hear of it."""
        if self._loop.is_closed():
            return
        for task in self.tasks():
            with suppress(Exception):  # another version of anyio may be built in another way
                calm_anyio(task)
        for task in tasks:
            task.add_done_callback(_seen)
            force_task(task, StopForced)
        if then is not None:
            self._loop.call_later(_CHILDREN_FIRST, then)

    def leaves(self) -> "list[asyncio.Task[Any]]":
        """Return the child tasks that wait for no further ones."""
        return [task for task in self.tasks() if not self.waits(coro_of(task), waiter_of(task))]

    def waits(self, coro: object, waiter: object) -> bool:
        """Return whether it waits for child tasks that have not ended."""
        return any(is_a(part, TASKS) for part in _behind(coro, waiter, self._asked, entered_too=False))

    def is_unwinding(self, task: "asyncio.Task[Any]") -> bool:
        """Return whether a task that was forced is in its clean-up."""
        return is_handling(coro_of(task), StopForced)


def _behind(coro: object, waiter: object, asked: set[Any], *, entered_too: bool = True) -> Iterator[Any]:
    """Return the tasks and calls that one suspended coroutine waits for by itself.

    Args:
        coro: the coroutine.
        waiter: the future that its task waits for; ``None`` where it is to be found out.
        asked: filled with the tasks of groups that have cancelled theirs.
        entered_too: also the tasks of groups whose blocks it is inside of, which end with the block.
    """
    current: Any = coro
    seen: set[int] = set()
    while current is not None and len(seen) < _LIMIT and id(current) not in seen:
        seen.add(id(current))
        parts = parts_of(current)
        if parts is None:
            if is_a(current, FUTURES):
                yield from _in_future(current)
                return
            driven = fields(current).get("coro")
            current = driven if type(driven) is CoroutineType else inside(current)
            continue
        frame, running, awaited = parts
        if frame is None or running:
            return
        code = frame.f_code
        kind = kind_of(code)
        if entered_too and kind == 1:
            for group in entered(current):
                yield from filter(_is_plain_task, members_of(group))
        elif kind == 2:
            if is_shield(frame):
                return
            if code.co_name in GROUP_WAITS:
                group = own_self(frame)
                members = tuple(filter(_is_plain_task, members_of(group)))
                if fields(group).get("_aborting") is True:  # asyncio's and ours
                    asked.update(members)
                yield from members
            elif code.co_name == "run_sync_in_worker_thread":
                call = anyio_call(frame)
                if call is not None:
                    yield call
                    return
            elif (future := waited_for(frame)) is not None:
                yield from _in_future(future)
                return
        if type(awaited).__name__ == "FutureIter" and waiter is not None:
            awaited = waiter
        current = awaited


def _in_future(future: Any) -> Iterator[Any]:
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


def _seen(task: "asyncio.Task[Any]") -> None:
    """A forced task has ended: that nobody asks for its error is no reason to complain."""
    if stems_from(task._exception, StopForced):  # reading this private field marks nothing as seen
        task.exception()


def _in_words(part: Any) -> str:
    if not is_a(part, TASKS):
        text: str = part.describe()
        return text
    frame = culprit(develop(stack_of(coro_of(part), ask=False)))
    at = "" if frame is None else f" in {frame._replace(source='')}"
    return f"task {part.get_name()!r}{at}"
