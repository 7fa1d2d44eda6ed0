"""The bystander's tasks, step by step: for a cancel that comes in the same turn of the loop as one of its steps.

Two tasks that are ready in one turn have two orders, and a cancel can come before, between or behind their steps. A wake-up
that the bystander hands over while the cancel is on its way, or a place that it gave up a moment before, is then lost
where the function does not look again.
"""

import contextvars
from collections.abc import Callable, Coroutine
from typing import Any

from .course import Course

__all__ = ["Beside", "current_beside"]

#: the course beside which the running code is its bystander; inherited by all that it starts
current_beside: "contextvars.ContextVar[Course | None]" = contextvars.ContextVar("calloff_beside", default=None)


class Beside(Coroutine[Any, Any, Any]):
    """Passes the steps of a task of the bystander's on, and says when there is one."""

    def __init__(self, coro: Coroutine[Any, Any, Any], course: Course) -> None:
        self.coro = coro
        self._course = course

    def send(self, value: Any, /) -> Any:
        """Pass a step on."""
        return self._step(self.coro.send, value)

    def throw(self, typ: Any, val: Any = None, tb: Any = None, /) -> Any:
        """Pass an exception on."""
        return self._step(self.coro.throw, typ if isinstance(typ, BaseException) else (val or typ()))

    def close(self) -> None:
        """The task was destroyed before its end."""
        self.coro.close()

    def __await__(self) -> "Beside":
        return self

    def __iter__(self) -> "Beside":
        return self

    def __next__(self) -> Any:
        return self.send(None)

    def __getattr__(self, name: str) -> Any:
        return getattr(self.coro, name)  # what asyncio's reprs and inspect read

    def _step(self, go: Callable[[Any], Any], value: Any) -> Any:
        self._course.stepping(begins=True)
        try:
            return go(value)
        finally:
            self._course.stepping(begins=False)
