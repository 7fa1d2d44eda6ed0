"""SIGINT and SIGTERM for `calloff.run`: heard also when somebody else has taken their handlers.

Libraries take these signals while the program runs (a web server does, with `signal.signal` or `loop.add_signal_handler`)
and then wait without limit. So the handlers that are set here at the beginning are not all. CPython writes the number of
each signal that has a handler in Python, whosever it is, to the file that `signal.set_wakeup_fd` names: here a pipe
that the loop reads. What our own handler was called for is left out; the rest was somebody else's.

There is only one such file, and event loops use it, too: asyncio's from the first `add_signal_handler` on, uvloop whenever
it begins to run. So ours is set again behind each of these, and what arrives is handed on to the file that was found. A
program that uses the file itself keeps it, and one that has set a handler before `calloff.run` keeps that signal. While
the loop is blocked, a signal that somebody else has taken is heard no sooner than the loop turns. And one of our own that
falls between the interpreter's last look for signals and a call of the system that waits is heard when that call returns,
as anywhere in Python: with the next signal, or when a limit is due. (Only a clock that ticks while a program is idle
could do better.)
"""

import asyncio
import contextlib
import os
import signal
import threading
from asyncio import AbstractEventLoop
from collections.abc import Callable, Generator
from contextlib import contextmanager
from types import FrameType
from typing import Any, Protocol
from weakref import WeakSet

__all__ = ["Conductor", "SignalWatch"]

_DEFAULTS: dict[int, Any] = {signal.SIGINT: signal.default_int_handler, signal.SIGTERM: signal.SIG_DFL}
#: handlers that nobody has set
_NOBODY = (None, signal.SIG_DFL, signal.SIG_IGN, signal.default_int_handler)
_NONE = -1


class Conductor(Protocol):
    """Takes a program to its end when a signal comes, in its own way and within its own bound.

    Attributes:
        ends_since: the point on the loop's clock from which on what blocks the loop is asked to end.
        ends_at: the point from which on it is forced.
    """

    @property
    def ends_since(self) -> float: ...

    @property
    def ends_at(self) -> float: ...

    def signalled(self, signum: int, /) -> object:
        """Hear of a signal; on the loop's thread, perhaps on top of what blocks the loop."""


class SignalWatch:
    """Hears SIGINT and SIGTERM in the main thread, where the program has set no handlers before.

    Args:
        own: called in the handler, with the number of the signal: anywhere in the program.
        foreign: called on the loop, when the handler of somebody else was there.
    """

    def __init__(self, loop: AbstractEventLoop, own: Callable[[int], object], foreign: Callable[[int], object]) -> None:
        self._loop = loop
        self._own = own
        self._foreign = foreign
        self._handler = self._on_signal
        self._process = os.getpid()
        self._formers: dict[int, Any] = {}
        #: how often the handler was called for a number that has not been read
        self._seen: dict[int, int] = {}
        self._pipe: tuple[int, int] | None = None
        #: where what is read is handed on to
        self._next = _NONE

    @contextmanager
    def installed(self) -> Generator[None]:
        """Hear the signals in the block, and leave everything as it was found."""
        if threading.current_thread() is not threading.main_thread():
            yield
            return
        for signum, default in _DEFAULTS.items():
            if signal.getsignal(signum) == default:
                try:
                    self._formers[signum] = signal.signal(signum, self._handler)
                except ValueError:  # the main thread of a subinterpreter: signals are heard in the main one alone
                    break
        if self._formers:
            _installed.add(self)
            self._listen()
        try:
            yield
        finally:
            _installed.discard(self)
            self._stop_listening()
            for signum, former in self._formers.items():
                if signal.getsignal(signum) == self._handler:  # the program may have set its own meanwhile
                    signal.signal(signum, former)

    def run_loop(self) -> None:
        """Run the loop until it is stopped."""
        if self._pipe is not None and not isinstance(self._loop, asyncio.BaseEventLoop):
            self._next = _NONE  # uvloop has another one each time
            self._loop.call_soon(self._chain)
        self._loop.run_forever()

    def _on_signal(self, signum: int, frame: FrameType | None) -> None:
        if os.getpid() != self._process:  # a child that was forked just now
            self.leave_to_parent()
            os.kill(os.getpid(), signum)
            return
        self._seen[signum] = self._seen.get(signum, 0) + 1
        self._own(signum)

    # --- what others have taken

    def _listen(self) -> None:
        theirs = signal.set_wakeup_fd(_NONE)
        if theirs != _NONE:  # the program uses it
            signal.set_wakeup_fd(theirs)
            return
        self._pipe = reader, writer = os.pipe()
        os.set_blocking(reader, False)
        os.set_blocking(writer, False)
        try:
            self._loop.add_reader(reader, self._read)
        except NotImplementedError:
            self._close_pipe()
            return
        self._chain()
        for name in ("add_signal_handler", "remove_signal_handler"):
            with contextlib.suppress(AttributeError, TypeError):  # a loop without attributes of its own
                setattr(self._loop, name, self._behind(getattr(self._loop, name)))

    def _stop_listening(self) -> None:
        if self._pipe is None:
            return
        reader, writer = self._pipe
        for name in ("add_signal_handler", "remove_signal_handler"):
            with contextlib.suppress(AttributeError):
                delattr(self._loop, name)
        found = signal.set_wakeup_fd(_NONE)  # as it was; what a loop has put there ends with that loop
        if found != writer:
            signal.set_wakeup_fd(found)
        if not self._loop.is_closed():
            self._loop.remove_reader(reader)
        self._close_pipe()

    def _close_pipe(self) -> None:
        for file in self._pipe or ():
            os.close(file)
        self._pipe = None

    def leave_to_parent(self) -> None:
        """In a forked child: its signals are not the parent's, and end it as they would have before."""
        if self._pipe is not None:
            with contextlib.suppress(ValueError):  # not the main thread
                found = signal.set_wakeup_fd(_NONE)
                if found != self._pipe[1]:
                    signal.set_wakeup_fd(found)
            self._pipe = None  # what the loop looks for is the parent's, too: there it goes on
        for signum, former in self._formers.items():
            with contextlib.suppress(ValueError):
                if signal.getsignal(signum) == self._handler:
                    signal.signal(signum, former)

    def _behind(self, function: Callable[..., Any]) -> Callable[..., Any]:
        """A method of the loop after which the file is ours again, and the signals that nobody owns."""

        def call(*args: Any, **kwargs: Any) -> Any:
            try:
                return function(*args, **kwargs)
            finally:
                if self._pipe is not None:
                    self._chain()
                    for signum in self._formers:
                        if signal.getsignal(signum) == _DEFAULTS[signum]:
                            signal.signal(signum, self._handler)

        return call

    def _chain(self) -> None:
        """Be the one that is written to, and hand on to whoever was."""
        if self._pipe is not None:
            mine = self._pipe[1]
            found = signal.set_wakeup_fd(mine, warn_on_full_buffer=False)
            if found != mine:
                self._next = found

    def _read(self) -> None:
        if self._pipe is None:
            return
        numbers = bytearray()
        with contextlib.suppress(BlockingIOError, InterruptedError):
            while found := os.read(self._pipe[0], 4096):
                numbers += found
        if self._next != _NONE:
            with contextlib.suppress(OSError):
                os.write(self._next, numbers)
        for signum in numbers:
            if self._seen.get(signum):
                self._seen[signum] -= 1
            elif signum in self._formers and self._is_taken(signum):
                self._foreign(signum)
        self._seen.clear()

    def _is_taken(self, signum: int) -> bool:
        handler = signal.getsignal(signum)
        return not any(handler is each for each in (*_NOBODY, self._handler))


#: in this process; seldom more than one
_installed: WeakSet[SignalWatch] = WeakSet()


def _after_fork() -> None:
    for watch in tuple(_installed):
        watch.leave_to_parent()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)
