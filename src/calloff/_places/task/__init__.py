"""Coroutines in a task of the running loop."""

from .body import EagerBody, TaskBody, drive

__all__ = ["EagerBody", "TaskBody", "drive"]
