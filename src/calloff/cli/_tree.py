"""The processes below this one, and the few system calls that keep them together.

A *child subreaper* is handed every orphan among its descendants, so that "no child is left" says that the whole tree is
gone. What `/proc` lists is only used to know whom to signal next.
"""

import os
import sys

TYPE_CHECKING = False
if TYPE_CHECKING:
    import signal as _signal
    from collections.abc import Collection
    from typing import Any
else:
    import _signal

__all__ = [
    "become_reaper",
    "descendants",
    "in_our_group",
    "kill",
    "name_of",
    "no_core_file",
    "spawn",
    "undo_coercion",
]


def spawn(command: "list[str]", mask: "Collection[int]") -> int:
    """Start the program with the signal dispositions that we were started with."""
    restored = (_signal.SIGPIPE, _signal.SIGXFSZ, _signal.SIGTTIN, _signal.SIGTTOU)
    settings: Any = {"setsigmask": mask, "setsigdef": restored}
    try:
        return os.posix_spawnp(command[0], command, os.environ, **settings)
    except OSError as error:
        if error.errno != 8:  # ENOEXEC: a script without a first line that says by what; a shell runs it
            raise
    return os.posix_spawn("/bin/sh", ["/bin/sh", _resolved(command[0]), *command[1:]], os.environ, **settings)


def _resolved(program: str) -> str:
    if "/" in program:
        return program
    paths = (os.path.join(folder, program) for folder in os.get_exec_path())
    return next((path for path in paths if os.access(path, os.X_OK)), program)


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
        return _prctl(_PR_SET_CHILD_SUBREAPER, 1)
    return False


def no_core_file() -> None:
    """Let this process end by any signal without leaving its memory on the disk."""
    _prctl(_PR_SET_DUMPABLE, 0)


_PR_SET_DUMPABLE, _PR_SET_CHILD_SUBREAPER = 4, 36


def _prctl(option: int, value: int) -> bool:
    """The system call; whether it worked."""
    if sys.platform != "linux":
        return False
    try:
        import _ctypes  # the half of ctypes that is C: five times faster to load

        libc: Any = _ctypes
        address = libc.dlsym(libc.dlopen(None, 0), "prctl")
        done: int = libc.call_function(address, (option, value, 0, 0, 0))
    except (ImportError, AttributeError, OSError):
        try:
            import ctypes

            done = ctypes.CDLL(None).prctl(option, value, 0, 0, 0)
        except (ImportError, AttributeError, OSError):
            return False
    return done == 0


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


def descendants(root: int) -> "list[int]":
    """The processes below this one now, parents first."""
    if not os.path.exists(f"/proc/self/task/{os.getpid()}/children"):
        return _by_scan(root)
    found: list[int] = []
    fresh = _children(root)
    while fresh:
        pid = fresh.pop(0)
        if pid not in found:
            found.append(pid)
            fresh += _children(pid)
    return found


def _children(pid: int) -> "list[int]":
    found: list[int] = []
    try:
        for task in os.listdir(f"/proc/{pid}/task"):
            with open(f"/proc/{pid}/task/{task}/children") as file:
                found += map(int, file.read().split())
    except OSError:  # it has ended meanwhile
        pass
    return found


def _by_scan(root: int) -> "list[int]":
    """The same from the list of all processes: for kernels that don't list children."""
    parents: dict[int, int] = {}
    for entry in os.listdir("/proc"):
        if entry.isdigit():
            try:
                with open(f"/proc/{entry}/stat") as file:
                    parents[int(entry)] = int(file.read().rpartition(")")[2].split()[1])
            except (OSError, ValueError):
                continue
    found = [root]
    for pid in found:
        found += [child for child, parent in parents.items() if parent == pid and child not in found]
    return found[1:]


def name_of(pid: int) -> str:
    """The name of a process."""
    try:
        with open(f"/proc/{pid}/comm") as file:
            return file.read().strip()
    except OSError:
        return "gone"
