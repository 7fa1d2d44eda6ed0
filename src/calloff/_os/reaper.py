"""Killing a tree of processes for sure.

The caller is a child subreaper, so what loses its parent becomes a child of the caller. Its own children can't be
mistaken: their numbers are not given to others before it has reaped them. Deeper descendants are only reached to be
quicker, through a pidfd whose parent is looked at after it was opened. So every round kills what is there, reaps, and
begins again with what came to light; when the system says that there are no children, nothing is left.
"""

import os
import sys
from functools import partial
from time import monotonic

from . import proc

TYPE_CHECKING = False
if TYPE_CHECKING:
    import signal as _signal
    from collections.abc import Callable
    from typing import Any
else:
    import _signal

__all__ = [
    "Reaper",
    "be_told_of_parent",
    "childless",
    "die_with_parent",
    "ended",
    "go_on_every",
    "go_on_without_parent",
    "is_childless",
    "kill_all",
    "kill_from_outside",
    "left_below",
    "name_process",
    "no_core_file",
    "stop_and_kill_below",
    "stop_with_parent",
    "strike",
    "subreaper",
    "told",
    "told_of",
]

#: how often nothing must be found until nothing is there
_SURE = 3
#: seconds for killing all of a tree that is not ours, and then for its root to be dead
_KILLING, _DYING = 0.7, 0.2
#: how many timers continue a process that is stopped
_TIMERS = 4
_CLOCK_MONOTONIC = 1
_PR_SET_PDEATHSIG, _PR_SET_DUMPABLE, _PR_SET_NAME, _PR_SET_CHILD_SUBREAPER = 1, 4, 15, 36


def _prctl(option: int, value: "int | bytes") -> bool:
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


_no_children: "list[Callable[[], int]]" = []


def is_childless() -> bool:
    """Whether this process surely has no children, in the time of one system call; ``False`` where that is not known."""
    return childless()() != 0


def childless() -> "Callable[[], int]":
    """What `is_childless` asks, for one who has no time for a call more: not zero where there surely are none."""
    return (_no_children or _find_waitid())[0]


def _find_waitid() -> "list[Callable[[], int]]":
    found: Callable[[], int] = bool
    if sys.platform == "linux":  # only there may the place of the answer be left out
        try:
            import ctypes

            all_of_them, number, options = map(ctypes.c_int.from_param, (0, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT))
            # by `os.waitid` that would be an error, which is slow to make
            found = partial(ctypes.PyDLL(None).waitid, all_of_them, number, None, options)
        except (ImportError, AttributeError, OSError):
            pass
    _no_children.append(found)
    return _no_children


def subreaper() -> bool:
    """From now on the orphans among the descendants of this process become its children; ``False`` where that is not."""
    return _prctl(_PR_SET_CHILD_SUBREAPER, 1)


def die_with_parent(parent: int) -> None:
    """Die when the thread that forked this process dies; called in the child, right after the fork."""
    _prctl(_PR_SET_PDEATHSIG, int(_signal.SIGKILL))
    if os.getppid() != parent:
        os._exit(1)


def stop_with_parent() -> None:
    """From now on be stopped, not killed, when the thread that forked this process dies.

    As a subreaper it keeps together what descends from it, until somebody kills all of that.
    """
    _prctl(_PR_SET_PDEATHSIG, int(_signal.SIGSTOP))


def go_on_without_parent() -> None:
    """Have a SIGCONT sent to this process when its parent dies: should it be stopped then, nobody else would."""
    _prctl(_PR_SET_PDEATHSIG, int(_signal.SIGCONT))


def go_on_every(seconds: float) -> None:
    """Have the system continue this process so often from now on, whoever stops it, and whenever; where it can do that.

    Timers of the kernel go on while the process does not. They are not passed on to forks and programs. One whose SIGCONT
    was not handled yet when the next SIGSTOP came is lost, so there are some.
    """
    if sys.platform != "linux" or sys.maxsize < 1 << 32:
        return
    try:
        import _ctypes
        from struct import pack

        libc: Any = _ctypes
        library = libc.dlopen(None, 0)
        create, begin = libc.dlsym(library, "timer_create"), libc.dlsym(library, "timer_settime")
        event = pack("Pii48x", 0, int(_signal.SIGCONT), 0)
        timers = _timers.setdefault(os.getpid(), [])
        while len(timers) < _TIMERS:
            timer = bytes(8)  # the call writes into it
            if libc.call_function(create, (_CLOCK_MONOTONIC, event, timer)):
                break
            timers.append(int.from_bytes(timer, sys.byteorder))
        for number, each in enumerate(timers, 1):
            times = [int(part) for after in (seconds, seconds * number / _TIMERS) for part in (after, after % 1 * 1e9)]
            libc.call_function(begin, (each, 0, pack("4l", *times), None))
    except (ImportError, AttributeError, OSError):
        pass


#: by process, since a fork has none of them
_timers: "dict[int, list[int]]" = {}


def be_told_of_parent(signum: int) -> None:
    """Have that signal sent to this process when its parent dies; whether it has died already, the caller looks up."""
    _prctl(_PR_SET_PDEATHSIG, signum)


def no_core_file() -> None:
    """Let this process end by any signal without leaving its memory on the disk."""
    _prctl(_PR_SET_DUMPABLE, 0)


def name_process(name: str) -> None:
    """What lists of processes show (15 characters)."""
    _prctl(_PR_SET_NAME, name.encode())


class Reaper:
    """Collects the children that have ended, and the status of the one that matters."""

    def __init__(self, leader: int = 0) -> None:
        self.leader = leader
        self.status: int | None = None
        """Exit status of the leader, minus the number of a signal; ``None`` while it runs."""
        self.was_stopped = False
        """Whether somebody has stopped the leader since this was set to false."""

    def reap(self) -> bool:
        """Collect whoever has ended; ``False`` when there are no children any more."""
        while True:
            try:
                pid, status = os.waitpid(-1, os.WNOHANG | os.WUNTRACED)
            except ChildProcessError:
                return False
            if not pid:
                return True
            if pid == self.leader and os.WIFSTOPPED(status):
                self.was_stopped = True
            elif pid == self.leader:
                self.status = os.waitstatus_to_exitcode(status)


def _kill(pid: int, parent: int, me: int) -> None:
    if parent == me:
        os.kill(pid, _signal.SIGKILL)
        return
    try:
        handle = os.pidfd_open(pid)
    except (OSError, AttributeError):  # its parent dies first, and then it is ours
        return
    try:
        if proc.parent_of(pid) in (parent, me):
            _signal.pidfd_send_signal(handle, _signal.SIGKILL)
    finally:
        os.close(handle)


def strike(since: int, spared: "set[int] | frozenset[int]" = frozenset()) -> "set[int]":
    """Send SIGKILL to every descendant of this process, `spared` children and all below them excepted, once.

    Returns:
        Those that are not ours to kill.
    """
    me = os.getpid()
    denied: set[int] = set()
    spared = set(spared)
    for pid, parent in proc.descendants(me, since):
        if pid in spared or parent in spared:
            spared.add(pid)
            continue
        try:
            _kill(pid, parent, me)
        except PermissionError:
            denied.add(pid)
        except OSError:
            pass
    return denied


def kill_all(
    reaper: Reaper, pause: "Callable[[float], None]", within: float, longest: float = 0.005
) -> "tuple[str, ...]":
    """Kill and reap every descendant of this process.

    Args:
        reaper: collects them.
        pause: waits until a child has ended, or that many seconds.
        within: when to give up, in seconds.
        longest: how long a pause becomes at most, in seconds.

    Returns:
        Those that are left, with why.
    """
    until = monotonic() + within
    wait = 0.005
    while reaper.reap():
        denied = strike(reaper.leader)
        if not reaper.reap():
            break
        if monotonic() >= until:
            return told_of(os.getpid(), reaper.leader, denied)
        pause(wait)
        wait = min(2 * wait, longest)
    return ()


def told_of(root: int, since: int = 0, denied: "set[int] | frozenset[int]" = frozenset()) -> "tuple[str, ...]":
    """Who is left below `root`, with why."""
    found = tuple(told(pid, pid in denied) for pid, _ in proc.descendants(root, since))
    return found or ("a process that can't be found",)


def left_below(root: int) -> "tuple[str, ...]":
    """Who lives below a process that is not this one, with why; empty where none can be found."""
    return tuple(
        told(pid, _is_denied(pid)) for pid, _ in proc.descendants(root) if proc.state_of(pid) not in ("Z", "X")
    )


def _is_denied(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except OSError as error:
        return isinstance(error, PermissionError)
    return False


def told(pid: int, denied: bool) -> str:
    """A process that is left, in words, with why."""
    name = proc.name_of(pid) or "?"
    if denied:
        try:
            user = f", it runs as user {os.stat(f'/proc/{pid}').st_uid}"
        except OSError:
            user = ""
        return f"process {pid} ({name}): not ours to kill{user}"
    state = proc.state_of(pid)
    why = "it waits inside the kernel (state D)" if state == "D" else f"still ending (state {state or '?'})"
    return f"process {pid} ({name}): {why}"


def kill_from_outside(root: int) -> bool:
    """End what can be found of a process and its descendants, which are not ours, in most of a second at most.

    A worker was stopped by that, and is a subreaper: as long as it is there, all that descends from it is below it.

    Returns:
        Whether it was there until nothing was below it any more.
    """
    all_found = False
    import contextlib

    from . import fds

    with contextlib.suppress(OSError, AttributeError), fds.Files() as files:
        handle = files.add(os.pidfd_open(root))
        with contextlib.suppress(OSError):
            os.kill(root, _signal.SIGSTOP)  # the system continues one that is stopped and loses its last parent
        nothing_below = _kill_below(root, lambda seconds: fds.is_readable(handle, seconds))
        all_found = nothing_below and proc.state_of(root) not in ("Z", "X", "")
        for kill in (os.kill, os.killpg):
            with contextlib.suppress(OSError):
                kill(root, _signal.SIGKILL)
        fds.is_readable(handle, _DYING)
    return all_found


def stop_and_kill_below(root: int, pause: "Callable[[float], object]") -> None:
    """Stop a child that is a subreaper, and kill all below it: whoever does that may be killed meanwhile."""
    try:
        os.kill(root, _signal.SIGSTOP)
    except OSError:
        return
    _kill_below(root, pause)


def _kill_below(root: int, pause: "Callable[[float], object]") -> bool:
    """Whether nothing is left there."""
    until = monotonic() + _KILLING
    empty = 0  # the system may leave one out while another one ends: it is asked again
    while empty < _SURE and monotonic() < until:
        below = [pid for pid, _ in proc.descendants(root) if proc.state_of(pid) not in ("Z", "X", "")]
        empty = 0 if below else empty + 1
        for pid in below:
            try:
                os.kill(pid, _signal.SIGKILL)
            except OSError:
                pass
        pause(0.002)
    return empty >= _SURE


def ended(code: int) -> str:
    """How a process has ended, by its exit status, or minus the number of a signal."""
    if code >= 0:
        return f"exited with status {code}"
    from signal import Signals as names

    try:
        return f"was killed by {names(-code).name}"
    except ValueError:
        return f"was killed by signal {-code}"
