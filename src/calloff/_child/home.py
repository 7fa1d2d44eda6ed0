"""What a worker is put back to between two jobs: surroundings, signals and timers, whatever a function has changed there.

The owner tells with a job what it has changed itself since the last one: environment, directory, search path, arguments.
What a function leaves behind that can't be put back (a thread, a process) is told, and the worker dies of it. One whose
function has changed its users, limits, niceness or processors gets no further job.
"""

import contextlib
import os
import signal
import sys
import threading
import time
from collections.abc import Callable
from typing import Any

from .._os import inherit

__all__ = ["Home"]

#: seconds that threads which are about to end get for it
_TIDY = 0.05
#: seconds of a function that is so short that looking at the limits would take as long
_SHORT = 0.0002
#: seconds for which limits that were looked at count, as long as no Python code can have changed them
_FRESH = 0.05
#: those of C: the ones of `signal` make enums of each answer
_signals: Any = sys.modules["_signal"]
_getsignal: Callable[[int], object] = _signals.getsignal
_set_handler: Callable[[int, Any], Any] = _signals.signal
_set_mask: Callable[[int, set[int]], object] = _signals.pthread_sigmask
_SETMASK = int(signal.SIG_SETMASK)
#: the third one is that of `alarm`
_TIMERS = (signal.ITIMER_VIRTUAL, signal.ITIMER_PROF)
_set_timer, _alarm = signal.setitimer, signal.alarm
#: those that run, and those about to: what `active_count` counts under a lock
_active: dict[int, object] = vars(threading)["_active"]
_limbo: dict[object, object] = vars(threading)["_limbo"]


class Home:
    """The state in which every job begins.

    Args:
        details: what the owner told at the start: `env`, `cwd`, `path`, `argv`.
    """

    def __init__(self, details: dict[str, Any]) -> None:
        self._details = {name: details[name] for name in ("env", "cwd", "path", "argv")}
        self._env: dict[Any, Any] | None = None
        self._umask = os.umask(0)
        os.umask(self._umask)
        self._settle()
        self._handlers: dict[int, Any] = {}
        #: whether a handler may have been set: to look at sixty of them after each job takes as long as all the rest
        self._is_touched = False
        self._mask: set[int] = set()
        self._threads: set[threading.Thread] = set()
        self._is_like_then: Callable[[], bool] = bool
        self._limits: tuple[Any, ...] = ()
        self._looked_at = 0.0

    def note(self) -> None:
        """Everything is set up: this is how the jobs are to find it."""
        numbers = sorted(set(signal.valid_signals()) - {signal.SIGKILL, signal.SIGSTOP})
        self._handlers = {int(number): _getsignal(number) for number in numbers}
        self._mask = {int(number) for number in signal.pthread_sigmask(signal.SIG_BLOCK, ())}
        self._threads = set(threading.enumerate())
        self._is_like_then = inherit.watcher()
        self._limits = (inherit.limits(), inherit.capabilities())
        _signals.signal = self._set_handler

    def _set_handler(self, number: int, handler: Any, /) -> Any:
        """Stands in this process for the function that Python code sets handlers with, below that of `signal`."""
        self._is_touched = True
        return _set_handler(number, handler)

    def change(self, changes: dict[str, Any]) -> None:
        """The owner has changed something."""
        self._details.update(changes)
        if "env" in changes:
            self._env = None
        self._settle()

    def restore(self) -> None:
        """Put everything back after a job."""
        for timer in _TIMERS:
            _set_timer(timer, 0)
        _alarm(0)
        if self._is_touched:
            for number, handler in self._handlers.items():
                if _getsignal(number) is not handler and handler is not None:
                    _set_handler(number, handler)
            self._is_touched = False
        _set_mask(_SETMASK, self._mask)
        os.umask(self._umask)
        self._settle()

    def has_threads(self) -> bool:
        """Whether the function has left a thread behind."""
        return (len(_active) > 1 or len(_limbo) > 0) and self._left_threads()

    def is_changed(self, lasted: float) -> bool:
        """Whether a function has changed what can't always be put back: users, limits, niceness, processors.

        Args:
            lasted: seconds that it took. C code that a short one calls may change limits, or drop capabilities, unseen, for
                a moment.
        """
        if not self._is_like_then():
            return True
        now = time.monotonic()
        if not inherit.may_set_limits() and lasted < _SHORT and now - self._looked_at < _FRESH:
            return False
        self._looked_at = now
        return (inherit.limits(), inherit.capabilities()) != self._limits

    def _settle(self) -> None:
        wanted = self._details
        if self._env != _raw():  # mostly the same objects, which are compared in no time
            os.environ.clear()
            os.environ.update(wanted["env"])
            self._env = dict(_raw())
        try:
            there = os.getcwd()
        except OSError:
            there = ""
        if there != wanted["cwd"]:
            with contextlib.suppress(OSError):  # the owner's directory may be gone
                os.chdir(wanted["cwd"])
        if sys.path != wanted["path"]:
            sys.path[:] = wanted["path"]
            sys.path_importer_cache.clear()
        if sys.argv != wanted["argv"]:
            sys.argv[:] = wanted["argv"]

    def _left_threads(self) -> bool:
        until = time.monotonic() + _TIDY
        left = [thread for thread in threading.enumerate() if thread not in self._threads]
        while left and time.monotonic() < until:
            left[0].join(max(0.0, until - time.monotonic()))
            left = [thread for thread in left if thread.is_alive()]
        return bool(left)


def _raw() -> dict[Any, Any]:
    """The environment, not decoded where that can be had: it takes ten times as long."""
    found: dict[Any, Any] | None = getattr(os.environ, "_data", None)
    return dict(os.environ) if found is None else found
