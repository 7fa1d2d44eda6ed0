"""In a notebook, the stop button is heard while the event loop sleeps.

The kernel of Jupyter notes a SIGINT in its handler and looks at the note when its event loop turns next. A loop that sleeps
until something happens is not woken by that, so a cell that awaits goes on until the next message comes (a known fault of
ipykernel). Therefore each signal sends a byte to a socket that the loop reads (`signal.set_wakeup_fd`), as asyncio does for
the handlers that it has set itself.
"""

import contextlib
import signal
import socket
import threading
from asyncio import AbstractEventLoop
from collections.abc import Callable
from functools import partial

__all__ = ["hear_stop_button"]

_READ = 4096


def hear_stop_button(loop: AbstractEventLoop) -> Callable[[], object] | None:
    """Have signals wake this loop, which is that of a notebook; returns what undoes that."""
    if threading.current_thread() is not threading.main_thread():
        return None
    ours, theirs = socket.socketpair()
    for each in (ours, theirs):
        each.setblocking(False)
    former = signal.set_wakeup_fd(theirs.fileno(), warn_on_full_buffer=False)
    if former != -1:  # somebody else has signals wake it
        signal.set_wakeup_fd(former)
    else:
        with contextlib.suppress(NotImplementedError):  # a loop that reads no sockets
            loop.add_reader(ours.fileno(), partial(_drain, ours))
            return partial(_forget, loop, ours, theirs)
        signal.set_wakeup_fd(-1)
    ours.close()
    theirs.close()
    return None


def _drain(ours: socket.socket) -> None:
    with contextlib.suppress(BlockingIOError):
        ours.recv(_READ)


def _forget(loop: AbstractEventLoop, ours: socket.socket, theirs: socket.socket) -> None:
    with contextlib.suppress(ValueError):  # in a thread that may not, as when the loop is found closed there
        found = signal.set_wakeup_fd(-1)
        if found != theirs.fileno():  # somebody else's by now
            signal.set_wakeup_fd(found)
    if not loop.is_closed():
        loop.remove_reader(ours.fileno())
    ours.close()
    theirs.close()
