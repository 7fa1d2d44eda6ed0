"""Plain facts about workers: what one is told at its start, what its stack looks like as text, why it died."""

import os
import re
import sys
from functools import partial
from types import FunctionType
from typing import Any

from ..._os.reaper import ended

__all__ = [
    "OUTERMOST",
    "Stamp",
    "Surroundings",
    "details",
    "stamp_of",
    "why",
]

#: the name of a module, and when and how long its file was written
Stamp = tuple[str, int, int]

#: where a stack that C writes, innermost first, has shown all of a function: at what runs it, which is ours or the step of
#: an event loop, at what fetches it, at the outermost frame while a worker is set up, and where C shows no more
OUTERMOST = re.compile(
    r'calloff/_child/worker\.py", line \d+ in (?:_call|_run|_result|_work|serve)$|calloff/_child/batch\.py", line '
    r'|asyncio/events\.py", line \d+ in _run$|_child/__main__\.py|^  \.\.\.$',
    re.MULTILINE,
)


def why(status: int | None) -> str:
    """In words, how a worker died by itself."""
    return "the worker process " + ("died" if status is None else ended(status))


class Surroundings:
    """What a worker was told of environment, directory, search path and arguments here, and what has changed since."""

    __slots__ = ("_argv", "_cwd", "_env", "_path")

    def __init__(self) -> None:
        self._note(_environment(), _cwd(), sys.path[:], _argv())

    def _note(self, env: dict[Any, Any], cwd: str, path: list[str], argv: list[str]) -> None:
        self._env, self._cwd, self._path, self._argv = dict(env), cwd, path, argv

    def all(self) -> dict[str, Any]:
        """Everything, for a worker that starts."""
        return {"env": dict(os.environ), "cwd": self._cwd, "path": _plain(self._path), "argv": _plain(self._argv)}

    def changes(self) -> dict[str, Any] | None:
        """What has changed since this was asked last; ``None`` for nothing."""
        try:  # each call here would cost as much as what it calls
            if (
                self._path == sys.path
                and self._argv == sys.argv
                and self._env == os.environ._data  # type: ignore[attr-defined]  # where there is none, see below
                and self._cwd == os.getcwd()
            ):
                return None
        except (AttributeError, OSError):
            pass
        return self._changes()

    def _changes(self) -> dict[str, Any] | None:
        env, cwd, path, argv = self._env, self._cwd, self._path, self._argv
        self._note(_environment(), _cwd(), sys.path[:], _argv())
        found: dict[str, Any] = {}
        if self._env != env:
            found["env"] = dict(os.environ)
        if self._cwd != cwd:
            found["cwd"] = self._cwd
        if self._path != path:
            found["path"] = _plain(self._path)
        if self._argv != argv:
            found["argv"] = _plain(self._argv)
        return found or None


_NO_ARGV = [""]


def _cwd() -> str:
    try:
        return os.getcwd()
    except OSError:  # it was removed; a program can be there all the same
        return f"/proc/{os.getpid()}/cwd"


def _environment() -> dict[Any, Any]:
    """The environment, not decoded where that can be had: it takes ten times as long."""
    found: dict[Any, Any] | None = getattr(os.environ, "_data", None)
    return dict(os.environ) if found is None else found


def _argv() -> list[str]:
    return list(getattr(sys, "argv", _NO_ARGV))


def _plain(values: list[str]) -> list[str]:
    """As they are sent: plain texts, whatever somebody has put on the search path."""
    return [str(entry) for entry in values]


def details(preload: tuple[str, ...]) -> dict[str, Any]:
    """What else a worker is told at its start: it is to be like us."""
    main = getattr(sys.modules.get("__main__"), "__file__", None)
    return {
        "encoding": getattr(sys.stdout, "encoding", None) or "utf-8",
        "preload": preload,
        "main": os.path.abspath(main) if isinstance(main, str) and main.endswith(".py") else None,
    }


def stamp_of(function: Any) -> Stamp | None:
    """The state of the file that a function is imported from; ``None`` where there is none, or Python's own."""
    if type(function) is not FunctionType:
        while isinstance(function, partial):
            function = function.func
    name = getattr(function, "__module__", None)
    if name == "builtins":
        return None
    file = getattr(sys.modules.get(name), "__file__", None) if isinstance(name, str) else None
    if not isinstance(file, str) or file.startswith(_PYTHONS):
        return None
    try:
        found = os.stat(file)
    except OSError:
        return None
    return str(name), found.st_mtime_ns, found.st_size


_PYTHONS = os.path.dirname(os.__file__) + os.sep
