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
from typing import Any

__all__ = ["OUTSIDE", "begin", "files_open", "is_short", "wrapped"]

_SHORT = {errno.EMFILE, errno.ENFILE, errno.EAGAIN, errno.ENOMEM, errno.EPERM}


def wrapped(kind: str, argv: Sequence[str]) -> list[str]:
    """The command line with which the program is started there."""
    if kind != "namespaces":
        return list(argv)
    unshare = shutil.which("unshare")
    if unshare is None:
        raise SystemExit("unshare is needed for PID namespaces")
    return [unshare, "--pid", "--mount", "--fork", "--kill-child", "--mount-proc", *argv]


def begin(kind: str) -> Callable[[int], None]:
    """Begin to live there, in the program itself; what is to be called before each operation, with its number."""
    return OUTSIDE[kind]()


def is_short(error: BaseException) -> bool:
    """Whether an error says that the system has no more of something, or does not grant it."""
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
    resource.setrlimit(resource.RLIMIT_AS, (4 << 30, 4 << 30))

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


def _closed() -> Callable[[int], None]:
    """No standard streams, as a daemon; the answer of the program goes to a copy."""
    answer = os.dup(1)
    for number in range(3):
        os.close(number)
    sys.stdin = sys.stderr = None  # type: ignore[assignment]
    sys.stdout = os.fdopen(answer, "w")
    return _nothing


OUTSIDE: dict[str, Callable[[], Callable[[int], None]]] = {
    "plain": _plain,
    "namespaces": _plain,
    "limits": _limits,
    "credentials": _credentials,
    "closed": _closed,
}


def files_open() -> set[tuple[str, str]]:
    """The numbers of files that this process has open now, with what they are."""
    found: set[Any] = set()
    for name in os.listdir("/proc/self/fd"):
        try:
            found.add((name, os.readlink(f"/proc/self/fd/{name}")))
        except OSError:  # that of the directory itself
            pass
    return found
