"""Killing a tree of processes for sure.

The caller is a child subreaper, so what loses its parent becomes a child of the caller. Its own children can't be
mistaken: their numbers are not given to others before it has reaped them. Deeper descendants are only reached to be
quicker, through a pidfd whose parent is looked at after it was opened. So every round kills what is there, reaps, and
begins again with what came to light; when the system says that there are no children, nothing is left.
"""

import ctypes
import os
import signal
import sys
import time
from collections.abc import Callable

__all__ = [
    "Reaper",
    "descendants",
    "die_with_parent",
    "group_of",
    "kill_all",
    "name_process",
    "seconds_run",
    "subreaper",
]

_PR_SET_PDEATHSIG = 1
_PR_SET_NAME = 15
_PR_SET_CHILD_SUBREAPER = 36
_prctl = ctypes.CDLL(None, use_errno=True).prctl


def subreaper() -> None:
    """From now on the orphans among the descendants of this process become its children."""
    if _prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0):
        raise OSError(ctypes.get_errno(), "prctl(PR_SET_CHILD_SUBREAPER)")


def die_with_parent(parent: int) -> None:
    """Die when the thread that forked this process dies; called in the child, right after the fork."""
    _prctl(_PR_SET_PDEATHSIG, int(signal.SIGKILL), 0, 0, 0)
    if os.getppid() != parent:
        os._exit(1)


def name_process(name: str) -> None:
    """What lists of processes show (15 characters)."""
    _prctl(_PR_SET_NAME, name.encode(), 0, 0, 0)


class Reaper:
    """Collects the children that have ended, and the status of the one that matters."""

    def __init__(self, leader: int = 0) -> None:
        self.leader = leader
        self.status: int | None = None
        """Exit status of the leader, minus the number of a signal; ``None`` while it runs."""

    def reap(self) -> bool:
        """Collect whoever has ended; ``False`` when there are no children any more."""
        while True:
            try:
                pid, status = os.waitpid(-1, os.WNOHANG)
            except ChildProcessError:
                return False
            if not pid:
                return True
            if pid == self.leader:
                self.status = os.waitstatus_to_exitcode(status)


def _children(pid: int) -> list[int]:
    found: list[int] = []
    try:
        for thread in os.listdir(f"/proc/{pid}/task"):
            with open(f"/proc/{pid}/task/{thread}/children", "rb", buffering=0) as file:
                while chunk := file.read(1 << 16):
                    found.extend(map(int, chunk.split()))
    except (OSError, ValueError):  # it has ended meanwhile
        pass
    return found


def _children_slowly(pid: int) -> list[int]:
    """For kernels without lists of children."""
    return [int(name) for name in os.listdir("/proc") if name.isdigit() and _stat(int(name))[1] == pid]


if not os.path.exists(f"/proc/{os.getpid()}/task/{os.getpid()}/children"):
    _children = _children_slowly


def _stat(pid: int) -> tuple[str, int, int]:
    """State, parent and process group; zeros when it is gone."""
    try:
        with open(f"/proc/{pid}/stat", "rb", buffering=0) as file:
            fields = file.read(4096).rpartition(b")")[2].split()
        return fields[0].decode(), int(fields[1]), int(fields[2])
    except (OSError, IndexError, ValueError):
        return "", 0, 0


def seconds_run(pid: int) -> float:
    """The processor time that the first thread of a process has used; 0 where the system does not tell."""
    try:
        with open(f"/proc/{pid}/schedstat", "rb", buffering=0) as file:
            return int(file.read(64).split()[0]) / 1e9
    except (OSError, IndexError, ValueError):
        return 0.0


def group_of(pid: int) -> int:
    """The process group of a process that lives, else 0."""
    state, _, group = _stat(pid)
    return 0 if state in ("", "Z", "X") else group


def descendants(root: int) -> list[tuple[int, int]]:
    """Every descendant with its parent, those nearest to `root` first."""
    found: list[tuple[int, int]] = []
    queue = [root]
    seen = {root}
    for parent in queue:
        for pid in _children(parent):
            if pid not in seen:
                seen.add(pid)
                queue.append(pid)
                found.append((pid, parent))
    return found


def _kill(pid: int, parent: int, me: int) -> None:
    if parent == me:
        os.kill(pid, signal.SIGKILL)
        return
    try:
        handle = os.pidfd_open(pid)
    except OSError:
        return
    try:
        if _stat(pid)[1] in (parent, me):
            signal.pidfd_send_signal(handle, signal.SIGKILL)
    finally:
        os.close(handle)


def kill_all(reaper: Reaper, pause: Callable[[float], None], within: float) -> tuple[str, ...]:
    """Kill and reap every descendant of this process.

    Args:
        reaper: collects them.
        pause: waits until a child has ended, or that many seconds.
        within: when to give up, in seconds.

    Returns:
        Those that are left, with why.
    """
    me = os.getpid()
    until = time.monotonic() + within
    denied: set[int] = set()
    while reaper.reap():
        for pid, parent in descendants(me):
            try:
                _kill(pid, parent, me)
            except PermissionError:
                denied.add(pid)
            except ProcessLookupError:
                pass
        if not reaper.reap():
            break
        if time.monotonic() >= until:
            return tuple(_survivor(pid, pid in denied) for pid, _ in descendants(me))
        pause(0.005)
    return ()


def _survivor(pid: int, denied: bool) -> str:
    try:
        with open(f"/proc/{pid}/comm", "rb", buffering=0) as file:
            name = file.read(64).decode(errors="replace").strip()
        user = os.stat(f"/proc/{pid}").st_uid
    except OSError:
        name, user = "?", -1
    if denied:
        return f"process {pid} ({name}): not ours to kill, it runs as user {user}"
    state = _stat(pid)[0]
    why = "it waits inside the kernel (state D)" if state == "D" else f"still ending (state {state or '?'})"
    return f"process {pid} ({name}): {why}"


if sys.platform != "linux":  # pragma: no cover
    raise ImportError("calloff's processes and commands need Linux (child subreapers and pidfds)")
