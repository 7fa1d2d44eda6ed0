"""One guard per worker and per command: it starts the work below it and sees to it that nothing of it survives.

It listens to its owner, to the owner's life and to its own children. The work and everything that descends from it is
killed when the owner says so, when the deadline that the owner left here has passed (whether or not the owner is able
to look at a clock), when the owner is gone, and when the work itself has ended. Only when all of it is dead and reaped
does the guard say ``ended``; that letter is the verdict.

Letters to the guard: ``start, details`` · ``ask, number, signal, reason`` · ``limit, number, at, deadline`` (when to
kill, and what the work is told; points on the monotonic clock, or None) · ``kill``. Letters from it: ``born, pid``
(with a pidfd of the work) · ``failed, errno, text`` · ``refused, number`` · ``ended, how``: a dictionary with the
`status`, the `cause` (`itself`, `kill`, `limit` or `never`), whether it was `asked`, the last job that a worker had
`begun`, the last one that had `refused`, and the `survivors`.
"""

import array
import os
import select
import signal
import time
from _socket import SCM_RIGHTS, SOL_SOCKET
from _socket import socket as Socket
from collections.abc import Callable
from math import inf
from typing import Any

from . import tree
from .page import Page
from .wire import DEAF, DUMP, Letters, letter

__all__ = ["Guard", "Launch", "wake_on_children"]

ITSELF, KILL, LIMIT, NEVER = "itself", "kill", "limit", "never"

#: seconds until a worker is asked again (its event loop may be blocked, a module be imported), and how many at most
#: after further times: as long as the asking has not arrived, and then
_AGAIN, _AGAIN_AT_MOST, _LOOK_AT_MOST = 0.025, 0.1, 0.8
#: seconds of trying to kill before the survivors are told
_PATIENCE = 0.7


def wake_on_children() -> tuple[int, int]:
    """A pipe whose first end becomes readable whenever a child has ended; the second is ours to close after a fork."""
    readable, writable = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
    signal.set_wakeup_fd(writable, warn_on_full_buffer=False)
    signal.signal(signal.SIGCHLD, lambda *_: None)
    return readable, writable


class Guard:
    """The life of a guard.

    Args:
        control: the socket to the owner.
        owner: a pidfd of the owner.
        launch: starts the work as a child and returns its number.
        grouped: whether an asking goes to the whole process group (a command) or to the work alone (a worker).
        files: the files of the work, in its order.
    """

    def __init__(self, control: Socket, owner: int, launch: "Launch", *, grouped: bool, files: list[int]) -> None:
        self.files = files
        self.page = Page()
        self._control = control
        self._owner = owner
        self._launch = launch
        self._grouped = grouped
        self._letters = Letters()
        self._mail: list[tuple[Any, ...]] = []
        self._woken, self._waker = wake_on_children()
        self._poll = select.poll()
        for file in (control.fileno(), owner, self._woken):
            self._poll.register(file, select.POLLIN)
        self._reaper = tree.Reaper()
        self._asked = False
        self._job = 0
        self._ran = 0.0
        self._signal = 0
        self._again: float | None = None
        self._pausing = _AGAIN
        self._limit: float | None = None
        self._limited = 0
        self._gone = False

    def run(self) -> None:
        """Start the work, watch over it, bury it, tell."""
        cause = self._begin() or self._read()
        while not cause:
            self._wait()
            if self._reaper.status is not None and self._settled():
                cause = ITSELF
            else:
                cause = self._read() or self._overdue()
        survivors = tree.kill_all(self._reaper, self._pause, _PATIENCE)
        how = {"status": self._reaper.status, "cause": cause, "asked": self._asked, "survivors": survivors}
        self._tell("ended", {**how, "begun": self.page.begun, "refused": self.page.refused})
        while survivors and self._reaper.reap():  # out of reach or still dying: stay, and catch what they leave behind
            survivors = tree.kill_all(self._reaper, self._pause, 10.0)

    # --- the beginning

    def _begin(self) -> str:
        details: dict[str, Any] | None = None
        while details is None:
            self._wait()
            for number, mail in enumerate(self._mail):
                if mail[0] == "start":
                    details = mail[1]
                    del self._mail[: number + 1]
                    break
            if self._gone:
                return NEVER
        if any(mail[0] in ("kill", "ask") for mail in self._mail) and self._grouped:
            return NEVER  # called off before it began
        try:
            pid = self._launch(self, details)
        except OSError as error:
            self._tell("failed", error.errno, error.strerror)
            return NEVER
        self._reaper.leader = pid
        for file in self.files:  # they are not the guard's: whoever reads a pipe is to see its end
            os.close(file)
        self._tell("born", pid, handle=os.pidfd_open(pid))
        return ""

    def let_go(self) -> None:
        """In a fork that becomes the work: nothing of the guard is to stay open there."""
        signal.set_wakeup_fd(-1)
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        for file in (self._control.detach(), self._owner, self._woken, self._waker):
            os.close(file)

    # --- watching

    def _wait(self) -> None:
        now = time.monotonic()
        due = min((at for at in (self._limit, self._again) if at is not None), default=None)
        wait = None if due is None else max(0.0, due - now) * 1000 + 1
        if self._reaper.leader and self._reaper.status is not None:
            wait = 20.0 if wait is None else min(wait, 20.0)  # others of its group clean up
        for file, _ in self._poll.poll(wait):
            if file == self._woken:
                self._drain()
                if self._reaper.leader:
                    self._reaper.reap()
            elif file == self._owner:
                self._gone = True
            else:
                self._receive()

    def _drain(self) -> None:
        try:
            while len(os.read(self._woken, 4096)) == 4096:
                pass
        except BlockingIOError:
            pass

    def _pause(self, seconds: float) -> None:
        """Wait until a child has ended."""
        if select.select([self._woken], [], [], seconds)[0]:
            self._drain()

    def _receive(self) -> None:
        try:
            data = self._control.recv(1 << 16)
        except (BlockingIOError, InterruptedError):
            return
        except OSError:
            data = b""
        if data:
            self._mail += self._letters.feed(data)
        else:
            self._gone = True

    def _read(self) -> str:
        """Carry out the letters; the cause when everything is to be killed."""
        mail, self._mail = self._mail, []
        for kind, *parts in mail:
            if kind == "kill":
                return KILL
            if kind == "limit":
                self._limited, self._limit, deadline = parts
                self.page.limit(self._limited, deadline)
            elif kind == "ask":
                self._ask(*parts)
        return KILL if self._gone else ""

    def _ask(self, number: int, signum: int, reason: tuple[Any, ...]) -> None:
        if self._reaper.status is not None:
            return  # it has ended: what is told must be that
        self._asked, self._job = True, number
        if not self._grouped:
            self.page.ask(number, reason)
            self._again = time.monotonic() + _AGAIN
            self._pausing = _AGAIN
            self._signal = signum
            self._ran = tree.seconds_run(self._reaper.leader)
            self._signal_work(signum)
            return
        try:
            os.killpg(self._reaper.leader, signum)
            os.killpg(self._reaper.leader, signal.SIGCONT)
        except OSError:  # not ours to signal (setuid): force may be, or the survivors are told
            pass

    def _signal_work(self, signum: int) -> None:
        try:
            os.kill(self._reaper.leader, signum)
        except OSError:
            pass

    def _ask_again(self, now: float) -> None:
        """Until it has arrived; from then on, less and less often, to see whether the function went on."""
        self._again = None
        page = self.page
        if page.refused == self._job:
            self._tell("refused", self._job)
        elif self._reaper.status is None and page.done < self._job:
            self._signal_work(self._signal)
            if page.noted != self._job and tree.seconds_run(self._reaper.leader) - self._ran > DEAF:
                self._signal_work(DUMP)  # no Python code runs, which would have noted it: C tells where it is, once
                self._ran = inf
            self._pausing = min(2 * self._pausing, _LOOK_AT_MOST if page.heard == self._job else _AGAIN_AT_MOST)
            self._again = now + self._pausing

    def _overdue(self) -> str:
        now = time.monotonic()
        if self._again is not None and self._again <= now:
            self._ask_again(now)
        if self._limit is not None and self._limit <= now:
            self._limit = None
            if self._grouped or self.page.done < self._limited:
                return LIMIT
        return ""

    def _settled(self) -> bool:
        """The work has ended; once it was asked, the rest of its group has the same grace to clean up."""
        if not (self._grouped and self._asked):
            return True
        leader = self._reaper.leader
        return not any(tree.group_of(pid) == leader for pid, _ in tree.descendants(os.getpid()))

    # --- telling

    def _tell(self, *parts: Any, handle: int | None = None) -> None:
        extra = [] if handle is None else [(SOL_SOCKET, SCM_RIGHTS, array.array("i", [handle]))]
        try:
            self._control.setblocking(True)
            self._control.sendmsg([letter(*parts)], extra)
            self._control.setblocking(False)
        except OSError:  # nobody listens any more
            pass
        if handle is not None:
            os.close(handle)


Launch = Callable[[Guard, dict[str, Any]], int]
