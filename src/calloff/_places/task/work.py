"""A coroutine that was not started yet."""

from collections.abc import Coroutine
from typing import Any

from .body import TaskBody

__all__ = ["TaskWork"]


class TaskWork:
    """A coroutine with the name that its operation gets."""

    __slots__ = ("coro", "name")
    place = "task"

    def __init__(self, coro: Coroutine[Any, Any, Any], name: str | None = None) -> None:
        self.coro: Any = coro
        self.name = name or getattr(coro, "__qualname__", "coroutine")

    def open(self) -> TaskBody:
        """Return the body that drives it."""
        return TaskBody(self.coro)
