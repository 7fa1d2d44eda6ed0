"""Plain facts about workers: what one is told at its start, what its stack looks like as text, why it died."""

import os
import re
import sys
from functools import partial
from typing import Any

from ..._words.frame import RawStack
from ..kept import ended

__all__ = [
    "Stamp",
    "Surroundings",
    "details",
    "has_threads",
    "parse_stack",
    "seconds_run",
    "stamp_of",
    "state_of",
    "why",
]

#: the name of a module, and when and how long its file was written
Stamp = tuple[str, int, int]

_LINE = re.compile(r'  File "(.*)", line (\d+) in (.*)')
_HEADER, _OUTERMOST = "(most recent call first)", "_child/__main__.py"


def parse_stack(text: str) -> RawStack | None:
    """The last whole stack in what was written, if there is one."""
    by_python, end, _ = text.rpartition("end\n")
    if end:
        found = _LINE.findall(by_python.rpartition("stack\n")[2])
    else:  # by C: innermost first, and outermost what runs the worker
        _, *written = text.split(_HEADER)  # before the first there may be the end of one that was read already
        whole = next((each for each in reversed(written) if _OUTERMOST in each), None)
        if whole is None:
            return None
        found = _LINE.findall(whole.partition(_OUTERMOST)[0])[::-1]
        while at := next((at for at, frame in enumerate(found, 1) if _is_outer(frame[0], frame[2])), 0):
            found = found[at:]
    return tuple((file, int(line), name) for file, line, name in found)


def _is_outer(file: str, name: str) -> bool:
    """Whether it is a frame of those that run the function: ours, or the step of an event loop."""
    return (name in ("_call", "_run") and "_child" in file) or (name == "_run" and file.endswith("asyncio/events.py"))


def state_of(pid: int | None) -> str:
    """The letter that the system has for what a process does: ``R`` runs, ``S`` waits, ``T`` is stopped, ..."""
    try:
        with open(f"/proc/{pid}/stat", "rb", buffering=0) as file:
            return file.read(512).rpartition(b")")[2].split()[0].decode()
    except (OSError, IndexError):
        return ""


def has_threads(pid: int | None) -> bool:
    """Whether a process has more than one thread, or the system does not tell."""
    try:
        with open(f"/proc/{pid}/stat", "rb", buffering=0) as file:
            return int(file.read(1024).rpartition(b")")[2].split()[17]) > 1
    except (OSError, IndexError, ValueError):
        return True


def seconds_run(pid: int | None) -> float:
    """The processor time that the first thread of a process has used; 0 where the system does not tell."""
    try:
        with open(f"/proc/{pid}/schedstat", "rb", buffering=0) as file:
            return int(file.read(64).split()[0]) / 1e9
    except (OSError, IndexError, ValueError):
        return 0.0


def why(status: int | None) -> str:
    """In words, how a worker died by itself."""
    return "the worker process " + ("died" if status is None else ended(status))


class Surroundings:
    """What a worker was told of environment, directory, search path and arguments here, and what has changed since."""

    __slots__ = ("_seen",)

    def __init__(self) -> None:
        self._seen = _surroundings()

    def all(self) -> dict[str, Any]:
        """Everything, for a worker that starts."""
        return {name: _plain(value) for name, value in self._seen.items()}

    def changes(self) -> dict[str, Any] | None:
        """What has changed since this was asked last; ``None`` for nothing."""
        seen = self._seen
        if seen["path"] == sys.path and seen["argv"] == getattr(sys, "argv", _NO_ARGV) and seen["cwd"] == _cwd():
            raw = getattr(os.environ, "_data", None)
            if seen["env"] == (dict(os.environ) if raw is None else raw):
                return None
        now = self._seen = _surroundings()
        return {name: _plain(value) for name, value in now.items() if value != seen[name]}


_NO_ARGV = [""]


def _cwd() -> str:
    try:
        return os.getcwd()
    except OSError:
        return "/"


def _surroundings() -> dict[str, Any]:
    raw: Any = getattr(os.environ, "_data", None)  # not decoded, which takes ten times as long
    env = dict(os.environ) if raw is None else raw.copy()
    return {"env": env, "cwd": _cwd(), "path": sys.path[:], "argv": list(getattr(sys, "argv", _NO_ARGV))}


def _plain(value: Any) -> Any:
    """As it is sent: plain texts, whatever somebody has put on the search path."""
    if isinstance(value, dict):
        return dict(os.environ)
    return [str(entry) for entry in value] if isinstance(value, list) else value


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
