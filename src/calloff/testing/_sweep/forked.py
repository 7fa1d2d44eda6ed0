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
import weakref
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from ..._words.untouched import is_a

__all__ = ["Forked", "wakers"]


class Forked:
    """What there is to mend, looked up before the fork, and kept away from the garbage collector.

    What was frozen by then was looked through when it was frozen, so that many forks of one process cost no look at all
    that it holds each time; and no run pays for the garbage of the process that forked.

    Args:
        for_good: leave everything frozen in the process that forks, too: it forks again soon.
    """

    def __init__(self, for_good: bool = False) -> None:
        if for_good:
            gc.collect()  # what stays frozen is never collected
        for found in gc.get_objects():
            try:
                if is_a(found, ThreadPoolExecutor):
                    _pools.add(found)
                elif is_a(found, asyncio.SelectorEventLoop):
                    _loops.add(found)
            except TypeError:
                pass  # a class that lets nobody refer to it weakly
        self._thaws = not for_good and not gc.get_freeze_count()
        gc.freeze()

    def parent_goes_on(self) -> None:
        """In the process that forked: let the garbage collector see everything again."""
        if self._thaws:
            gc.unfreeze()

    def mend_pools(self) -> None:
        """In the forked process: thread pools start new threads."""
        for pool in list(_pools):
            _without_threads(pool)

    def mend_loops(self) -> None:
        """In the process of a run: give each loop a selector and a pipe of its own."""
        for loop in list(_loops):
            if not loop.is_closed():
                _with_own_selector(loop)


def wakers(*loops: Any) -> set[int]:
    """The descriptors by which threads wake these loops, and those that were there before a fork."""
    ends = (getattr(loop, end, None) for loop in (*loops, *_loops) for end in ("_ssock", "_csock"))
    return {end.fileno() for end in ends if end is not None}


_pools: "weakref.WeakSet[Any]" = weakref.WeakSet()
_loops: "weakref.WeakSet[Any]" = weakref.WeakSet()


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
    old.close()  # this process's end of each: the other process has its own
    if own is None:
        return
    for end in (own, loop._csock):
        end.close()  # one that is only dropped makes Python complain, and some suites fail on that
    loop._ssock, loop._csock = socket.socketpair()
    loop._ssock.setblocking(False)
    loop._csock.setblocking(False)
    loop._add_reader(loop._ssock.fileno(), loop._read_from_self)
