"""The owner's end of the wire to the keeper: how that is started, and what is said when it can't live.

The keeper is started by exec at first use (a millisecond) and forks everything from then on; see `calloff._child`. It
serves all event loops of the process, and as long as the process keeps its credentials: what it forks inherits them
from it. Nothing here waits: sockets do not block, what does not fit at once is sent when there is room.
"""

import array
import contextlib
import errno
import os
import signal
import socket
import sys
import threading
from asyncio import AbstractEventLoop
from collections import deque
from contextvars import Context
from time import monotonic

from .. import _child, freezing
from .._child.wire import Letters, letter
from .._os import fds, inherit, proc
from .._os.fds import Files, is_readable
from .._words.errors import CalloffError

__all__ = ["QUIET", "Keeper", "refuse"]

#: no signal for a socket that nobody reads any more
QUIET = int(getattr(socket, "MSG_NOSIGNAL", 0))
#: seconds between the last file that a process closes and its end, at most
_MOMENT = 0.05
#: characters of what a keeper wrote that are shown
_WORDS = 400


def refuse() -> None:
    """`CalloffError`, in one sentence, where no process can be started for calloff's sake."""
    if not hasattr(os, "fork") or not hasattr(socket, "AF_UNIX"):
        raise CalloffError(
            f"calloff runs functions in processes and commands on POSIX systems only, and this is {sys.platform}: "
            "coroutines and threads work here"
        )
    if freezing.MARK in os.environ:
        freezing.stop("calloff.freezing.freeze_support() was not called before anything was started")
    if freezing.is_frozen() and not freezing.is_supported():
        raise CalloffError(
            "this program is packed into an executable of its own: for functions in processes and commands it has to call "
            "calloff.freezing.freeze_support() first thing in its main module"
        )
    if not sys.executable:
        raise CalloffError("sys.executable is not set: there is no Python to run workers and commands with")


class Keeper:
    """One process from which guards are forked.

    Args:
        loop: the running loop.
        credentials: those that this process has now, and so what is forked there.
        former: the one that was used under other credentials.
        foreground: whether it stays in the session of the terminal.

    Raises:
        CalloffError: this system, or this program, can't have one.
        OSError: no files or processes are left.
    """

    def __init__(
        self,
        loop: AbstractEventLoop,
        credentials: inherit.Credentials,
        former: "Keeper | None" = None,
        *,
        foreground: bool = False,
    ) -> None:
        refuse()
        self.credentials: inherit.Credentials = credentials
        self.foreground: bool = foreground
        #: its process, once it has said that it is up
        self.pid: int = 0
        #: the process group in which it and its guards are, once it is up
        self.group: int = 0
        #: it ended before that without having failed: somebody has killed it
        self.killed: bool = False
        #: how many guards may still want to be told something by it
        self.uses: int = 0
        self._lock = threading.Lock()
        self._backlog: deque[tuple[bytes, list[int]]] = deque()
        self._writers: set[AbstractEventLoop] = set()
        self._prepared = False
        self._letters = Letters()
        self._count = 0
        self._closing = False
        self._exit = self._last_words = ""
        with Files() as files:
            self._words, words = files.pipe()
            for file in (self._words, words):
                os.set_blocking(file, False)
            ours, theirs = fds.pair()
            try:
                #: what was started, and ends as soon as it has forked the keeper; 0 when it was reaped
                self._starter = 0
                if former is None or _may_execute():
                    self._starter = self.group = _spawn(theirs.fileno(), words, foreground)
                else:  # one that may do more than we has the interpreter loaded: it forks one that may do as much as we
                    self.group = former.group
                    with contextlib.suppress(OSError):  # the end of the socket tells
                        former.split(loop, credentials, [theirs.fileno(), words])
            except BaseException:
                ours.close()
                raise
            finally:
                theirs.close()
            os.close(words)
            files.give()
        ours.setblocking(False)
        self._socket = ours

    def prepare(self, loop: AbstractEventLoop) -> None:
        """Have it load what workers need; once."""
        if not self._prepared:
            self._prepared = True
            details = {"site": not sys.flags.no_site, "path": [str(entry) for entry in sys.path]}
            self._post(loop, letter("prepare", details), [])

    def fork(self, loop: AbstractEventLoop, kind: str, files: list[int]) -> int:
        """Have a guard forked, and send it copies of the files.

        Returns:
            The number by which the keeper knows it.

        Raises:
            OSError: the keeper is gone.
        """
        self._count += 1
        self._post(loop, letter(kind, self._count, len(files)), files)
        return self._count

    def tell(self, loop: AbstractEventLoop, number: int, file: int, leader: int) -> None:
        """Have it say, in the place of a guard that is gone, what became of the work, on a copy of this socket.

        Raises:
            OSError: the keeper is gone, too.
        """
        self._post(loop, letter("tell", number, 1, leader), [file])

    def split(self, loop: AbstractEventLoop, credentials: inherit.Credentials, files: list[int]) -> None:
        """Have a keeper forked that has these credentials, with copies of a socket and of a pipe for its words."""
        self._post(loop, letter("split", 0, len(files), credentials), files)

    def hold(self, loop: AbstractEventLoop, file: int) -> int:
        """Have it keep a copy of the file open until we, and all that we have started, have ended; returned is its number.

        Raises:
            OSError: the keeper is gone.
        """
        self._count += 1
        self._post(loop, letter("hold", self._count, 1), [file])
        return self._count

    def lease(self, loop: AbstractEventLoop, file: int) -> None:
        """Every guard that is forked from now on kills its work when the lease in that file is over (`_child/lease.py`).

        Raises:
            OSError: the keeper is gone.
        """
        self._post(loop, letter("lease", 0, 1), [file])

    def drop(self, loop: AbstractEventLoop, number: int) -> None:
        """It may close that file."""
        self._post(loop, letter("drop", number, 0), [])

    # --- sending

    def _post(self, loop: AbstractEventLoop, data: bytes, files: list[int]) -> None:
        with self._lock:
            self._flush_locked(loop)
            if not self._backlog:
                data, files = self._send(data, files)
            if data:
                with Files() as copies:
                    for file in files:
                        copies.copy(file)
                    self._backlog.append((data, copies.numbers))
                    copies.give()
                self._listen_locked(loop)

    def _send(self, data: bytes, files: list[int]) -> tuple[bytes, list[int]]:
        """What could not be sent yet."""
        extra = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", files))] if files else []
        try:
            sent = self._socket.sendmsg([data], extra, QUIET)
        except (BlockingIOError, InterruptedError):
            return data, files
        return data[sent:], []

    def _flush(self, loop: AbstractEventLoop) -> None:
        with self._lock:
            self._writers.discard(loop)
            loop.remove_writer(self._socket.fileno())
            with contextlib.suppress(OSError):  # whoever waits for a guard sees its own socket end
                self._flush_locked(loop)
            if self._closing:
                self._let_go()

    def _flush_locked(self, loop: AbstractEventLoop) -> None:
        while self._backlog:
            data, files = self._backlog[0]
            try:
                rest = self._send(data, files)
            except OSError:
                self._drop()
                raise
            if len(rest[0]) < len(data):  # the files go with the first byte
                for file in files:
                    os.close(file)
            if rest[0]:
                self._backlog[0] = rest
                self._listen_locked(loop)
                return
            self._backlog.popleft()

    def _listen_locked(self, loop: AbstractEventLoop) -> None:
        """Every loop that has something to send goes on when there is room: another one may be closed, or held up."""
        if loop not in self._writers:
            self._writers.add(loop)
            Context().run(loop.add_writer, self._socket.fileno(), self._flush, loop)

    def _drop(self) -> None:
        backlog, self._backlog = self._backlog, deque()
        for _, files in backlog:
            for file in files:
                os.close(file)

    # --- how it fares

    def look(self) -> bool:
        """Whether it is up, as far as it has said so; the process that started it is reaped by the way."""
        if not self.pid:
            with contextlib.suppress(OSError):
                for _, pid in self._letters.feed(self._socket.recv(4096)):
                    self.pid = pid
        if self._starter:
            with contextlib.suppress(ChildProcessError):
                pid, status = os.waitpid(self._starter, os.WNOHANG)
                if not pid:
                    return self.pid > 0
                code = os.waitstatus_to_exitcode(status)
                self.killed = code <= 0
                self._exit = f"it ended with status {code}" if code >= 0 else f"it was ended by signal {-code}"
            self._starter = 0
        return self.pid > 0

    def look_at_its_end(self) -> bool:
        """`look`, when its socket has come to the end: a process closes its files a moment before it can be reaped."""
        up = self.look()
        if self._starter and not up:
            with contextlib.suppress(OSError, AttributeError), Files() as files:
                is_readable(files.add(os.pidfd_open(self._starter)), _MOMENT)
            up = self.look()
        return up

    def go_on(self) -> str:
        """Continue it and its guards, should somebody have stopped them; returns its state, if the system tells that.

        So a guard is continued, too, whose number nobody has heard yet, and whose keeper was killed.
        """
        if self.look():
            self._continue()
        return proc.state_of(self.pid or self._starter)

    def _continue(self) -> None:
        for reach, number in ((os.kill, self.pid), (os.killpg, self.group)):
            with contextlib.suppress(OSError):
                if number:
                    reach(number, signal.SIGCONT)

    def kill(self) -> None:
        """It does not answer: the next start is for another one."""
        for pid in (self._starter, self.pid):
            if pid:
                with contextlib.suppress(OSError):
                    os.kill(pid, signal.SIGKILL)

    def words(self) -> str:
        """Why nothing could be started, for the error of each whose start it had: its end, and what it wrote."""
        up = self.look()
        said = self._last_words = self.said() or self._last_words
        if up:
            told = f"calloff's helper process {self.pid} was killed"
        else:
            told = f"calloff could not start its helper process with {sys.executable} (is that a Python?)"
        return ": ".join(part for part in (told, "" if up else self._exit, said) if part)

    def said(self) -> str:
        """The end of what it and its guards have written since this was asked last."""
        text = b""
        with contextlib.suppress(OSError):
            while chunk := os.read(self._words, 1 << 16):
                text += chunk
        said = " ".join(text.decode(errors="replace").split())
        return said if len(said) <= _WORDS else "… " + said[-_WORDS:]

    # --- its end

    def retire(self) -> None:
        """No more is started by it; it ends when all its guards have."""
        with self._lock:
            self._drop()
        with contextlib.suppress(OSError):
            self._socket.shutdown(socket.SHUT_WR)

    def close(self, wait: float) -> None:
        """Let it go, and wait for its end at most `wait` seconds."""
        self.retire()
        if self.look():
            until = monotonic() + wait
            while True:
                self._continue()  # somebody may have stopped it
                left = until - monotonic()
                if left <= 0:
                    break
                if is_readable(self._socket.fileno(), min(left, _MOMENT)):
                    with contextlib.suppress(OSError):
                        os.waitpid(self.pid, os.WNOHANG)  # where its end is ours to take note of
                    break
        self._let_go()

    def forget(self) -> None:
        """In a fork of the owner: close what is open for it, and touch nothing that the two still share."""
        self._lock = threading.Lock()
        self._writers.clear()
        self._drop()
        self._let_go()

    def _let_go(self) -> None:
        self._closing = True
        if not any(loop.is_running() for loop in self._writers):  # else they come here themselves
            self._socket.close()
        if self._words >= 0:
            os.close(self._words)
            self._words = -1


def _may_execute() -> bool:
    """Whether our interpreter, its library and calloff can be read by who we are now."""
    if freezing.is_frozen():
        return os.access(sys.executable, os.X_OK)
    where = ((sys.executable, os.X_OK), (os.__file__, os.R_OK), (__file__, os.R_OK))
    return all(os.access(path, mode, effective_ids=os.access in os.supports_effective_ids) for path, mode in where)


def _flags() -> list[str]:
    """Options with which workers have the interpreter that we have (``-O``, ``-W``, ``-X``), as `multiprocessing` does.

    Nothing of the user's is imported before a worker wants it: no site, no directory of the script.
    """
    from subprocess import _args_from_interpreter_flags  # type: ignore[attr-defined]  # the one that multiprocessing uses

    return ["-s", "-P", "-S", "-X", f"utf8={int(sys.flags.utf8_mode)}", *_args_from_interpreter_flags()]


def _environment() -> dict[str, str]:
    """Ours, without what would have another Python code run there; a worker gets the whole of it later."""
    return {name: value for name, value in os.environ.items() if not name.startswith("PYTHON") or name in _PYTHONS}


#: what can be said to an interpreter by its environment alone
_PYTHONS = {"PYTHONHASHSEED", "PYTHONHOME", "PYTHONMALLOC", "PYTHONPYCACHEPREFIX"}


def _spawn(control: int, output: int, foreground: bool) -> int:
    words = (
        freezing.arguments(os.getpid()) if freezing.is_frozen() else [*_flags(), _child.__path__[0], str(os.getpid())]
    )
    argv = [sys.executable, *words, *(["foreground"] if foreground else [])]
    actions = [(os.POSIX_SPAWN_DUP2, file, number) for number, file in enumerate((control, output, output))]
    try:
        return os.posix_spawn(
            sys.executable, argv, {**_environment(), freezing.MARK: str(os.getpid())}, file_actions=actions
        )
    except (FileNotFoundError, NotADirectoryError, PermissionError) as error:
        raise CalloffError(
            f"calloff could not start its helper process with {sys.executable}: {error.strerror}"
        ) from None
    except OSError as error:
        if error.errno != errno.ENOEXEC:
            raise
        raise CalloffError(f"calloff needs a Python to start its helper process with, not {sys.executable}") from None
