"""What belongs to an operation besides its coroutine: the child tasks, calls in threads and processes that it waits for.

A body that waits for a `TaskGroup`, a `gather`, or a task is over when the child is; cancelling the body a second time
does not reach the children of a group, and force would only tear the body off from them. So the children are found by
walking the stack of the body, are asked again and forced one by one, and the end is told when the last of them has ended.
A call that runs in a thread of an executor can't be ended at all: it is waited for during the stop, and named afterwards.
A process that it has started by asyncio is for its code to end; what the coroutine has left when it ends is asked, and
killed by force.

What a shield of ours holds back is part of it from force on: no asking goes through that, and force does.

Only a child that was asked before is asked again: what a clean-up starts is nobody's refusal.
"""

import asyncio
from collections.abc import Callable, Iterable
from contextlib import suppress
from contextvars import Context
from functools import partial
from typing import Any

from ..._words.errors import StopForced
from ..._words.frame import RawStack, culprit, develop
from ..._words.report import Rung
from .executors import Call
from .forcing import calm_anyio, force_task, is_about_to_hear, note_forced, waiter_of
from .look import Look, look_at
from .objects import TASKS, is_a, is_done
from .other_loops import TaskElsewhere
from .stack import coro_of, stack_of
from .subprocesses import Subprocess

__all__ = ["Parts"]

_MOST = 100_000
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

    def __init__(self, loop: asyncio.AbstractEventLoop, owner: object) -> None:
        self._owner = owner
        self.rung = Rung.ASKED
        self.outlive = False
        self._loop = loop
        self._since = loop.time()
        self._tasks: dict[Any, None] = {}
        self._calls: dict[int, Any] = {}
        self._asked: set[Any] = set()
        self._over: Callable[[], object] | None = None
        #: of what `_over` waits for, that of whose end the event loop has not heard
        self._unheard: set[Any] = set()
        #: whether what shields hold back is part of it, too
        self._forced = False
        #: what the last collecting has seen of each task, and of the body's coroutine
        self._looks: dict[Any, Look] = {}

    # --- finding them

    def collect(self, look: Look) -> None:
        """Note what a look at the body has found, and look at the child tasks behind that: at each once."""
        self._looks = {None: self._through_shields(look)}
        ahead: list[Any] = self.tasks()
        ahead += [part for part in self._parts_of(look) if self._note(part)]
        while ahead and len(self._tasks) < _MOST:
            task = ahead.pop()
            look = self._look_anew(task)
            ahead += [part for part in self._parts_of(look) if self._note(part)]

    def _parts_of(self, look: Look) -> list[Any]:
        self._asked.update(look.aborted)
        return [*look.waits, *look.blocks]

    def _look_of(self, task: Any) -> Look:
        """Return what was seen of a child task."""
        look = self._looks.get(task)
        if look is None:  # there are too many of them
            look = self._look_anew(task)
        return look

    def _look_anew(self, task: Any) -> Look:
        look = look_at(coro_of(task), waiter_of(task), asyncio.CancelledError, self._owner)
        self._looks[task] = self._through_shields(look)
        return look

    def _through_shields(self, look: Look) -> Look:
        if self._forced:
            look.waits += look.shielded
        return look

    def note_forced(self) -> None:
        """From now on what shields hold back is part of it."""
        self._forced = True

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
        """Ask the child tasks and processes that nobody has asked: the body has ended by the stop without doing that."""
        for task in self.tasks():
            if task not in self._asked and not task.cancelling():
                self._asked.add(task)
                task.cancel()
        if self._forced:
            self.kill()
            return
        for process in self._processes():
            process.ask()
            self.rung = max(self.rung, Rung.TERMINATED)

    def kill(self) -> None:
        """Kill the processes, and force the tasks of other loops, that the body has left.

        Of such a task, the operations for which it waits have been forced just now: by that it may have ended already.
        """
        for process in self._processes():
            process.kill()
            self.rung = max(self.rung, Rung.KILLED)
        for call in self._calls.values():
            if type(call) is TaskElsewhere and (call in self._unheard or call.pending()):
                call.kill()
                self.rung = max(self.rung, Rung.FORCED)

    def _processes(self) -> list[Subprocess]:
        return [call for call in self._calls.values() if type(call) is Subprocess and call.pending()]

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
        unheard = self._unheard = set(left)
        self._over = callback

        def ended(part: Any) -> None:
            unheard.discard(part)
            if not unheard and not self.when_over(callback):  # more may have been found in the meantime
                self.tell_end()

        for part in left:
            if is_a(part, TASKS):
                part.add_done_callback(ended)  # type: ignore[union-attr]  # a task
            else:
                part.when_done(partial(self._call, partial(ended, part)))  # type: ignore[union-attr]  # a call
        return True

    def tell_end(self) -> bool:
        """Call what waits for the end of all, once, if nothing is left; whether it has been called."""
        if self._over is None or self.left():
            return self._over is None
        callback, self._over = self._over, None
        callback()
        return True

    def _call(self, callback: Callable[[], object]) -> None:
        """Call it on the loop; when that is closed, nobody is left to be told."""
        with suppress(RuntimeError):
            self._loop.call_soon_threadsafe(callback)

    def has_reached(self) -> bool:
        """Return whether a child task has got the request and has not ended."""
        return any(task in self._asked and not is_about_to_hear(task) for task in self.tasks())

    # --- asking again

    def refusing(self, task: Any, error: BaseException | None) -> "list[asyncio.Task[Any]]":
        """Return the tasks that were asked and went on, `task` of the body itself among them, as they were seen last.

        A task that waits for others is not asked itself: it goes on when they have ended.
        """
        found: list[Any] = []
        seen: set[Any] = set()
        ahead: list[Any] = []
        if task is not None:
            look = self._looks[None]
            children = self._asked_among(look)
            if children:
                ahead += children
            elif not (error is None and is_about_to_hear(task)) and not self._is_obeying(look, error):
                found.append(task)
        ahead += self.tasks()
        while ahead:
            child = ahead.pop()
            if child in seen or child is task or is_done(child):
                continue
            seen.add(child)
            if child.cancelling():
                self._asked.add(child)
            if child not in self._asked or is_about_to_hear(child):
                continue
            look = self._look_of(child)
            children = self._asked_among(look)
            if children:
                ahead += children
            elif not self._is_obeying(look, asyncio.CancelledError):
                found.append(child)
        return found

    def _asked_among(self, look: Look) -> list[Any]:
        return [task for task in look.tasks() if task in self._asked or task.cancelling()]

    def _is_obeying(self, look: Look, error: BaseException | type[BaseException] | None) -> bool:
        if look.is_obeying(error):
            return True
        return look.greenlet and self._loop.time() < self._since + _UNSEEN

    # --- force

    def force(
        self,
        tasks: "Iterable[asyncio.Task[Any]]",
        then: Callable[[], object] | None = None,
        *,
        gently: bool = True,
    ) -> None:
        """Raise `StopForced` in tasks, at their awaits, and call `then` when they have had time to hear of it.

        Where they wait for a lock, `gently`: so that it can be swallowed as a `CancelledError`.
        """
        if self._loop.is_closed():
            return
        for task in self.tasks():
            with suppress(Exception):  # another version of anyio may be built in another way
                calm_anyio(task)
        for task in tasks:
            task.add_done_callback(note_forced)
            force_task(task, StopForced, gently=gently)
        if then is not None:
            self._loop.call_later(_CHILDREN_FIRST, then, context=Context())

    def leaves(self) -> "list[asyncio.Task[Any]]":
        """Return the child tasks that, as they were seen last, wait for no further ones."""
        return [task for task in self.tasks() if not self._look_of(task).tasks()]

    def is_waited_for(self) -> bool:
        """Return whether the body, as it was seen last, waits for child tasks."""
        look = self._looks.get(None)
        return look is not None and bool(look.tasks())

    def spared(self) -> "set[asyncio.Task[Any]]":
        """Return the child tasks that were forced and are in their clean-up, and those that wait for such a one."""
        tasks = self.tasks()
        spared = {task for task in tasks if self._is_unwinding(task)}
        waiting = {task: self._look_anew(task).tasks() for task in tasks} if spared else {}
        while more := [task for task, ahead in waiting.items() if task not in spared and not spared.isdisjoint(ahead)]:
            spared.update(more)
        return spared

    def _is_unwinding(self, task: "asyncio.Task[Any]") -> bool:
        return look_at(coro_of(task), waiter_of(task), StopForced).is_obeying(StopForced)


def _in_words(part: Any) -> str:
    if not is_a(part, TASKS):
        text: str = part.describe()
        return text
    frame = culprit(develop(stack_of(coro_of(part), ask=False)))
    at = "" if frame is None else f" in {frame._replace(source='')}"
    return f"task {part.get_name()!r}{at}"
