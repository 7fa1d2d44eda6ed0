"""What a thread that is left behind may still hold when the interpreter ends.

A thread that waits for standard input holds the lock of that stream. At its end the interpreter gives back the last
references to ``sys.stdin``: closing it takes that lock, and not to get it there is a fatal error (``_enter_buffered_busy``,
SIGABRT). One more reference that nobody gives back prevents the closing.
"""

import _thread
import sys
from collections.abc import Callable
from contextlib import suppress

__all__ = ["keep_for_good", "keep_stdin", "load_ctypes", "may_leave_threads"]

#: whether threads can be daemons, which an interpreter does not wait for at its end: not in a subinterpreter
may_leave_threads: Callable[[], bool] = getattr(_thread, "daemon_threads_allowed", lambda: True)

_ENDS_THREADS = sys.platform == "linux" and sys.version_info < (3, 14)
_kept: list[object] = []
_MOMENT = 1.0
_streams: set[int] = set()


def keep_for_good(what: object) -> None:
    """Keep an object as it is: never destroyed, not even at the end of the interpreter."""
    try:
        import ctypes

        ctypes.pythonapi.Py_IncRef(ctypes.py_object(what))
    except (ImportError, AttributeError, OSError):  # not CPython, or one without ctypes, or no file can be opened
        _kept.append(what)
        if may_leave_threads():
            begun = _thread.allocate_lock()
            begun.acquire()
            with suppress(RuntimeError, MemoryError):  # the frame of a thread that nobody waits for is never left
                _thread.start_new_thread(_hold, (what, begun))
                begun.acquire(timeout=_MOMENT)  # one that begins while the interpreter ends would be ended with it


def _hold(_: object, begun: "_thread.LockType") -> None:
    never = _thread.allocate_lock()
    never.acquire()
    begun.release()
    never.acquire()


def load_ctypes() -> None:
    """Load `ctypes`, which takes long, where something begins that a stop may need it for.

    A program that is out of files has to be stopped, too, and can't load anything then. Nor can its threads end, which
    the interpreter has end at its own end: before 3.14 that takes a library that the C library loads only then, and
    without it the process aborts ("libgcc_s.so.1 must be installed for pthread_exit to work").
    """
    with suppress(ImportError, OSError):
        import ctypes

        if _ENDS_THREADS:
            ctypes.CDLL("libgcc_s.so.1")


def keep_stdin() -> None:
    """Keep standard input open at the end of the interpreter: a thread is left behind that may wait for a line."""
    for stream in (sys.stdin, sys.__stdin__):
        for part in (stream, getattr(stream, "buffer", None)):
            if part is not None and id(part) not in _streams:
                _streams.add(id(part))
                keep_for_good(part)
