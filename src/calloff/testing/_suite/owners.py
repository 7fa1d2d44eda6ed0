"""Whose code a file is, as a test suite sees it: the project's, its tests', a library's, or Python's.

The project is what lies below the root of the tests and is not tests; a package that is installed from there (its name is
that of a package below the root) belongs to it. Where there is nothing but tests, the tests are the project.
"""

import os
import re
import sys
from collections.abc import Collection, Iterable
from pathlib import Path

from .._sweep.points import is_python

__all__ = ["OWNERS", "Owners"]

OWNERS = ("project", "tests", "library", "python")


class Owners:
    """Tells whose a file is.

    Args:
        root: the folder of the project.
        tests: the files of the tests that were collected.
        sources: folders or names of packages that are the project, in place of what is found below the root.
    """

    def __init__(self, root: Path, tests: Iterable[Path], sources: Collection[str] = ()) -> None:
        self._found: dict[str, str] = {}
        self._root = os.path.realpath(root) + os.sep
        self._tests = {os.path.realpath(path) for path in tests}
        self._folders = tuple(
            os.path.realpath(os.path.join(root, source)) + os.sep for source in sources if (root / source).is_dir()
        )
        self._chosen = bool(sources)
        names = {source for source in sources if not (root / source).is_dir()}
        self._names = names if sources else _packages(root) | _packages(root / "src")
        self.has_project = self._chosen or bool(self._names) or _any_is_loaded(self._modules(root))

    def of(self, file: str) -> str:
        """One of `OWNERS`."""
        found = self._found.get(file)
        if found is None:  # every frame of every await is asked about, in each test
            found = self._found[file] = self._find(file)
        return found

    def _find(self, file: str) -> str:
        if is_python(file):
            return "python"
        path = os.path.realpath(file)
        if not os.path.isfile(path):
            return "library"
        for mark in _INSTALLED:
            if mark in path:
                return "project" if _top(path.split(mark)[-1]) in self._names else "library"
        if self._is_test(path):
            return "tests" if self.has_project else "project"
        if self._chosen and not path.startswith(self._folders):
            return "project" if self._names.intersection(path.split(os.sep)) else "library"
        return "project" if path.startswith((self._root, *self._folders)) else "library"

    def files(self) -> list[str]:
        """The files of the project, without its tests."""
        if self._folders:
            roots: Iterable[str] = self._folders
        elif self._names:
            roots = [os.path.join(base, name) for base in (self._root, f"{self._root}src") for name in self._names]
        else:
            return self._modules(Path(self._root))
        found = {str(path) for root in roots for path in Path(root).rglob("*.py")}
        return sorted(path for path in found if not self._is_test(os.path.realpath(path)))

    def _modules(self, root: Path) -> list[str]:
        """Single modules beside the tests."""
        return sorted(str(path) for path in root.glob("*.py") if not self._is_test(os.path.realpath(path)))

    def _is_test(self, path: str) -> bool:
        if path in self._tests or _TEST_NAME.search(os.path.basename(path)):
            return True
        return any(part in _TEST_FOLDERS for part in path.removeprefix(self._root).split(os.sep)[:-1])


def _any_is_loaded(files: Iterable[str]) -> bool:
    """Whether the tests have imported one of the files: a script that lies beside them has nothing to do with them."""
    loaded = {
        os.path.realpath(file) for file in (getattr(part, "__file__", None) for part in [*sys.modules.values()]) if file
    }
    return any(os.path.realpath(file) in loaded for file in files)


def _packages(root: Path) -> set[str]:
    """The names of the packages in a folder."""
    found = {path.parent.name for path in root.glob("*/__init__.py")}
    return {name for name in found if name not in _TEST_FOLDERS}


def _top(path: str) -> str:
    return path.split(os.sep)[0].removesuffix(".py")


_INSTALLED = (f"{os.sep}site-packages{os.sep}", f"{os.sep}dist-packages{os.sep}")
_TEST_FOLDERS = frozenset({"test", "tests", "unittests", "_tests", "docs", "examples", "benchmarks"})
_TEST_NAME = re.compile(r"^(test_.*|.*_test|conftest|setup|noxfile)\.py$")
