"""Programs as operations: run, fed, read, and stopped with all they started."""

from .body import CommandBody, CommandWork, Finished
from .place import command

__all__ = ["CommandBody", "CommandWork", "Finished", "command"]
