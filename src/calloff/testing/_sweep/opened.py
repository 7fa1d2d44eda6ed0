"""Where sockets and files were opened, told by Python's audit events, and where threads were started.

An audit hook can't be taken away again: it is set only in the forked process of a run.
"""

import os
import re
import socket
import sys
import threading
import weakref
from collections.abc import Callable
from typing import Any

from .course import current_course
from .points import Stack, running_stack

__all__ = ["opened_at", "record_opening", "started_at", "unclosed_at"]

_getcwd = os.getcwd  # as it was when this was imported: blockbuster puts another in its place
_sockets: list[tuple["weakref.ref[socket.socket]", Stack]] = []
_files: dict[str, Stack] = {}
_numbers: dict[int, Stack] = {}
_threads: "weakref.WeakKeyDictionary[threading.Thread, Stack]" = weakref.WeakKeyDictionary()


def record_opening() -> None:
    """Note from now on, for good, where swept code opens sockets and files and starts threads."""
    sys.addaudithook(_heard)
    socket.socket.__init__ = _numbering(socket.socket.__init__)  # type: ignore[method-assign]  # in this process alone
    threading.Thread.start = _noting(threading.Thread.start)  # type: ignore[assignment,method-assign]  # in this process alone


def opened_at(fd: int, name: str) -> Stack:
    """The stack at which an open file was opened, or ``()``."""
    for reference, stack in _sockets:
        found = reference()
        if found is not None and found.fileno() == fd:
            return stack
    return _files.get(name.removesuffix(" (deleted)"), ())


def unclosed_at(text: str) -> Stack:
    """The stack at which that was opened of which Python says that it was left unclosed, or ``()``."""
    if found := re.search(r"\bfd=(\d+)", text):
        return _numbers.get(int(found[1]), ())
    if found := re.search(r"^unclosed file <.* name='([^']+)'", text):
        return _files.get(_absolute(found[1]), ())
    return ()


def started_at(thread: threading.Thread) -> Stack:
    """The stack at which a thread was started, or ``()``."""
    return _threads.get(thread, ())


def _heard(event: str, args: tuple[Any, ...]) -> None:
    if event == "socket.__new__":
        if current_course.get() is not None:
            _sockets.append((weakref.ref(args[0]), running_stack()))
    elif event == "open" and isinstance(args[0], str) and current_course.get() is not None:
        _files[_absolute(args[0])] = running_stack()


def _absolute(name: str) -> str:
    """The whole path, without a call that a suite may forbid where an event loop runs."""
    return os.path.normpath(name if name.startswith("/") else f"{_getcwd()}/{name}")


def _numbering(init: Callable[..., None]) -> Callable[..., None]:
    """A socket that is garbage is known by its number alone."""

    def numbered(made: socket.socket, *args: Any, **options: Any) -> None:
        init(made, *args, **options)
        if current_course.get() is not None:
            _numbers[made.fileno()] = running_stack()

    return numbered


def _noting(start: Callable[[threading.Thread], None]) -> Callable[[threading.Thread], None]:
    """Python 3.11 has no event for threads."""

    def noted(thread: threading.Thread) -> None:
        if current_course.get() is not None:
            _threads[thread] = running_stack()
        start(thread)

    return noted
