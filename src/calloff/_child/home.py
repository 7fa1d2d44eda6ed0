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
from collections.abc import Callable
from functools import wraps
from time import monotonic
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
#: the third timer is that of `alarm`
_VIRTUAL, _PROF = signal.ITIMER_VIRTUAL, signal.ITIMER_PROF
_set_timer, _alarm = signal.setitimer, signal.alarm


class Home:
    """The state in which every job begins.

    Args:
        details: what the owner told at the start: `env`, `cwd`, `path`, `argv`.
    """

    def __init__(self, details: dict[str, Any]) -> None:
        self._details = {name: details[name] for name in ("env", "cwd", "path", "argv")}
        self._environ: Any = os.environ
        self._env = _Noting({})
        self._umask = os.umask(0)
        os.umask(self._umask)
        self._restore_env()
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
        self._environ = os.environ
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
            self._restore_env()
        self._settle()

    def restore(self, lasted: float) -> bool:
        """Put everything back after a job, in as few steps as can be, and look for what can't always be put back.

        Args:
            lasted: seconds that the function took. C code that a short one calls may change limits, or drop capabilities,
                unseen, for a moment.

        Returns:
            Whether the function has changed users, limits, niceness or processors.
        """
        _set_timer(_VIRTUAL, 0)
        _set_timer(_PROF, 0)
        _alarm(0)
        if self._is_touched:
            self._restore_handlers()
        _set_mask(_SETMASK, self._mask)
        os.umask(self._umask)
        env, environ = self._env, os.environ
        if env.is_touched or environ is not self._environ or getattr(environ, "_data", None) is not env:
            self._restore_env()
        self._settle()
        if not self._is_like_then():
            return True
        now = monotonic()
        if lasted < _SHORT and now - self._looked_at < _FRESH and not inherit.may_set_limits():
            return False
        self._looked_at = now
        return (inherit.limits(), inherit.capabilities()) != self._limits

    def has_threads(self) -> bool:
        """Whether the function has left a thread behind that does not end in a moment."""
        until = monotonic() + _TIDY
        left = [thread for thread in threading.enumerate() if thread not in self._threads]
        while left and monotonic() < until:
            left[0].join(max(0.0, until - monotonic()))
            left = [thread for thread in left if thread.is_alive()]
        return bool(left)

    def _restore_handlers(self) -> None:
        for number, handler in self._handlers.items():
            if _getsignal(number) is not handler and handler is not None:
                _set_handler(number, handler)
        self._is_touched = False

    def _restore_env(self) -> None:
        os.environ = environ = self._environ
        if dict(environ) != self._details["env"]:
            environ.clear()
            environ.update(self._details["env"])
        inside = getattr(environ, "_data", None)
        if isinstance(inside, dict):  # else it is compared after each job
            self._env = _Noting(inside)
            if os.environb._data is inside:  # type: ignore[attr-defined]  # the two share it
                os.environb._data = self._env  # type: ignore[attr-defined]
            environ._data = self._env

    def _settle(self) -> None:
        """Directory, search path and arguments."""
        wanted = self._details
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


class _Noting(dict[Any, Any]):
    """What is inside `os.environ`, and notes that it may have been changed: to compare it takes as long as all the rest."""

    __slots__ = ("is_touched",)

    def __init__(self, values: dict[Any, Any]) -> None:
        super().__init__(values)
        self.is_touched = False

    def __reduce_ex__(self, protocol: Any) -> tuple[Any, ...]:
        return dict, (dict(self),)


def _noting(name: str) -> Callable[..., Any]:
    change = getattr(dict, name)

    @wraps(change)
    def noted(self: _Noting, *args: Any, **kwargs: Any) -> Any:
        self.is_touched = True
        return change(self, *args, **kwargs)

    return noted


for _name in ("__setitem__", "__delitem__", "__ior__", "clear", "pop", "popitem", "setdefault", "update"):
    setattr(_Noting, _name, _noting(_name))
