"""Where sockets and files were opened, told by Python's audit events.

An audit hook can't be taken away again: it is set only in the forked process of a run.
"""

import os
import socket
import sys
import weakref
from typing import Any

from .driver import current_course
from .points import Stack, running_stack

__all__ = ["opened_at", "record_opening"]

_sockets: list[tuple["weakref.ref[socket.socket]", Stack]] = []
_files: dict[str, Stack] = {}


def record_opening() -> None:
    """Note from now on, for good, where swept code opens sockets and files."""
    sys.addaudithook(_heard)


def opened_at(fd: int, name: str) -> Stack:
    """The stack at which an open file was opened, or ``()``."""
    for reference, stack in _sockets:
        found = reference()
        if found is not None and found.fileno() == fd:
            return stack
    return _files.get(name.removesuffix(" (deleted)"), ())


def _heard(event: str, args: tuple[Any, ...]) -> None:
    if event == "socket.__new__":
        if current_course.get() is not None:
            _sockets.append((weakref.ref(args[0]), running_stack()))
    elif event == "open" and isinstance(args[0], str) and current_course.get() is not None:
        _files[os.path.abspath(args[0])] = running_stack()
