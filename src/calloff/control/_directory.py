"""Where the sockets are: a directory that only its user can enter, with one socket for each process, ``PID.sock``.

Outside the first PID namespace the name is ``PID-NAMESPACE.sock``: containers that share the directory have equal numbers.

A server takes the first of these that it can make or use: ``XDG_RUNTIME_DIR/calloff``, ``/run/user/UID/calloff``,
``/tmp/calloff-UID``. Clients look in all of them, since a program that a service manager has started may not know
``XDG_RUNTIME_DIR`` while its user's shell does. With ``CALLOFF_SOCKETS`` set there is that one directory only.

Nothing is trusted for its name: a directory must be one (no link), belong to the user, and be closed to everybody else.
Kept free of imports, because ``calloff ps`` ends here when nothing runs.
"""

import os

__all__ = ["PRIVATE", "Unusable", "checked", "home", "is_foreign", "name_of", "places", "sockets"]

PRIVATE = 0o700
_SUFFIX = ".sock"
#: the number that the kernel gives to the first PID namespace
_FIRST = 0xEFFFFFFC


class Unusable(Exception):
    """A directory that can't be used; the text says why."""


def places() -> list[str]:
    """The directories that sockets may be in, the preferred one first; they need not exist.

    Raises:
        Unusable: this system has no users, or no sockets that have a name in a directory.
    """
    if not hasattr(os, "geteuid"):
        raise Unusable("programs are seen on POSIX systems only")
    only = os.environ.get("CALLOFF_SOCKETS")
    if only:
        return [os.path.abspath(only)]
    user = os.geteuid()
    given = os.environ.get("XDG_RUNTIME_DIR", "")
    runtime = [given] if os.path.isabs(given) else []
    found = [os.path.join(base, "calloff") for base in (*runtime, f"/run/user/{user}")]
    return list(dict.fromkeys([*found, f"/tmp/calloff-{user}"]))


def checked(path: str) -> str:
    """The directory, if it is one of ours.

    Raises:
        FileNotFoundError: it does not exist.
        Unusable: it is not safe to use.
    """
    found = os.lstat(path)
    if found.st_mode & 0o170000 != 0o040000:
        raise Unusable(f"{path} is not a directory")
    if found.st_uid != os.geteuid():
        raise Unusable(f"{path} belongs to another user")
    if found.st_mode & 0o077:
        raise Unusable(f"{path} is open to other users: chmod 700 {path}")
    return path


def home(only: str = "") -> str:
    """The directory for the socket of this process, made where it is missing.

    Args:
        only: the one to take; empty: the first that can be had.

    Raises:
        Unusable: there is none; the text tells of each that was tried.
    """
    problems: list[str] = []
    for path in [only] if only else places():
        try:
            try:
                os.mkdir(path, PRIVATE)
            except FileExistsError:
                pass
            return checked(path)
        except FileNotFoundError:
            problems.append(f"{os.path.dirname(path)} does not exist")
        except OSError as error:
            problems.append(f"{path}: {error.strerror}")
        except Unusable as problem:
            problems.append(str(problem))
    raise Unusable("; ".join(problems))


def name_of(pid: int) -> str:
    """The name of the socket of a process in our PID namespace."""
    try:
        space = os.stat("/proc/self/ns/pid").st_ino
    except OSError:  # no `/proc`, and so nobody to tell
        space = _FIRST
    return f"{pid}{_SUFFIX}" if space == _FIRST else f"{pid}-{space}{_SUFFIX}"


def is_foreign(pid: int, path: str) -> bool:
    """Whether a socket is that of a process in another PID namespace, whose number means nothing here."""
    return os.path.basename(path) != name_of(pid)


def sockets(directory: str | None = None) -> list[tuple[int, str]]:
    """The process and the path of each socket; some may be stale.

    Raises:
        Unusable: `directory` is not safe, or none of the usual ones is and one of them exists.
    """
    found: dict[str, tuple[int, str]] = {}
    problem: Unusable | None = None
    for path in places() if directory is None else [directory]:
        try:
            names = os.listdir(checked(path))
        except (FileNotFoundError, NotADirectoryError, PermissionError):
            continue
        except Unusable as unusable:
            problem = unusable
            continue
        for name in names:
            pid, hyphen, space = name.removesuffix(_SUFFIX).partition("-")
            if name.endswith(_SUFFIX) and _is_number(pid) and (not hyphen or _is_number(space)):
                found.setdefault(name, (int(pid), os.path.join(path, name)))
    if problem is not None and not found and (directory is not None or "CALLOFF_SOCKETS" in os.environ):
        raise problem
    return sorted(found.values())


def _is_number(text: str) -> bool:
    return text.isascii() and text.isdigit()
