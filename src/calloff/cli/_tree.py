"""How `calloff timeout` starts its program, and keeps it and what descends from it together.

A *child subreaper* is handed every orphan among its descendants, so that "no child is left" says that the whole tree is
gone. What is listed of the tree is only used to know whom to signal next.
"""

import os

from .._os import proc
from .._os.reaper import be_told_of_parent, die_with_parent, name_process, subreaper

TYPE_CHECKING = False
if TYPE_CHECKING:
    import signal as _signal
    from collections.abc import Collection
    from typing import NoReturn
else:
    import _signal

__all__ = ["become_reaper", "descendants", "in_our_group", "kill", "spawn", "stand_in", "undo_coercion"]


def spawn(command: "list[str]", mask: "Collection[int]") -> int:
    """Start the program with the signal dispositions that we were started with; when we are killed it dies, too."""
    told, tell = os.pipe()
    parent = os.getpid()
    pid = os.fork()
    if not pid:
        _become(command, mask, parent, tell)
    os.close(tell)
    number = os.read(told, 16)  # the end, as soon as the program runs
    os.close(told)
    if number:
        os.waitpid(pid, 0)
        raise OSError(int(number), os.strerror(int(number)))
    return pid


def _become(command: "list[str]", mask: "Collection[int]", parent: int, tell: int) -> "NoReturn":
    try:
        die_with_parent(parent)
        for number in (_signal.SIGPIPE, _signal.SIGXFSZ, _signal.SIGTTIN, _signal.SIGTTOU):
            _signal.signal(number, _signal.SIG_DFL)
        _signal.pthread_sigmask(_signal.SIG_SETMASK, mask)
        try:
            os.execvp(command[0], command)
        except OSError as error:
            if error.errno != 8:  # ENOEXEC: a script without a first line that says by what; a shell runs it
                raise
        os.execv("/bin/sh", ["/bin/sh", _resolved(command[0]), *command[1:]])
    except OSError as error:
        os.write(tell, str(error.errno).encode())
    finally:
        os._exit(127)


def _resolved(program: str) -> str:
    if "/" in program:
        return program
    paths = (os.path.join(folder, program) for folder in os.get_exec_path())
    return next((path for path in paths if os.access(path, os.X_OK)), program)


def stand_in() -> "tuple[int, int]":
    """Fork a process that watches in place of this one, and lives on when this one is killed.

    Returns:
        In this one, the number of the other and 0; in the other, 0 and the number of this one, whose death it is told by
        SIGCHLD. Twice 0 where no process can be had: then this one has to do.
    """
    parent = os.getpid()
    try:
        pid = os.fork()
    except OSError:
        return 0, 0
    if pid:
        return pid, 0
    subreaper()
    name_process("calloff-guard")
    be_told_of_parent(int(_signal.SIGCHLD))
    return 0, parent


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
