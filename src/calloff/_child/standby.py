"""Guards of commands that wait for the next one, so that the cost of a fork is not had for each command.

A guard whose command has ended, with nothing left below it, tells its keeper so on a line of their own; the next command
goes to it, if it comes at once. Each command still has a guard of its own while it runs, and a control socket of its own:
its owner sees no difference. A guard is not used again when its keeper is gone, when its owner has hung up on it, and when
another process has changed what its children inherit. And it goes to none when the line ends: so all of them end with their
keeper, at once.
"""

import _socket
import array
import contextlib
import os
import select
from _socket import AF_UNIX, CMSG_SPACE, SCM_RIGHTS, SOCK_STREAM, SOL_SOCKET, socketpair
from _socket import socket as Socket
from collections.abc import Callable
from time import monotonic

from .._os import fds, inherit
from .guard import QUIET, Guard
from .page import Page

__all__ = ["Line", "Standby", "take_turns"]

#: seconds for which a guard waits for another command
_IDLE = 0.05
#: how many guards have a line at most; and no more than that share of the files that a keeper may have open
_MOST, _SHARE = 64, 8
_CLOEXEC = int(getattr(_socket, "MSG_CMSG_CLOEXEC", 0))


class Line:
    """The keeper's end of a line to one guard."""

    __slots__ = ("page", "pid", "since", "socket", "theirs")

    def __init__(self) -> None:
        self.socket, self.theirs = socketpair(AF_UNIX, SOCK_STREAM)
        #: the process of the guard, once that was forked
        self.pid = 0
        #: what the two share, while the guard waits
        self.page: Page | None = None
        #: since when it waits
        self.since = 0.0

    def close(self) -> None:
        """Hang up: the guard ends, after its command if there is one."""
        self.socket.close()
        self.theirs.close()


class Standby:
    """What a keeper knows of its guards of commands.

    Args:
        poll: where the keeper waits.
    """

    def __init__(self, poll: "select.poll") -> None:
        self._poll = poll
        self._lines: dict[int, Line] = {}
        self._idle: list[Line] = []
        may_open = int(inherit.resource().getrlimit(inherit.resource().RLIMIT_NOFILE)[0])
        self._most = _MOST if may_open < 0 else min(_MOST, may_open // _SHARE)

    def __contains__(self, file: int) -> bool:
        return file in self._lines

    def open(self) -> Line | None:
        """A line to the guard that is forked next; ``None`` where there are enough."""
        if len(self._lines) >= self._most:
            return None
        try:
            return Line()
        except OSError:
            return None

    def add(self, line: Line, pid: int) -> None:
        """That guard was forked."""
        line.theirs.close()
        line.pid = pid
        self._lines[line.socket.fileno()] = line
        self._poll.register(line.socket.fileno(), select.POLLIN)

    def hear(self, file: int) -> Line | None:
        """The line whose guard wants another command; ``None``: that guard has ended."""
        line = self._lines[file]
        if _received(line.socket):
            return line
        self._drop(line)
        return None

    def wait(self, line: Line, page: Page) -> None:
        """Its guard waits from now on."""
        line.since, line.page = monotonic(), page
        self._idle.append(line)

    def give(self, files: list[int]) -> Line | None:
        """Send a command's files to a guard that waits; ``None`` where none does."""
        while self._idle:
            line = self._idle.pop()
            assert line.page is not None
            line.page.clear()
            fds.signal_input_to(files[0], line.pid)
            try:
                line.socket.sendmsg([b"\0"], [(SOL_SOCKET, SCM_RIGHTS, array.array("i", files))], QUIET)
            except OSError:  # it was killed
                self._drop(line)
            else:
                return line
        return None

    def left(self) -> float | None:
        """Seconds until the first one has waited for long enough; ``None`` where none waits."""
        return max(0.0, self._idle[0].since + _IDLE - monotonic()) if self._idle else None

    def dismiss(self) -> None:
        """Let go of those that have waited for long enough."""
        while self._idle and self._idle[0].since + _IDLE <= monotonic():
            self._drop(self._idle[0])

    def close(self) -> None:
        """Use none of them again."""
        for line in tuple(self._lines.values()):
            self._drop(line)

    def forget(self) -> None:
        """In a fork: close what is the keeper's."""
        for line in self._lines.values():
            line.close()

    def _drop(self, line: Line) -> None:
        self._poll.unregister(line.socket.fileno())
        del self._lines[line.socket.fileno()]
        with contextlib.suppress(ValueError):
            self._idle.remove(line)
        line.close()


def take_turns(line: Line, files: list[int], guard: Callable[[list[int]], Guard]) -> None:
    """In a guard's process: guard one command after another, until there is none for it any more.

    Args:
        line: to the keeper.
        files: the control socket of the first one, and its files.
        guard: makes the guard of one.
    """
    line.socket.close()
    here, born = _here(), inherit.imposed()
    fds.go_on_with(line.theirs.fileno())  # should it be stopped while it waits
    while files:
        mine = guard(files)
        if not mine.run() or here is None or inherit.imposed() != born:
            break
        mine.close()
        try:
            os.fchdir(here)
            line.theirs.sendmsg([b"\0"], [], QUIET)
        except OSError:
            break
        files = _received(line.theirs)


def _here() -> int | None:
    """The directory of this process; ``None`` where that can't be opened."""
    try:
        return os.open(".", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    except OSError:
        return None


def _received(line: Socket) -> list[int]:
    """The files that come next; a list with -1 for a message without any, an empty one for the end."""
    try:
        data, extras, _, _ = line.recvmsg(1, CMSG_SPACE(32 * 4), _CLOEXEC)
    except OSError:
        return []
    numbers = array.array("i", [-1] if data else [])
    for level, kind, sent in extras:
        if level == SOL_SOCKET and kind == SCM_RIGHTS:
            numbers = array.array("i")
            numbers.frombytes(sent)
    return numbers.tolist()
