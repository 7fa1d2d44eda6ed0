"""What a whole program of the chaos test is started in: namespaces, limits, credentials that change, closed streams.

Each is a hardship that a program may meet, and every verdict has to be as true there as elsewhere. What can't be had at
all (a file, a process, memory) may be told as such, in the error of the system.
"""

import errno
import os
import resource
import shutil
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

__all__ = ["OUTSIDE", "SHORT", "begin", "can_be_had", "files_open", "is_short", "wrapped"]

#: a user that nobody else is
_SOMEBODY = 61234
_SHORT = {errno.EMFILE, errno.ENFILE, errno.EAGAIN, errno.ENOMEM, errno.EPERM}


def wrapped(kind: str, argv: Sequence[str]) -> list[str]:
    """The command line with which the program is started there."""
    unshare = shutil.which("unshare")
    if kind == "namespaces":
        if unshare is None:
            raise SystemExit("unshare is needed for PID namespaces")
        return [unshare, "--pid", "--mount", "--fork", "--kill-child", "--mount-proc", *argv]
    if (
        kind in ("users", "processes")
        and unshare is not None
        and (closed := _closed_to_others(os.__file__)) is not None
    ):
        # there, somebody else can read our interpreter, too
        script = (
            'open=$(mktemp -d); mount --bind "$1" "$open"; mount -t tmpfs -o mode=755 none "$0"; mkdir -p "$1"; '
            'mount --bind "$open" "$1"; shift; exec "$@"'
        )
        return [unshare, "--mount", "sh", "-c", script, closed, sys.base_prefix, *argv]
    return list(argv)


def can_be_had(kind: str) -> bool:
    """Whether a program can live there on this machine."""
    return kind not in ("users", "processes") or not os.geteuid()


def _closed_to_others(path: str) -> str | None:
    """The outermost folder on the way to a file that nobody but its owner may go through."""
    folders = [str(folder) for folder in reversed(Path(path).parents)]
    return next((folder for folder in folders if not os.stat(folder).st_mode & 0o001), None)


def begin(kind: str, folder: str) -> Callable[[int], None]:
    """Begin to live there, in the program itself; what is to be called before each operation, with its number.

    Args:
        kind: which of `OUTSIDE`.
        folder: where notes are written.
    """
    if kind in ("users", "processes"):
        os.chmod(folder, 0o777)
        os.chown(folder, _SOMEBODY, _SOMEBODY)
    return OUTSIDE[kind]()


def is_short(error: BaseException) -> bool:
    """Whether an error says that the system has no more of something, or does not grant it."""
    if isinstance(error, BaseExceptionGroup):
        return all(is_short(each) for each in error.exceptions)
    if any(words in str(error) for words in ("start new thread", "no thread could be started", "fork")):
        return True
    while error.__cause__ is not None and not isinstance(error, OSError):
        error = error.__cause__
    return isinstance(error, MemoryError) or (isinstance(error, OSError) and error.errno in _SHORT)


def _nothing(number: int) -> None:
    pass


def _plain() -> Callable[[int], None]:
    return _nothing


def _limits() -> Callable[[int], None]:
    """Few files, so that some starts find none left, and not much memory."""
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    with open("/proc/self/statm") as file:
        used = int(file.read().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (used + (512 << 20), resource.RLIM_INFINITY))

    def change(number: int) -> None:
        open_now = len(os.listdir("/proc/self/fd"))
        limit = open_now + number % 40 if number % 3 else before[0]
        resource.setrlimit(resource.RLIMIT_NOFILE, (limit, before[1]))

    return change


def _credentials() -> Callable[[int], None]:
    """Groups, umask and limits are others again and again, so that one keeper after the other is retired."""

    def change(number: int) -> None:
        os.umask(0o022 if number % 2 else 0o027)
        resource.setrlimit(resource.RLIMIT_CORE, (number % 5, resource.RLIM_INFINITY))
        if not os.geteuid():
            os.setgroups([65534] if number // 20 % 2 else [])

    return change


def _users() -> Callable[[int], None]:
    """Privileges are put down and taken up again, and in the last third put down for good."""

    def change(number: int) -> None:
        if os.getresuid()[2]:
            return
        os.seteuid(0)
        if number % 500 >= 350:
            os.setgroups([])
            os.setresgid(_SOMEBODY, _SOMEBODY, _SOMEBODY)
            os.setresuid(_SOMEBODY, _SOMEBODY, _SOMEBODY)
        elif number // 25 % 2:
            os.seteuid(_SOMEBODY)

    return change


def _processes() -> Callable[[int], None]:
    """Another user, who may have few processes, so that some starts find none left."""
    os.setgroups([])
    os.setresgid(_SOMEBODY, _SOMEBODY, _SOMEBODY)
    os.setresuid(_SOMEBODY, _SOMEBODY, _SOMEBODY)
    before = resource.getrlimit(resource.RLIMIT_NPROC)

    def change(number: int) -> None:
        limit = _threads_of(_SOMEBODY) + number % 40 if number % 3 else before[1]
        resource.setrlimit(resource.RLIMIT_NPROC, (limit, before[1]))

    return change


def _threads_of(user: int) -> int:
    count = 0
    for name in os.listdir("/proc"):
        try:
            if name.isdigit() and os.stat(f"/proc/{name}").st_uid == user:
                count += len(os.listdir(f"/proc/{name}/task"))
        except OSError:
            pass
    return count


def _closed() -> Callable[[int], None]:
    """No standard streams, as a daemon; the answer of the program goes to a copy."""
    answer = os.dup(1)
    for number in range(3):
        os.close(number)
    sys.stdin = sys.stderr = None
    sys.stdout = os.fdopen(answer, "w")
    return _nothing


OUTSIDE: dict[str, Callable[[], Callable[[int], None]]] = {
    "plain": _plain,
    "namespaces": _plain,
    "limits": _limits,
    "credentials": _credentials,
    "users": _users,
    "processes": _processes,
    "closed": _closed,
}


#: those in which the system has no more to give now and then
SHORT = {"limits", "processes"}


def files_open() -> set[tuple[str, str]]:
    """The numbers of files that this process has open now, with what they are."""
    found: set[Any] = set()
    for name in os.listdir("/proc/self/fd"):
        try:
            found.add((name, os.readlink(f"/proc/self/fd/{name}")))
        except OSError:  # that of the directory itself
            pass
    return found
