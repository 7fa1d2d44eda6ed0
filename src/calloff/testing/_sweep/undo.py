"""What runs write outside their own folders is taken back.

A test that is called off half way leaves half a file. In a folder of its own (``tmp_path``) that is nobody's concern; in
the tree of the project it breaks the tests after it, and the next run of the suite. So, in the process of a run, each
file below the protected folders is copied before it is opened for writing, renamed or removed, and put back afterwards.
Python's audit events tell of it in time. What a program that was started by the test writes is not seen.
"""

import contextlib
import json
import os
import shutil
import sys
import tempfile
from collections.abc import Iterable
from typing import Any

__all__ = ["Tree", "Undo"]

_WRITING = os.O_WRONLY | os.O_RDWR | os.O_APPEND | os.O_CREAT | os.O_TRUNC


class Undo:
    """The log of what was changed.

    Args:
        home: the folder for the copies; it is made when there is one.
        folders: below these, files are protected.
        but: ... but not below these.
    """

    def __init__(self, home: str, folders: Iterable[str], but: Iterable[str] = ()) -> None:
        self._folders = tuple(os.path.realpath(folder) + os.sep for folder in folders)
        self._but = tuple(os.path.realpath(folder) + os.sep for folder in but)
        self._home = home
        self._log = os.path.join(self._home, "log")
        self._seen: set[str] = set()
        self._busy = False

    def record(self) -> None:
        """Note from now on, for good, what this process changes."""
        self._seen.clear()
        sys.addaudithook(self._heard)

    def take_back(self) -> list[str]:
        """Put everything back as it was; the names of what had changed."""
        if not os.path.exists(self._log):
            return []
        with open(self._log, encoding="utf-8") as file:
            entries = [json.loads(line) for line in file.read().splitlines() if line.endswith("]")]
        changed: list[str] = []
        for path, copy in reversed(entries):
            with contextlib.suppress(OSError):
                if self._put_back(path, copy):
                    changed.append(path)
        for name in os.listdir(self._home):
            os.remove(os.path.join(self._home, name))
        return changed

    @staticmethod
    def _put_back(path: str, copy: str | None) -> bool:
        if copy is None:
            if os.path.isdir(path) and not os.path.islink(path):
                os.rmdir(path)
            else:
                os.remove(path)
            return True
        with open(copy, "rb") as old:
            content = old.read()
        try:
            with open(path, "rb") as now:
                if now.read() == content:
                    return False
        except FileNotFoundError:
            os.makedirs(os.path.dirname(path), exist_ok=True)
        shutil.copy2(copy, path)
        return True

    def _heard(self, event: str, args: tuple[Any, ...]) -> None:
        if event not in _EVENTS or self._busy:
            return
        self._busy = True
        try:
            for path in _written(event, args):
                self._note(path)
        except Exception:
            pass  # it must not harm the run: some suites make files raise where an event loop runs
        finally:
            self._busy = False

    def _note(self, given: Any) -> None:
        path = os.path.abspath(os.fsdecode(given))
        if path in self._seen or not path.startswith(self._folders) or path.startswith(self._but):
            return
        if any(part in _CACHES or part.startswith(".coverage.") for part in path.split(os.sep)):
            return
        self._seen.add(path)
        os.makedirs(self._home, exist_ok=True)
        copy: str | None = None
        if os.path.isfile(path):
            copy = os.path.join(self._home, f"{os.getpid()}-{len(self._seen)}")
            shutil.copy2(path, copy)
        elif os.path.lexists(path):
            return  # a folder, a socket, ...: nothing to copy
        with open(self._log, "a", encoding="utf-8") as file:
            file.write(json.dumps([path, copy]) + "\n")


class Tree:
    """Keeps a tree of files as it is while a test is swept.

    What a run that is called off changes is taken back when that run is over; what a run without a cancel changes, at
    the end: the second such run may need what the first has made.
    """

    def __init__(self, folders: Iterable[str], but: Iterable[str] = ()) -> None:
        self._home = tempfile.mkdtemp(prefix="calloff-sweep-")
        plain, called_off, self._changed = (os.path.join(self._home, name) for name in ("plain", "off", "changed"))
        self._plain, self._called_off = Undo(plain, folders, but), Undo(called_off, folders, but)

    def before(self, order: Any) -> None:
        """In the process of a run, before it begins."""
        (self._plain if order[0] is None else self._called_off).record()

    def after(self, _order: Any) -> None:
        """When that process is gone."""
        changed = self._called_off.take_back()
        if changed:
            with open(self._changed, "a", encoding="utf-8") as file:
                file.writelines(f"{path}\n" for path in changed)

    def close(self) -> list[str]:
        """Take the rest back; the names of all that had changed."""
        changed = set(self._plain.take_back())
        with contextlib.suppress(FileNotFoundError), open(self._changed, encoding="utf-8") as file:
            changed.update(file.read().splitlines())
        shutil.rmtree(self._home, ignore_errors=True)
        return sorted(changed)


_CACHES = frozenset({"__pycache__", ".pytest_cache", ".git", ".hypothesis", ".coverage"})
_EVENTS = frozenset(
    {"open", "os.remove", "os.rename", "os.truncate", "os.mkdir", "os.link", "os.symlink", "sqlite3.connect"}
)


def _written(event: str, args: tuple[Any, ...]) -> list[Any]:
    """The paths that are about to be changed."""
    if event == "open":
        path, mode, flags = args
        writes = any(letter in mode for letter in "wax+") if isinstance(mode, str) else bool((flags or 0) & _WRITING)
        return [path] if writes and isinstance(path, (str, bytes)) else []
    if event == "os.rename" or event == "os.link" or event == "os.symlink":
        return [path for path in args[:2] if isinstance(path, (str, bytes))]
    return [path for path in args[:1] if isinstance(path, (str, bytes)) and path != ":memory:"]
