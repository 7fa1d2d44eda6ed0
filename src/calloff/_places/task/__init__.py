"""Coroutines in a task of the running loop."""

from .body import EagerBody, TaskBody

__all__ = ["EagerBody", "TaskBody"]
