"""A whole program of Python as the body of an operation: a command that can be asked for the line where it is.

What asks the program to end is SIGINT: as `KeyboardInterrupt` it unwinds a program that blocks, and `asyncio.run` cancels
its main task for it. The program answers through a named pipe in a directory of its own (`calloff._child.script`), which is
gone as soon as both have it open.
"""

import contextlib
import os
import shlex
import shutil
import signal
import sys
import tempfile
import threading
import time
from collections.abc import Sequence
from typing import Literal

from ..._child import script as program
from ..._child.wire import DUMP
from ..._os import proc
from ..._os.fds import is_readable
from ..._words.frame import RawStack
from ..._words.place import Sink
from ..looking import Found, is_in_c, last_stack, sent
from .body import CommandBody
from .plan import Plan
from .work import CommandWork

__all__ = ["script"]

#: asks for the stack: a signal that does nothing to another program which the script becomes (`exec`) just then
_LOOK = int(signal.SIGURG)
#: seconds after which a program that does not answer may be busy in C, each time, and that it is waited for at most
_SOON, _PATIENCE = 0.02, 0.2
#: bytes that a pipe holds
_ROOM = 1 << 16


def script(kind: Literal["file", "module"], name: str, args: Sequence[str]) -> CommandWork:
    """Make work that runs a whole program of Python with our interpreter, its options and our standard streams.

    Args:
        kind: whether `name` is a file (or a directory or an archive with a ``__main__.py``) or a module.
        name: which.
        args: the arguments of the program.
    """
    return _ScriptWork((kind, name, *args), os.path.basename(name) if kind == "file" else name)


class _ScriptWork(CommandWork):
    __slots__ = ("_words",)

    def __init__(self, words: tuple[str, ...], name: str) -> None:
        super().__init__(_plan(words, ""), name)
        self._words = words

    def open(self) -> "CommandBody":
        """Make the body, and the pipe that it answers through."""
        try:
            folder = tempfile.mkdtemp(prefix="calloff-")
        except OSError:  # no place for it: the program runs all the same, and shows no lines
            return super().open()
        fifo = os.path.join(folder, "stacks")
        try:
            os.mkfifo(fifo, 0o600)
            stacks = os.open(fifo, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
        except OSError:
            shutil.rmtree(folder, ignore_errors=True)
            return super().open()
        kind, *words = self._words
        argv = ("python", *(["-m"] if kind == "module" else []), *words)
        return _ScriptBody(_plan(self._words, fifo), self.name, argv, folder, stacks)


def _plan(words: tuple[str, ...], fifo: str) -> Plan:
    from subprocess import _args_from_interpreter_flags  # type: ignore[attr-defined]  # the one that multiprocessing uses

    argv = (sys.executable, *_args_from_interpreter_flags(), program.__file__, str(_LOOK), str(DUMP), fifo, *words)
    return Plan(argv, None, None, (0, 1, 2), int(signal.SIGINT), check=True, foreground=_has_terminal())


def _has_terminal() -> bool:
    """Whether we have a terminal that the program may want to ask at: then it stays in the foreground with us."""
    try:
        return os.isatty(0) and os.tcgetpgrp(0) == os.getpgrp()
    except OSError:
        return False


class _ScriptBody(CommandBody):
    """Runs a program of Python for an operation."""

    __slots__ = ("_folder", "_known", "_let_in", "_looking", "_stacks")
    insists = True
    slack = 0.5  # only we look at it before it is asked, so the guard is to leave us that where the machine is busy

    def __init__(self, plan: Plan, name: str, argv: tuple[str, ...], folder: str, stacks: int) -> None:
        super().__init__(plan, name, sys.executable, dict(os.environ), os.getcwd())
        self.argv = argv
        self._folder = folder
        self._stacks = stacks
        self._known: RawStack = ()
        self._let_in = False
        #: held while somebody looks: other threads do, too
        self._looking = threading.Lock()

    def begin(self, sink: Sink) -> None:
        """Start the program."""
        try:
            super().begin(sink)
        except BaseException:
            self._let_go()
            raise

    def where(self) -> RawStack:
        """Return the stack of its main thread, as far as the program tells it in time. From any thread."""
        self._look()
        return self.known_where()

    def known_where(self) -> RawStack:
        """Return the stack that was seen last."""
        if self._known or self.pid is None or self._done:
            return self._known
        return ((self._program, 0, self.name, f"{shlex.join(self.argv)} (process {self.pid})"),)

    def let_in(self) -> None:
        """Have the program open a door of its own, through which its tasks are seen; once. From any thread."""
        if self._let_in or self.pid is None or self._done:
            return
        self._let_in = True
        with contextlib.suppress(OSError):  # the name is taken by now: then its tasks are not seen
            os.mkdir(self._folder, 0o700)
            with open(os.path.join(self._folder, "door"), "x"):
                pass
        self._look()

    def insist(self) -> bool:
        """Interrupt it once more where it blocks its event loop: asyncio only notes the first SIGINT there."""
        if self._held_back is not None:
            return False
        before = self._known
        return self._look() and self._known == before and self._signal(signal.SIGINT)

    def _look(self) -> bool:
        """Ask for its stack; whether it blocks an event loop.

        One that runs and does not answer is busy in C, and C writes the line that called it.
        """
        with self._looking:
            if self._stacks < 0:
                return False
            with contextlib.suppress(BlockingIOError):
                os.read(self._stacks, _ROOM)  # what has come too late for who looked before
            if not self._signal(_LOOK):
                return False
            ran = proc.seconds_run(self.pid or 0)
            until = time.monotonic() + _PATIENCE
            text, asked = self._answer(_SOON), False
            while not text and time.monotonic() < until and proc.state_of(self.pid or 0) not in ("Z", "X", ""):
                # on a busy machine it may not have had its turn yet
                if not asked and is_in_c(self.pid or 0, ran) and not is_readable(self._stacks, 0.0):
                    asked = self._signal(DUMP)
                text = self._answer(_PATIENCE if asked else _SOON)
            self._known = _of_the_user(last_stack(text) or ()) or self._known
            return "blocked\n" in text

    def _answer(self, seconds: float) -> str:
        until = time.monotonic() + seconds
        text = b""
        while (left := until - time.monotonic()) > 0 and is_readable(self._stacks, left):
            try:
                text += os.read(self._stacks, _ROOM)
            except BlockingIOError:
                continue
            if text.endswith((b"end\n", b"<module>\n")) or not text:
                break
        return text.decode(errors="replace")

    def _signal(self, number: int) -> bool:
        """Signal the program, if it is one that handles that: another would die of it (`exec` takes handlers away)."""
        return self.pid is not None and proc.catches(self.pid, number) and sent(self._handle, number)

    def _close(self) -> None:
        with self._looking:
            super()._close()
        self._let_go()

    def _let_go(self) -> None:
        with self._looking:
            if self._stacks >= 0:
                os.close(self._stacks)
                self._stacks = -1
        shutil.rmtree(self._folder, ignore_errors=True)


def _of_the_user(found: Found) -> Found:
    """The frames of the program, without those that run it."""
    return tuple(frame for frame in found if frame[0] not in (program.__file__, "<frozen runpy>"))
