"""Whether anything can happen yet that would put away what a run left: where nothing can, nobody waits for it.

Nothing can happen in an event loop that has nothing to do, no timer that is due soon, and no connection that leads out of
this process, while no thread works and no child process runs.
"""

import asyncio
import os
import socket
import stat
import threading
from typing import Any

from ..._os import proc
from .leftovers import is_idle
from .quiet import watched

__all__ = ["is_still", "nothing_comes"]

_SOON = 5.0


def is_still(loop: asyncio.AbstractEventLoop) -> bool:
    """Whether nothing more will come of the loop by itself; ``False`` where that can't be told."""
    parts: Any = loop
    try:
        ready, scheduled, _ = parts._ready, parts._scheduled, parts._selector
    except AttributeError:
        return False
    now = loop.time()
    if ready or any(not timer.cancelled() and timer.when() - now < _SOON for timer in scheduled):
        return False
    return nothing_comes(loop)


def nothing_comes(loop: asyncio.AbstractEventLoop) -> bool:
    """Whether nothing but a timer can make such a loop go on."""
    parts: Any = loop
    selector = parts._selector
    if any(thread is not threading.current_thread() and not is_idle(thread) for thread in threading.enumerate()):
        return False
    if proc.running_children(os.getpid()):
        return False
    keys = watched(selector)
    own = getattr(parts, "_ssock", None)  # call_soon_threadsafe's
    mine = -1 if own is None else own.fileno()
    try:
        return selector.select(0) == [] and not _lead_out([fd for fd in keys if fd != mine])
    except OSError:
        return False


def _lead_out(files: list[int]) -> bool:
    """Whether somebody outside of this process may make one of them ready."""
    peers: list[Any] = []
    for fd in files:
        if not stat.S_ISSOCK(os.fstat(fd).st_mode):
            return True
        with socket.socket(fileno=os.dup(fd)) as copy:
            if copy.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN):
                continue
            try:
                peers.append(copy.getpeername())
            except OSError:
                return True
    return bool(peers) and not (all(isinstance(peer, tuple) for peer in peers) and _own_names().issuperset(peers))


def _own_names() -> set[Any]:
    """The addresses of the sockets that are open in this process."""
    found: set[Any] = set()
    for entry in os.listdir("/proc/self/fd"):
        try:
            if stat.S_ISSOCK(os.fstat(int(entry)).st_mode):
                with socket.socket(fileno=os.dup(int(entry))) as copy:
                    if not copy.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN):
                        found.add(copy.getsockname())
        except OSError:
            pass
    return found
