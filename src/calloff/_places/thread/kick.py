"""What brings a thread out of a blocking call, so that what was sent to it arrives at once: a signal, or a callback.

A system call that a signal ends with EINTR is made again by the interpreter, after a look for what there is to do. From
Python 3.15 on that look also finds an exception that was sent to the thread (`PyThreadState_SetAsyncExc`); before, only the
main thread looks, for handlers of signals. So there a thread that sleeps, reads from a socket or a pipe, or waits for a
process or a lock of a file can be forced out of it. What waits for a lock of the program itself can't: that is no system
call which ends so.

The signal is SIGURG, which does nothing in a process that has no handler for it. One is set when it is needed first, and
stays. A program that has a handler of its own for it keeps it, and its threads are not kicked; nor are they where an event
loop outside of the main thread is the first that needs it, since only the main thread can set one.

An event loop of asyncio that the thread runs is given a callback, on every Python: the loop stops waiting for that, and the
exception arrives between two steps of its tasks.
"""

import asyncio
import signal
import sys
import threading
from contextvars import Context
from types import FrameType

from ..._os.threads import looks

__all__ = ["kick", "reaches"]

_RUNS_LOOP = asyncio.BaseEventLoop.run_forever.__code__
_REACHES = sys.version_info >= (3, 15) and hasattr(signal, "pthread_kill") and hasattr(signal, "SIGURG")


def kick(ident: int) -> None:
    """Interrupt the system call that the thread is in; nothing happens where that is of no use, or can't be."""
    if reaches():
        signal.pthread_kill(ident, signal.SIGURG)
    frame = next(looks(sys._current_frames)).get(ident)
    while frame is not None:
        if frame.f_code is _RUNS_LOOP:
            _wake(frame.f_locals.get("self"))
            return
        frame = frame.f_back


def reaches() -> bool:
    """Whether a thread is brought out of a system call."""
    return _REACHES and _ready()


def _wake(loop: object) -> None:
    """Have the loop go on, if it waits for something."""
    if isinstance(loop, asyncio.BaseEventLoop):
        try:
            loop.call_soon_threadsafe(_nothing, context=Context())
        except RuntimeError:  # closed meanwhile
            pass


def _nothing() -> None:
    pass


def _ready() -> bool:
    """Whether the signal has our handler now."""
    found = signal.getsignal(signal.SIGURG)
    if found is _on_kick:
        return True
    if found not in (signal.SIG_DFL, signal.SIG_IGN):
        return False
    if threading.current_thread() is not threading.main_thread():
        return False
    try:
        signal.signal(signal.SIGURG, _on_kick)
    except ValueError:  # the main thread of a subinterpreter
        return False
    return True


def _on_kick(signum: int, frame: FrameType | None) -> None:
    """That the system call ends is all there is to it."""
