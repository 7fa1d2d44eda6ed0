"""Blocking functions in daemon threads of our own."""

from .body import ThreadBody, ThreadWork
from .place import Threads, thread
from .pool import ThreadCounts

__all__ = ["ThreadBody", "ThreadCounts", "ThreadWork", "Threads", "thread"]
