"""Who is at the other end of a socket, by the kernel's word; and what `/proc` says of a process."""

import os
import socket
import struct
from functools import cached_property
from typing import NamedTuple

__all__ = ["Peer", "command_of", "started_at"]

_CREDENTIALS = struct.Struct("3i")
_SCRIPT = f"{os.sep}calloff{os.sep}_child{os.sep}script.py"
_TICKS = os.sysconf("SC_CLK_TCK") if hasattr(os, "sysconf") else 100


class _Who(NamedTuple):
    pid: int
    user: int


class Peer(_Who):
    """The process at the other end, and its user, as of when it connected."""

    @classmethod
    def of(cls, connected: socket.socket) -> "Peer":
        """The peer of a connected Unix socket."""
        raw = connected.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _CREDENTIALS.size)
        pid, user, _ = _CREDENTIALS.unpack(raw)
        return cls(pid, user)

    @cached_property
    def words(self) -> str:
        """For a reason's `by`: ``ada (pid 4711, calloff cancel)``."""
        try:
            import pwd  # POSIX only

            name = pwd.getpwuid(self.user).pw_name
        except (ImportError, KeyError):
            name = f"user {self.user}"
        what = _short(command_of(self.pid))
        return f"{name} (pid {self.pid}, {what})" if what else f"{name} (pid {self.pid})"


def command_of(pid: int) -> tuple[str, ...]:
    """The command line of a process; empty when it is gone."""
    try:
        with open(f"/proc/{pid}/cmdline", "rb") as file:
            raw = file.read(1 << 16)
    except OSError:
        return ()
    return _as_typed(tuple(word.decode(errors="replace") for word in raw.rstrip(b"\0").split(b"\0"))) if raw else ()


def _as_typed(argv: tuple[str, ...]) -> tuple[str, ...]:
    """Without what ``calloff run script.py`` puts before the words of the script (`calloff._child.script`)."""
    at = next((at for at, word in enumerate(argv) if word.endswith(_SCRIPT)), None)
    if at is None or len(argv) < at + 6:
        return argv
    kind, *words = argv[at + 4 :]
    return ("python", *(["-m"] if kind == "module" else []), *words)


def started_at(pid: int) -> float:
    """When a process was started, in Unix seconds; 0 when that is not known."""
    try:
        with open(f"/proc/{pid}/stat", "rb") as file:
            ticks = int(file.read().rpartition(b")")[2].split()[19])
        with open("/proc/stat", "rb") as file:
            boot = next(int(line.split()[1]) for line in file if line.startswith(b"btime"))
    except (OSError, ValueError, IndexError, StopIteration):
        return 0.0
    return boot + ticks / _TICKS


def _short(argv: tuple[str, ...]) -> str:
    """The program and, of ours, the verb: ``calloff cancel``."""
    words = list(argv)
    if words and os.path.basename(words[0]).startswith("python"):
        words.pop(0)
        while words and words[0].startswith("-") and words[0] not in ("-m", "-c"):
            words.pop(0)
        if words and words[0] == "-c":
            return "python"
        if words and words[0] == "-m":
            words.pop(0)
    if not words:
        return "python" if argv else ""
    name = os.path.basename(words[0])
    if name == "__main__.py":
        name = os.path.basename(os.path.dirname(words[0]))
    if name == "calloff" and len(words) > 1:
        name += f" {words[1]}"
    return name[:60]
