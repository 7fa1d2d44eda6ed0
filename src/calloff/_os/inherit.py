"""What a child takes over from the process that starts it, whoever forks it: as with `subprocess`.

Two halves. *Credentials* (users, groups, capabilities, what the kernel was told to refuse, namespaces, control group)
can't be given to another process: they are compared, and where they differ the child has to descend from somebody else.
*Settings* (umask, limits, niceness, processors, signals) are plain values: `standing` reads them at the start, and
`take_over` sets in the child what is different there.
"""

import os
import sys
from functools import cache, partial

from . import proc

TYPE_CHECKING = False
if TYPE_CHECKING:
    import signal as _signal
    from collections.abc import Callable
    from typing import Any
else:
    import _signal

__all__ = [
    "Credentials",
    "Settings",
    "assume",
    "capabilities",
    "credentials",
    "dispositions",
    "here",
    "imposed",
    "is_like",
    "limits",
    "may_set_limits",
    "resource",
    "standing",
    "take_over",
    "users",
    "watcher",
]

Credentials = tuple["Any", ...]
Settings = dict[str, "Any"]

#: what Python ignores and a program expects not to be
_PYTHONS = tuple(int(getattr(_signal, name)) for name in ("SIGPIPE", "SIGXFSZ", "SIGXFZ") if hasattr(_signal, name))


def _status() -> bytes:
    """What the kernel tells about this thread; nothing without a `/proc` of ours."""
    return proc.read("/proc/thread-self/status") if proc.believed() else b""


def _field(status: bytes, name: bytes) -> bytes:
    """One line of that, without its name; empty where the kernel does not have it."""
    at = status.find(b"\n" + name + b":\t")
    return b"" if at < 0 else status[at + len(name) + 3 : status.index(b"\n", at + 1)]


def users() -> "Credentials":
    """Those credentials that change in practice, and can be read in a microsecond: users, groups, capabilities."""
    if not hasattr(os, "getresuid"):
        return (os.getuid(), os.geteuid(), os.getgid(), os.getegid(), os.getgroups())
    return (os.getresuid(), os.getresgid(), os.getgroups(), capabilities())


def standing() -> "tuple[Credentials, Settings]":
    """All that can't be given to a child of another process, and what can, of the calling thread now."""
    status = _status()
    return _credentials(status), _settings(status)


def credentials() -> "Credentials":
    """All that can't be given to a child of another process, of the calling thread now."""
    return _credentials(_status())


def _credentials(status: bytes) -> "Credentials":
    at = status.find(b"\nCapInh:")
    told = status[at : max(at, status.find(b"\nCpus_allowed:", at))]  # capabilities, NoNewPrivs, Seccomp
    places = (_identity("/"), *map(_space, _SPACES)) if status else (_identity("/"),)
    group = proc.read("/proc/thread-self/cgroup") if status else b""
    return (users(), told, places, group)


_SPACES = ("/proc/thread-self/ns/mnt", "/proc/thread-self/ns/net")


def _space(path: str) -> str:
    """By what name the system knows a namespace; reading that takes half of what looking at the file takes."""
    try:
        return os.readlink(path)
    except OSError:
        return ""


def _identity(path: str) -> "tuple[int, int]":
    try:
        found = os.stat(path)
    except OSError:
        return (0, 0)
    return (found.st_dev, found.st_ino)


def capabilities() -> bytes:
    """The capabilities of this thread, in 2 microseconds; empty where the system has none or can't tell."""
    ask, found = _capget()
    return bytes(found.raw) if ask() == 0 else b""


@cache
def _capget() -> "tuple[Callable[[], int], Any]":
    """The call of the system, which gives 0 unless it fails, and where it leaves the answer."""
    if sys.platform == "linux":
        try:
            import ctypes

            call = ctypes.PyDLL(None).capget  # one that does not let go of the lock of Python for so short a time
            header, found = (ctypes.c_uint32 * 2)(0x20080522, 0), (ctypes.c_char * 24)()
            return partial(call, ctypes.byref(header), ctypes.byref(found)), found
        except (ImportError, AttributeError, OSError):
            pass
    return _fails, None


def _fails() -> int:
    return -1


def _settings(status: bytes) -> "Settings":
    """What a child of the calling thread would have, as plain values."""
    found: Settings = {
        "umask": int(_field(status, b"Umask") or b"-1", 8),
        "ignored": _ignored(status),
        "blocked": _bits(_field(status, b"SigBlk")) if status else sorted(_blocked()),
        "nice": os.getpriority(os.PRIO_PROCESS, 0),
        "limits": limits(),
        "here": here(),
    }
    if found["umask"] < 0:
        found["umask"] = _umask()
    if hasattr(os, "sched_getaffinity"):
        found["cpus"] = sorted(os.sched_getaffinity(0))
    if hasattr(os, "sched_getscheduler"):
        found["scheduler"] = (os.sched_getscheduler(0), os.sched_getparam(0).sched_priority)
    return found


def watcher(umask: "int | None" = None, *, powers: bool = False) -> "Callable[[], bool]":
    """What tells, in 2 microseconds, whether this thread still has the users, groups, niceness and processors of now.

    A warm worker has what it was started under: this is asked before each job of it, and after. Limits, which take ten
    times as long, are not among it: see `may_set_limits`.

    Args:
        umask: what the umask is thought to be, if that is to be compared, too. It can only be read by being set; where it
            is that, nothing changes.
        powers: compare the capabilities, too.
    """
    if not _ALL_THERE:
        return _slow_watcher(umask)
    getresuid, getresgid, getgroups, getpriority = os.getresuid, os.getresgid, os.getgroups, os.getpriority
    getaffinity, set_umask, process = os.sched_getaffinity, os.umask, os.PRIO_PROCESS
    user, group, groups = getresuid(), getresgid(), getgroups()
    nice, cpus = getpriority(process, 0), getaffinity(0)
    ask, found = _capget()
    may = capabilities() if powers else b""
    has_powers = any(may)  # who has none gets none, unless by another program, or in a namespace of users

    def is_same() -> bool:
        if umask is not None and (was := set_umask(umask)) != umask:
            set_umask(was)
            return False
        return (
            getresuid() == user
            and getresgid() == group
            and getgroups() == groups
            and getpriority(process, 0) == nice
            and getaffinity(0) == cpus
            and (not has_powers or (ask() == 0 and found.raw == may))
        )

    return is_same


def _slow_watcher(umask: "int | None") -> "Callable[[], bool]":
    """The same, where the system tells less."""

    def marks() -> "tuple[Any, ...]":
        cpus = os.sched_getaffinity(0) if hasattr(os, "sched_getaffinity") else None
        return users(), os.getpriority(os.PRIO_PROCESS, 0), cpus

    was = marks()
    return lambda: marks() == was and (umask is None or _umask() == umask)


def imposed() -> "tuple[Any, ...]":
    """What another process can change here of that which children inherit: limits, niceness, processors, control group."""
    found: list[Any] = [limits(), os.getpriority(os.PRIO_PROCESS, 0)]
    if hasattr(os, "sched_getaffinity"):
        found.append(os.sched_getaffinity(0))
    if hasattr(os, "sched_getscheduler"):
        found += (os.sched_getscheduler(0), os.sched_getparam(0).sched_priority)
    if proc.believed():
        found.append(proc.read("/proc/self/cgroup"))
    return tuple(found)


_ALL_THERE = all(hasattr(os, name) for name in ("getresuid", "getresgid", "sched_getaffinity"))


def here() -> "tuple[int, int]":
    """Which directory this process is in."""
    return _identity(".")


def _umask() -> int:
    mask = os.umask(0o077)
    os.umask(mask)
    return mask


def _bits(mask: bytes) -> "list[int]":
    value = int(mask, 16)
    return [number for number in range(1, value.bit_length() + 1) if value >> (number - 1) & 1]


def _ignored(status: bytes) -> "list[int]":
    if status:
        ignored = _bits(_field(status, b"SigIgn"))
    else:
        ignored = [int(number) for number in _valid() if _signal.getsignal(number) == _signal.SIG_IGN]
    valid = _valid()  # glibc has two for itself
    return [number for number in ignored if number in valid and number not in _PYTHONS] if ignored else []


def _blocked() -> "set[int]":
    return {int(number) for number in _signal.pthread_sigmask(_signal.SIG_BLOCK, ())}


@cache
def _valid() -> "frozenset[int]":
    return frozenset(int(number) for number in _signal.valid_signals())


_LIMITS: "list[int]" = []
_loaded: "list[Any]" = []


def resource() -> "Any":
    """The module of that name, loaded for ourselves: `may_set_limits` tells whether anybody else has it."""
    if not _loaded:
        was_there = "resource" in sys.modules
        import resource as module

        if not was_there:
            sys.modules.pop("resource", None)
        _loaded.append(module)
    return _loaded[0]


def may_set_limits() -> bool:
    """Whether Python code other than ours can have changed a limit of this process: it must have imported `resource`.

    Limits can also be changed by C code, or by another process; those who call this look for that now and then.
    """
    return "resource" in sys.modules


def limits() -> "list[tuple[int, int]]":
    """All limits of this process."""
    module = resource()
    if not _LIMITS:
        names = [name for name in dir(module) if name.startswith("RLIMIT_") and name != "RLIMIT_OFILE"]
        _LIMITS.extend(sorted({int(getattr(module, name)) for name in names}))
    return list(map(module.getrlimit, _LIMITS))


# --- in the child


def dispositions(wanted: "Settings") -> None:
    """Set what each signal does, and which are blocked, as after a start by `subprocess`."""
    for number in _valid():
        if number not in (_signal.SIGKILL, _signal.SIGSTOP):
            _signal.signal(number, _signal.SIG_IGN if number in wanted["ignored"] else _signal.SIG_DFL)
    _signal.pthread_sigmask(_signal.SIG_SETMASK, wanted["blocked"])


def assume(wanted: "Credentials") -> bool:
    """Have the users and groups of a process that may do less; whether all credentials are those of that process then.

    The saved ones become the effective ones, as when a program is executed: there is no way back. Who could only have got
    capabilities back by a saved user of root has none then, as in a program.
    """
    sys.modules.setdefault("resource", resource())  # afterwards its file may be out of reach
    (real, effective, _), (real_group, effective_group, _), more, capabilities = wanted[0]
    os.setgroups(more)
    os.setresgid(real_group, effective_group, effective_group)
    os.setresuid(real, effective, effective)
    told = wanted[1]
    if real and effective:
        capabilities, told = _without_root(capabilities, told)
    users = (real, effective, effective), (real_group, effective_group, effective_group), more, capabilities
    return credentials() == (users, told, *wanted[2:])


def _without_root(capabilities: bytes, told: bytes) -> "tuple[bytes, bytes]":
    """What is left of capabilities, and of what `/proc` tells of them, when no user of a process is root any more."""
    words = [capabilities[at : at + 4] for at in range(0, len(capabilities), 4)]
    left = b"".join(word if number % 3 == 2 else bytes(4) for number, word in enumerate(words))  # what can be inherited
    lines = told.split(b"\n")
    for number, line in enumerate(lines):
        name, tab, value = line.partition(b"\t")
        if name in (b"CapPrm:", b"CapEff:", b"CapAmb:"):
            lines[number] = name + tab + b"0" * len(value)
    return left, b"\n".join(lines)


def take_over(wanted: "Settings", own: "Settings") -> None:
    """Become like the process whose settings these are.

    Args:
        wanted: the settings to have.
        own: those of this process now.

    Raises:
        OSError: this process may not.
    """
    os.umask(wanted["umask"])
    if "cpus" in wanted and wanted["cpus"] != own.get("cpus"):
        os.sched_setaffinity(0, wanted["cpus"])
    if "scheduler" in wanted and wanted["scheduler"] != own.get("scheduler"):
        policy, priority = wanted["scheduler"]
        os.sched_setscheduler(0, policy, os.sched_param(priority))
    if wanted["nice"] != own["nice"]:
        os.setpriority(os.PRIO_PROCESS, 0, wanted["nice"])
    if wanted["limits"] != own["limits"]:
        limits()
        for which, limit, before in zip(_LIMITS, wanted["limits"], own["limits"], strict=True):
            if limit != before:
                resource().setrlimit(which, limit)


def is_like(wanted: "Settings", own: "Settings") -> bool:
    """Whether a child of this process would have these settings, but for its umask and directory."""
    return all(wanted[name] == own.get(name) for name in wanted if name not in ("umask", "here", "blocked"))
