"""Coroutines in a task of the running loop."""

from .body import TaskBody

__all__ = ["TaskBody"]
