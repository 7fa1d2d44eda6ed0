"""Functions in worker processes that can be stopped for sure."""

from .body import ProcessBody, ProcessWork
from .place import Processes, process

__all__ = ["ProcessBody", "ProcessWork", "Processes", "process"]
