"""An independent look at what really runs: `/proc`, and nothing of calloff."""

import ctypes
import fcntl
import os
import signal
import time
from pathlib import Path

import pytest

_libc = ctypes.CDLL(None, use_errno=True)
#: the number of this system call, the same on all machines
_PIDFD_GETFD = 438
_SEIZE, _GO_ON, _NUMBER, _DETACH, _TRACE_FORKS, _FORKED = 0x4206, 7, 0x4201, 17, 2, 1
#: wait for traced processes, too, which are not our children
_WALL = 0x40000000


def marked(marker):
    """The processes whose environment or command line holds the marker, zombies left out."""
    found = []
    wanted = marker.encode()
    for entry in os.listdir("/proc"):
        if entry.isdigit() and int(entry) != os.getpid():
            folder = Path("/proc") / entry
            try:
                text = (folder / "environ").read_bytes() + (folder / "cmdline").read_bytes()
                if wanted in text and state(int(entry)) not in ("", "Z", "X"):
                    found.append(int(entry))
            except OSError:
                continue
    return found


def state(pid):
    """One letter, empty when it is gone."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except OSError:
        return ""


def gone(pid):
    return state(pid) in ("", "Z", "X")


def until(condition, seconds=10.0):
    """Wait until the condition holds; whether it came to that."""
    end = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > end:
            return False
        time.sleep(0.005)
    return True


def wait_until_it_waits(pid):
    """Wait until the main thread of a process sleeps: then it has handled what has come to it.

    A signal that comes between the interpreter's last look for signals and a call of the system that waits is handled
    after that call, in any program of Python.
    """
    assert until(lambda: state(pid) in ("S", ""), 20), f"process {pid} never came to rest"


def owner(pid):
    """Whose keeper this process is, by the number that the keeper was told; 0 when it is none.

    It is no child of its owner. One that is forked by another keeper, for other credentials, is told the same.
    """
    try:
        words = Path(f"/proc/{pid}/cmdline").read_bytes().rstrip(b"\0").split(b"\0")
    except OSError:
        return 0
    at = next((at for at, word in enumerate(words) if word.endswith(b"calloff/_child")), None)
    if at is None or Path(f"/proc/{pid}/comm").read_text() != "calloff-keeper\n":
        return 0
    return int(words[at + 1])


def parent(pid):
    with open(f"/proc/{pid}/stat") as file:
        return int(file.read().rpartition(")")[2].split()[1])


def below(pid):
    """All descendants of a process, and of its keepers."""
    parents = {}
    for entry in os.listdir("/proc"):
        if entry.isdigit():
            try:
                fields = Path(f"/proc/{entry}/stat").read_text().rpartition(")")[2].split()
                parents[int(entry)] = owner(entry) or int(fields[1])
            except OSError:
                continue
    found = [pid]
    for one in found:
        found += [child for child, parent in parents.items() if parent == one and child not in found]
    return found[1:]


def stop_for_good(pid):
    """Stop a process and have nothing that comes for its sockets continue it, as the system does for helpers of ours."""
    _stop(pid)
    handle = os.pidfd_open(pid)
    try:
        for name in os.listdir(f"/proc/{pid}/fd"):
            if os.readlink(f"/proc/{pid}/fd/{name}").startswith("socket:"):
                file = _libc.syscall(_PIDFD_GETFD, handle, int(name), 0)  # the same open file, with the same flags
                if file < 0:
                    pytest.skip(f"the files of another process can't be had here: {os.strerror(ctypes.get_errno())}")
                fcntl.fcntl(file, fcntl.F_SETFL, fcntl.fcntl(file, fcntl.F_GETFL) & ~os.O_ASYNC)
                os.close(file)
    finally:
        os.close(handle)
    _stop(pid)  # something may have come before that


def _stop(pid):
    """Stop a process that what comes for its sockets may continue at once."""

    def is_stopped():
        os.kill(pid, signal.SIGSTOP)
        return state(pid) == "T"

    assert until(is_stopped)


class Forks:
    """Stops what a process forks next, before it has run a single instruction."""

    def __init__(self, pid):
        self._pid = pid

    def __enter__(self):
        self._trace(_SEIZE, self._pid, _TRACE_FORKS)
        return self

    def stop_next(self):
        """Its number; whoever has forked it stands still, too, until the block is left."""
        while (event := self._wait(self._pid) >> 8) != signal.SIGTRAP | _FORKED << 8:
            self._trace(_GO_ON, self._pid, event & 0xFF)  # a signal was on its way to it
        number = ctypes.c_ulong()
        self._trace(_NUMBER, self._pid, ctypes.addressof(number))
        child = number.value
        self._wait(child)
        os.kill(child, signal.SIGSTOP)
        self._trace(_DETACH, child)
        assert until(lambda: state(child) == "T")
        return child

    def __exit__(self, *_):
        if not gone(self._pid):
            self._trace(_DETACH, self._pid)
        else:
            self._wait(self._pid)

    def _wait(self, pid):
        found: list[int] = []
        assert until(lambda: any(found) or found.extend(os.waitpid(pid, _WALL | os.WNOHANG)) or any(found))  # type: ignore[func-returns-value]
        return found[-1]

    def _trace(self, what, pid, data=0):
        call = _libc.ptrace
        call.restype = ctypes.c_long
        call.argtypes = [ctypes.c_long, ctypes.c_long, ctypes.c_void_p, ctypes.c_void_p]
        if call(what, pid, None, data) and what == _SEIZE:
            pytest.skip(f"processes can't be traced here: {os.strerror(ctypes.get_errno())}")
