"""Coroutines in a task of the running loop."""

from .body import TaskBody, TaskWork

__all__ = ["TaskBody", "TaskWork"]
