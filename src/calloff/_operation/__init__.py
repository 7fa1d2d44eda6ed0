"""Floor 2: the handle, its supervision, the tree, watching. Knows what a place promises, never a place."""

from .checkpoint import checkpoint
from .current import current, current_deadline, progress, remaining
from .operation import Operation
from .registry import operations

__all__ = ["Operation", "checkpoint", "current", "current_deadline", "operations", "progress", "remaining"]
