"""Mends in a forked process what a fork breaks of Python's own: thread pools without threads, shared event loops.

A `ThreadPoolExecutor` of a module believes that its threads are there, and gives them work for ever. An event loop that
was made before the fork shares its selector, and the pipe by which threads wake it, with the process that forked.
"""

import asyncio
import gc
import queue
import selectors
import socket
import threading
from concurrent.futures import ThreadPoolExecutor
from typing import Any

__all__ = ["Forked"]


class Forked:
    """What there is to mend, looked up before the garbage collector is told to pass it over."""

    def __init__(self) -> None:
        self._loops: list[Any] = []
        for found in gc.get_objects():
            try:
                if isinstance(found, ThreadPoolExecutor):
                    _without_threads(found)
                elif isinstance(found, asyncio.SelectorEventLoop) and not found.is_closed():
                    self._loops.append(found)
            except ReferenceError:
                pass  # a weak proxy whose object has gone

    def mend_loops(self) -> None:
        """In the process of a run: give each loop a selector and a pipe of its own."""
        for loop in self._loops:
            _with_own_selector(loop)


def _without_threads(pool: Any) -> None:
    pool._threads.clear()
    pool._idle_semaphore = threading.Semaphore(0)
    pool._shutdown_lock = threading.Lock()
    work = queue.SimpleQueue[Any]()
    while True:  # what was waiting then is still wanted; what wakes threads to end is not
        try:
            item = pool._work_queue.get_nowait()
        except queue.Empty:
            break
        if item is not None:
            work.put(item)
    pool._work_queue = work


def _with_own_selector(loop: Any) -> None:
    old, new = loop._selector, selectors.DefaultSelector()
    own = loop._ssock
    for key in list((old.get_map() or {}).values()):
        if own is None or key.fd != own.fileno():
            new.register(key.fileobj, key.events, key.data)
    loop._selector = new
    if own is None:
        return
    loop._ssock, loop._csock = socket.socketpair()
    loop._ssock.setblocking(False)
    loop._csock.setblocking(False)
    loop._add_reader(loop._ssock.fileno(), loop._read_from_self)
