"""What the system tells about processes, and which processes descend from which.

`/proc` is only believed when it is that of our own PID namespace: another one's numbers mean other processes here.
Where there is none, the processes below can't be listed; but a process can find its own children by asking the kernel
about each number that was given out since the first of them began (`own_children`).
"""

import os
import sys

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = [
    "began",
    "believed",
    "catches",
    "descendants",
    "dies_of",
    "group_of",
    "has_children",
    "has_threads",
    "is_pending",
    "lives",
    "name_of",
    "own_children",
    "parent_of",
    "read",
    "running_children",
    "seconds_run",
    "sleep_of",
    "state_of",
    "waits_in",
]

#: what was found out: by this process, whether `/proc` is its own; and whether that lists children
_found: "dict[int | str, bool]" = {}


def believed() -> bool:
    """Whether there is a `/proc`, and it is that of the PID namespace of this process."""
    me = os.getpid()
    if me not in _found:
        try:
            _found[me] = sys.platform != "win32" and os.readlink("/proc/self") == str(me)
        except OSError:
            _found[me] = False
    return _found[me]


def read(path: str, size: int = 4096) -> bytes:
    """The beginning of a file of `/proc`; empty when the process has ended."""
    try:
        file = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return b""
    try:
        return os.read(file, size)
    except OSError:
        return b""
    finally:
        os.close(file)


def _stat(pid: int) -> "tuple[str, int, int]":
    """State, parent and process group; nothing when it is gone."""
    fields = read(f"/proc/{pid}/stat").rpartition(b")")[2].split() if believed() else ()
    return (fields[0].decode(), int(fields[1]), int(fields[2])) if len(fields) > 2 else ("", 0, 0)


def state_of(pid: int) -> str:
    """The letter that the system has for what a process does: ``R`` runs, ``S`` waits, ``T`` is stopped; or nothing."""
    return _stat(pid)[0]


def parent_of(pid: int) -> int:
    """The number of its parent, or 0."""
    return _stat(pid)[1]


def group_of(pid: int) -> int:
    """The process group of a process that lives, else 0."""
    state, _, group = _stat(pid)
    return 0 if state in ("", "Z", "X") else group


def name_of(pid: int) -> str:
    """The name of a process."""
    return read(f"/proc/{pid}/comm", 64).decode(errors="replace").strip() if believed() else ""


def catches(pid: int, signum: int) -> bool:
    """Whether a process has a handler for a signal; no, where the system does not tell."""
    return bool(_is_among(pid, signum, b"SigCgt:"))


def ignores(pid: int, signum: int) -> bool:
    """Whether a process ignores a signal; no, where the system does not tell."""
    return bool(_is_among(pid, signum, b"SigIgn:"))


def dies_of(pid: int, signum: int) -> bool:
    """Whether a signal that by default ends a process would do that, now or later; no, where the system does not tell."""
    return _is_among(pid, signum, b"SigIgn:", b"SigCgt:") is False


def is_pending(pid: int, signum: int) -> bool:
    """Whether a signal was sent to a process that has not had its turn since; no, where the system does not tell."""
    return bool(_is_among(pid, signum, b"ShdPnd:"))


def _is_among(pid: int, signum: int, *fields: bytes) -> bool | None:
    """Whether a signal is in one of these sets that a process has; ``None`` where the system does not tell."""
    status = read(f"/proc/{pid}/status") if believed() else b""
    sets = [status.partition(field)[2].split(None, 1) for field in fields]
    return any(int(found[0], 16) >> (signum - 1) & 1 for found in sets) if all(sets) else None


def has_threads(pid: int) -> bool:
    """Whether a process has more than one thread, or the system does not tell."""
    fields = read(f"/proc/{pid}/stat").rpartition(b")")[2].split() if believed() else []
    return len(fields) < 18 or int(fields[17]) > 1


def began(pid: int) -> float:
    """When a process began, in seconds since the system did; 0 where the system does not tell."""
    fields = read(f"/proc/{pid}/stat").rpartition(b")")[2].split() if believed() else []
    return int(fields[19]) / os.sysconf("SC_CLK_TCK") if len(fields) > 19 else 0.0


def lives(pid: int, since: float) -> bool:
    """Whether the process of that number which began then, as `began` tells it, has not ended, nor all of its threads."""
    if began(pid) != since:
        return False
    state = state_of(pid)
    return state not in ("X", "") and (state != "Z" or has_threads(pid))


def seconds_run(pid: int) -> float:
    """The processor time that the first thread of a process has used; 0 where the system does not tell."""
    fields = read(f"/proc/{pid}/schedstat", 64).split() if believed() else ()
    return int(fields[0]) / 1e9 if fields else 0.0


def sleep_of(thread: int) -> int:
    """Which sleep of its life a thread of this process is in: 0 while it is awake, -1 where the system does not tell."""
    status = read(f"/proc/self/task/{thread}/status") if believed() else b""
    _, _, state = status.partition(b"\nState:")
    _, _, count = status.partition(b"\nvoluntary_ctxt_switches:")
    if not state or not count:
        return -1
    return int(count.split(None, 1)[0]) + 1 if state.lstrip()[:1] in (b"S", b"D") else 0


def waits_in(thread: int) -> str:
    """In which function of the system a thread of this process sleeps; empty where the system does not tell."""
    name = read(f"/proc/self/task/{thread}/wchan").decode() if believed() else ""
    return "" if name == "0" else name


# --- trees


def descendants(root: int, since: int = 0) -> "list[tuple[int, int]]":
    """Every descendant with its parent, those nearest to `root` first.

    Args:
        root: the process to begin at.
        since: the first child that this process had: where `/proc` can't be believed, the children of this process that
            are no older are found without it.
    """
    if not believed():
        if sys.platform != "linux":
            return _below(root, _by_ps())
        return [(pid, root) for pid in own_children(since)] if since and root == os.getpid() else []
    if not _lists_children():
        return _below(root, _by_scan())
    found: list[tuple[int, int]] = []
    queue, seen = [root], {root}
    for parent in queue:
        for pid in _children(parent):
            if pid not in seen:
                seen.add(pid)
                queue.append(pid)
                found.append((pid, parent))
    return found


def has_children(pid: int) -> bool:
    """Whether a process has any child, dead ones included, or the system does not tell."""
    if not believed() or not _lists_children():
        return True
    try:
        threads = os.listdir(f"/proc/{pid}/task")
    except OSError:
        return True
    if any(read(f"/proc/{pid}/task/{thread}/children", 1) for thread in threads):
        return True
    return state_of(pid) in ("Z", "X", "")  # the children of one that is dead have another parent by now


def running_children(pid: int) -> "list[tuple[int, str]]":
    """The children of a process that have not ended, with their names."""
    found = [child for child, parent in descendants(pid) if parent == pid]
    return [(child, name_of(child)) for child in found if state_of(child) not in ("", "Z", "X")]


def _lists_children() -> bool:
    if "children" not in _found:
        _found["children"] = os.path.exists("/proc/thread-self/children")
    return _found["children"]


def _children(pid: int) -> "list[int]":
    found: list[int] = []
    try:
        for thread in os.listdir(f"/proc/{pid}/task"):
            with open(f"/proc/{pid}/task/{thread}/children", "rb", buffering=0) as file:
                while chunk := file.read(1 << 16):
                    found.extend(map(int, chunk.split()))
    except (OSError, ValueError):  # it has ended meanwhile
        pass
    return found


def _by_scan() -> "Iterator[tuple[int, int]]":
    """Every process with its parent, for kernels that do not list children."""
    return ((int(name), _stat(int(name))[1]) for name in os.listdir("/proc") if name.isdigit())


def _by_ps() -> "Iterator[tuple[int, int]]":
    """The same where there is no `/proc` at all."""
    import subprocess

    try:
        lines = subprocess.run(["ps", "-A", "-o", "pid=,ppid="], capture_output=True, check=False).stdout.splitlines()
    except OSError:
        return iter(())
    return ((int(pid), int(parent)) for pid, parent in (line.split() for line in lines))


def _below(root: int, pairs: "Iterator[tuple[int, int]]") -> "list[tuple[int, int]]":
    below: dict[int, list[int]] = {}
    for pid, parent in pairs:
        below.setdefault(parent, []).append(pid)
    found: list[tuple[int, int]] = []
    queue = [root]
    for parent in queue:
        for pid in below.pop(parent, ()):
            queue.append(pid)
            found.append((pid, parent))
    return found


def own_children(since: int) -> "list[int]":
    """The children of this process that live, found without `/proc`, from `since`, the first one that it had.

    A fork tells which number is given out next; the kernel answers for each number before it whether that is a child.
    """
    newest = os.fork()
    if not newest:
        os._exit(0)
    os.waitpid(newest, 0)
    numbers = range(since, newest) if newest > since else (*range(since, 1 << 22), *range(2, newest))
    return [pid for pid in numbers if _is_own(pid)]


def _is_own(pid: int) -> bool:
    try:
        return os.waitid(os.P_PID, pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is None
    except OSError:
        return False
