"""Programs as operations: run, fed, read, and stopped with all they started."""

from .body import CommandBody
from .place import command
from .plan import Finished
from .work import CommandWork

__all__ = ["CommandBody", "CommandWork", "Finished", "command"]
