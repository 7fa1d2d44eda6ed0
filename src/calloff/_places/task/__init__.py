"""Coroutines in a task of the running loop."""

from .body import TaskBody
from .work import TaskWork

__all__ = ["TaskBody", "TaskWork"]
