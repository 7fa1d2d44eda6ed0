"""How processes of Python are looked at: they write their stacks into a pipe when a signal asks for it.

A handler in Python writes one when the process runs code of Python. One that does not answer is busy in C, and has C write
it (`faulthandler`), which would crash in the midst of code of Python: so it has to be sure that none runs.
"""

import contextlib
import os
import re
import signal
import threading
import time
from collections.abc import Callable

from .._child.wire import DEAF, DUMP, LOOK
from .._os import proc
from .._os.fds import is_readable
from .._words.frame import RawStack

__all__ = ["Found", "Looker", "is_in_c", "last_stack", "sent"]

#: seconds that a process is waited for at most, after each way of asking
_PATIENCE = 0.02
_LINE = re.compile(r'  File "(.*)", line (\d+) in (.*)')
_BY_C = "(most recent call first)"
#: the end of a text
_LAST = re.compile(r"\Z")

#: file, line and function of each frame
Found = tuple[tuple[str, int, str], ...]


def sent(handle: int | None, number: int) -> bool:
    """Whether a signal could be sent through a pidfd."""
    if handle is None:
        return False
    try:
        signal.pidfd_send_signal(handle, number)
    except OSError:
        return False
    return True


def is_in_c(pid: int, ran: float) -> bool:
    """Whether a process that was asked, and has not answered, surely runs no code of Python.

    Args:
        pid: its number.
        ran: the processor time that it had used when it was asked.
    """
    state = proc.state_of(pid)
    return state == "S" or (state == "R" and proc.seconds_run(pid) - ran > DEAF)


def last_stack(text: str, outermost: re.Pattern[str] = _LAST) -> Found | None:
    """The last whole stack in what was written, by Python or by C, outermost first; ``None`` where there is none.

    Args:
        text: what was written.
        outermost: what must come behind the frames of the user where C writes them, or what was written is not whole.
    """
    by_python, end, _ = text.rpartition("end\n")
    if end:
        found = _LINE.findall(by_python.rpartition("stack\n")[2])
    else:
        _, *written = text.split(_BY_C)  # before the first there may be the end of one that was read already
        ends = ((each, outermost.search(each)) for each in reversed(written))
        whole = next((each[: end.start()] for each, end in ends if end is not None), None)
        if whole is None:
            return None
        found = _LINE.findall(whole)[::-1]
    return tuple((file, int(line), name) for file, line, name in found)


class Looker:
    """Looks at one worker; from any thread.

    Args:
        stacks: our end of the pipe that the worker writes to; owned from now on.
        outermost: what comes behind the frames that run the function, where C writes them.
    """

    def __init__(self, stacks: int, outermost: re.Pattern[str]) -> None:
        #: held while somebody looks
        self.lock = threading.RLock()
        #: of the worker, once it runs
        self.pid: int | None = None
        #: the pipe, or -1
        self.stacks: int = stacks
        self._outermost = outermost
        self._handle: int | None = None
        #: what has come from it and was not forgotten
        self.text: str = ""
        self._stacked: RawStack | None = None
        #: whether something has come since the last stack was read
        self._is_new = False
        self._looked_at = self._ran = 0.0

    def meet(self, pid: int, handle: int | None) -> None:
        """The worker runs; the pidfd is owned from now on."""
        with self.lock:
            if self._handle is None:
                self.pid, self._handle = pid, handle
            elif handle is not None:
                os.close(handle)

    def close(self) -> None:
        """No more of it."""
        with self.lock:
            if self.stacks >= 0:
                os.close(self.stacks)
                self.stacks = -1
            if self._handle is not None:
                os.close(self._handle)
                self._handle = None

    def signal(self, number: int) -> bool:
        """Send it a signal; whether that could be done."""
        return sent(self._handle, number)

    def ask(self) -> bool:
        """Ask for its stack, which `where` waits for; the one before is forgotten.

        A worker that has no handler for that any more (it runs another program by now, or has taken all handlers away) is
        not asked: it would die of the signal.
        """
        self.forget()
        if proc.dies_of(self.pid or 0, LOOK):
            return False
        self._looked_at, self._ran = time.monotonic(), proc.seconds_run(self.pid or 0)
        return self.signal(LOOK)

    def where(self, ask: Callable[[], bool]) -> RawStack:
        """The stack now, as far as it is told in time; `ask` is called if nobody has asked before."""
        with self.lock:
            if self._looked_at or ask():
                self._await(max(0.001, self._looked_at + _PATIENCE - time.monotonic()))
                if is_in_c(self.pid or 0, self._ran):
                    self._look_from_outside()
            self._looked_at = 0.0
            return self.stack() or ()

    def has_state(self, *states: str) -> bool:
        """Whether the system says one of these of it."""
        return proc.state_of(self.pid or 0) in states

    def _await(self, seconds: float) -> None:
        until = time.monotonic() + seconds
        while self.stack() is None and self.stacks >= 0 and (left := until - time.monotonic()) > 0:
            is_readable(self.stacks, left)

    def _look_from_outside(self) -> None:
        """Have C write the stack of one that does not answer, and is to live.

        It is stopped for that. The first thing that Python code does after a signal is to say that it runs; where that has
        not been said, the process is inside C, and is so still when it goes on. With several threads it isn't known
        which one would be met.
        """
        if self.stack() is not None or proc.has_threads(self.pid or 0) or not self.signal(signal.SIGSTOP):
            return
        try:
            until = time.monotonic() + _PATIENCE
            while (state := proc.state_of(self.pid or 0)) != "T" and state and time.monotonic() < until:
                time.sleep(0.0005)
            if state == "T" and self.stack() is None and not self.text and not proc.dies_of(self.pid or 0, DUMP):
                self.signal(DUMP)
        finally:
            self.signal(signal.SIGCONT)
        self._await(_PATIENCE)

    def has_stack(self) -> bool:
        """Whether a whole stack has come from it; without the time that reading it takes."""
        with self.lock:
            self._take()
            return "end\n" in self.text or self._outermost.search(self.text.partition(_BY_C)[2]) is not None

    def stack(self) -> RawStack | None:
        """The last whole stack that has come from it; empty where only C code runs, ``None`` when none has come."""
        with self.lock:
            self._take()
            if self._is_new and self.has_stack():  # it comes in many small parts
                self._stacked, self._is_new = last_stack(self.text, self._outermost), False
            return self._stacked

    def _take(self) -> None:
        text = b""
        with contextlib.suppress(OSError):
            while chunk := os.read(self.stacks, 1 << 16):
                text += chunk
        if text:
            self.text += text.decode(errors="replace")
            self._is_new = True

    def forget(self) -> None:
        """What has come is of no use any more."""
        with self.lock:
            self._take()
            self.text, self._stacked, self._is_new = "", None, False
