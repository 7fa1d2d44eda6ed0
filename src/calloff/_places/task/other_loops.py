"""Tasks of other event loops that a coroutine waits for, by way of `asyncio.run_coroutine_threadsafe`.

That hands back a future, not the task. Cancelling it asks the task, once; and it is done then, whatever the task does.
"""

import asyncio
from collections.abc import Callable
from concurrent.futures import Future
from contextlib import suppress
from types import FunctionType
from typing import Any

from ..._words.errors import StopForced
from ..._words.frame import RawStack, culprit, develop
from .forcing import force_task, note_forced
from .objects import TASKS, fields, is_a, is_done
from .stack import coro_of, stack_of

__all__ = ["TaskElsewhere", "task_elsewhere"]

#: what is called at the end of a future that another one is chained to
_CHAINED = "_call_check_cancel"


class TaskElsewhere:
    """A task of another event loop, in whose thread it is forced."""

    def __init__(self, future: "Future[Any]", task: "asyncio.Task[Any]") -> None:
        self.key: object = task
        self._future = future
        self._task = task

    def pending(self) -> bool:
        """Return whether it has not ended."""
        return not is_done(self._task)

    def cancel(self) -> None:
        """Cancel it, if it was not: its loop is told by way of the future."""
        self._future.cancel()

    def kill(self) -> None:
        """Raise `StopForced` in it, at its await."""
        self._tell(force_task, self._task, StopForced)

    def when_done(self, callback: Callable[[], object]) -> None:
        """Have `callback` called in the thread of its loop when it has ended."""
        self._tell(self._task.add_done_callback, note_forced)
        self._tell(self._task.add_done_callback, lambda _: callback())

    def _tell(self, function: Callable[..., object], *args: object) -> None:
        with suppress(RuntimeError):  # its loop is closed: it goes nowhere any more
            self._task.get_loop().call_soon_threadsafe(function, *args)

    def stack(self) -> RawStack:
        """Return its frames."""
        return stack_of(coro_of(self._task), ask=False)

    def describe(self) -> str:
        """Return its name and the line."""
        frame = culprit(develop(self.stack()))
        at = "" if frame is None else f" in {frame._replace(source='')}"
        return f"task {self._task.get_name()!r} of another event loop{at}"

    def is_lookup(self) -> bool:
        """Return ``False``: it may change anything."""
        return False


def task_elsewhere(future: "Future[Any]") -> TaskElsewhere | None:
    """Return the task that a future of `concurrent.futures` stands for, if it is one of `run_coroutine_threadsafe`."""
    callbacks = fields(future).get("_done_callbacks")
    for callback in tuple(callbacks) if type(callbacks) is list else ():
        if type(callback) is FunctionType and callback.__name__ == _CHAINED:
            for cell in callback.__closure__ or ():
                if is_a(cell.cell_contents, TASKS):
                    return TaskElsewhere(future, cell.cell_contents)
    return None
