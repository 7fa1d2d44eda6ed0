"""How `calloff timeout` starts its program, and keeps it and what descends from it together, also when it is killed itself.

The kernel hands the orphans of a process to the nearest *child subreaper* above it, so that "no child is left" says that
the whole tree is gone. What is listed of the tree is only used to know whom to signal next.

One that is to end the whole tree after us must be an ancestor of the program, too: a fork of ours starts the program, tells
how that ended, and does nothing else, unless we die. It is in a process group of its own, where nothing reaches it that is
meant for the program. Should it be killed, the program becomes our child, as we are a subreaper ourselves: that with the
first number after the fork's, also when it was not told yet. Without any child nothing was started, and another fork can
do it.
"""

import os

from .._os import proc
from .._os.reaper import Reaper, be_told_of_parent, kill_all, name_process, subreaper

TYPE_CHECKING = False
if TYPE_CHECKING:
    import signal as _signal
    from collections.abc import Collection
    from typing import NoReturn
else:
    import _signal

__all__ = ["Heir", "become_reaper", "descendants", "found", "in_our_group", "kill", "undo_coercion"]

#: what Python, or we, ignore, and the program is not to
_RESTORED = tuple(
    int(getattr(_signal, name)) for name in ("SIGPIPE", "SIGXFSZ", "SIGTTIN", "SIGTTOU") if hasattr(_signal, name)
)
#: the error (ECHILD, which no start of a program has) for forks that were killed before they could tell
_LOST, _KILLED = 10, "its parent was killed"
#: the numbers of processes are given out in turn, and from the beginning again below this one at the latest
_NUMBERS = 1 << 22
#: how many forks are tried
_TRIES = 3
_WAKES = tuple(int(getattr(_signal, name)) for name in ("SIGCHLD", "SIGTERM") if hasattr(_signal, name))


class Heir:
    """The fork, as we see it.

    Args:
        command: the program and its arguments.
        mask: the signals that are blocked for the program.

    Raises:
        OSError: the program can't be started.
    """

    def __init__(self, command: "list[str]", mask: "Collection[int]") -> None:
        self._rest: list[bytes] = []
        #: the process of the program
        self.program: int = 0
        for _ in range(_TRIES):
            self._start(command, mask)
            if self._rest or self.program:
                break
        if len(self._rest) < 2 and not self.program:
            number = int(self._rest[0]) if self._rest else _LOST
            raise OSError(number, _KILLED if number == _LOST else os.strerror(number))
        if not self.program:
            self.program = int(self._rest[0])
            del self._rest[:2]

    def _start(self, command: "list[str]", mask: "Collection[int]") -> None:
        """Fork, and hear what became of the program."""
        self._told, tell = os.pipe()
        parent, group = os.getpid(), os.getpgrp()
        #: its own process
        self.pid: int = os.fork()
        if not self.pid:
            _watch(command, mask, parent, group, tell)
        os.close(tell)
        os.set_blocking(self._told, False)
        self._ended = False
        while not self._hears() and not self._ended:
            _signal.sigtimedwait(_WAKES[:1], 1.0)
            self._look_after()
        if self._rest:
            return
        while not self._ended:  # it is on its way out
            _signal.sigtimedwait(_WAKES[:1], 1.0)
            self._look_after()
        if _has_no_children():
            os.close(self._told)
        elif proc.believed():
            ours = (pid for pid, above in proc.descendants(parent) if above == parent)  # in any order
            self.program = min(ours, key=lambda pid: (pid - self.pid) % _NUMBERS)
        else:
            kill_all(Reaper(self.pid), _pause, 1.0)
            raise OSError(_LOST, _KILLED)

    def _hears(self) -> bool:
        """Read what it has told; whether that is all of its first word, or no more will come."""
        try:
            data = os.read(self._told, 64)
        except BlockingIOError:
            return False
        self._rest += data.split()
        return True

    def _look_after(self) -> None:
        """Have it go on when it was stopped, and see whether it has ended."""
        pid, status = os.waitpid(self.pid, os.WNOHANG | os.WUNTRACED)
        if pid and os.WIFSTOPPED(status):
            os.kill(pid, _signal.SIGCONT)
        elif pid:
            self._ended = True
            self._hears()

    def status(self) -> "int | None":
        """How the program ended, as `waitpid` tells it; ``None`` as long as that is not known."""
        self._hears()
        return int(self._rest[0]) if self._rest else None


def _has_no_children() -> bool:
    try:
        os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT)
    except ChildProcessError:
        return True
    return False


def _watch(command: "list[str]", mask: "Collection[int]", parent: int, group: int, tell: int) -> "NoReturn":
    """In the fork: start the program, tell its number and its status, and end with the last that descends from it."""
    try:
        os.setpgid(0, 0)
        _signal.pthread_sigmask(_signal.SIG_SETMASK, _signal.valid_signals())
        subreaper()
        be_told_of_parent(_WAKES[1])
        if os.getppid() == parent:
            try:
                program = _spawn(command, mask, group)
            except OSError as error:
                os.write(tell, b"%d" % (error.errno or 1))
                os._exit(0)
            _say(tell, b"%d up " % program, parent)
            _bury(program, parent, tell)
    finally:
        os._exit(0)


def _say(tell: int, words: bytes, parent: int) -> None:
    """Tell the one that was started, and wake it; when it has died meanwhile, the signal for that is on its way."""
    try:
        os.write(tell, words)
        os.kill(parent, _signal.SIGCHLD)
    except OSError:
        pass


def _spawn(command: "list[str]", mask: "Collection[int]", group: int) -> int:
    settings: dict[str, object] = {"setpgroup": group, "setsigmask": mask, "setsigdef": _RESTORED}
    if not command[0]:
        raise FileNotFoundError(2, os.strerror(2))
    try:
        return os.posix_spawnp(command[0], command, os.environ, **settings)  # type: ignore[arg-type]  # mypy: one type for all
    except OSError as error:
        if error.errno != 8:  # ENOEXEC: a script without a first line that says by what; a shell runs it
            raise
    return os.posix_spawn("/bin/sh", ["/bin/sh", found(command[0]), *command[1:]], os.environ, **settings)  # type: ignore[arg-type]  # as above


def found(program: str) -> str:
    """The path of a program, looked for on PATH."""
    if "/" in program:
        return program
    paths = (os.path.join(folder, program) for folder in os.get_exec_path())
    return next((path for path in paths if os.access(path, os.X_OK)), program)


def _bury(program: int, parent: int, tell: int) -> None:
    for file in range(3):  # a pipe that the program closes is to have an end
        if file != tell:
            try:
                os.close(file)
            except OSError:
                pass
    name_process("calloff-timeout")
    while True:
        _signal.sigwait(_WAKES)
        if os.getppid() != parent:
            kill_all(Reaper(program), _pause, float("inf"), 1.0)
            return
        while True:
            try:
                pid, status = os.waitpid(-1, os.WNOHANG)
            except ChildProcessError:
                return
            if not pid:
                break
            if pid == program:
                _say(tell, b"%d" % status, parent)


def _pause(seconds: float) -> None:
    _signal.sigtimedwait(_WAKES, seconds)


def undo_coercion() -> None:
    """Python may have put LC_CTYPE into the environment (PEP 538); the program gets the one that we were given."""
    if os.environ.get("LC_CTYPE") in ("C.UTF-8", "C.utf8", "UTF-8"):
        try:
            with open("/proc/self/environ", "rb") as file:
                given = file.read()
        except OSError:
            return
        if b"\0LC_CTYPE=" not in b"\0" + given:
            del os.environ["LC_CTYPE"]


def become_reaper() -> bool:
    """Have orphans of our descendants become our children; ``False`` where that can't be had.

    Nor is it done when we have children already (a shell that started some replaced itself by us): they are not ours to
    wait for, let alone to kill.
    """
    try:
        os.waitpid(-1, os.WNOHANG)
    except ChildProcessError:
        return subreaper()
    return False


def kill(pid: int, number: int) -> bool:
    """Send a signal; ``False`` when we are not allowed to."""
    try:
        os.kill(pid, number)
    except ProcessLookupError:
        pass
    except PermissionError:
        return False
    return True


def in_our_group(pid: int) -> bool:
    """Whether a process is in the process group of this one."""
    try:
        return os.getpgid(pid) == os.getpgrp()
    except ProcessLookupError:
        return True


def descendants(root: int, since: int) -> "list[int]":
    """The processes below `root` now, parents first; `since` is the first child that we had."""
    return [pid for pid, _ in proc.descendants(root, since)]
