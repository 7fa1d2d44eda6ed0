"""Which packages the frames of a stack belong to, and in which version."""

import functools
import importlib.metadata
import os
from collections.abc import Iterable

from .points import Stack

__all__ = ["Packages", "packages_of"]


class Packages:
    """The distributions that some stacks pass through.

    Attributes:
        versions: the version of each, by name.
    """

    def __init__(self, versions: dict[str, str]) -> None:
        self.versions = versions

    def of(self, file: str) -> str:
        """``name version`` of the package that a file belongs to, or ``""``."""
        name = _distribution(_top(file))
        return f"{name} {self.versions[name]}" if name in self.versions else ""


def packages_of(stacks: Iterable[Stack]) -> Packages:
    """The packages whose code is on any of the stacks."""
    tops = {_top(step.file) for stack in stacks for step in stack}
    names = {_distribution(top) for top in tops if top} - {""}
    return Packages({name: importlib.metadata.version(name) for name in sorted(names)})


def _top(file: str) -> str:
    """The name of the top-level package or module of an installed file."""
    for mark in (f"{os.sep}site-packages{os.sep}", f"{os.sep}dist-packages{os.sep}"):
        if mark in file:
            return file.split(mark)[-1].split(os.sep)[0].removesuffix(".py")
    return ""


def _distribution(top: str) -> str:
    names = _distributions().get(top, ()) if top else ()
    return names[0] if names else ""


@functools.cache
def _distributions() -> dict[str, list[str]]:
    return dict(importlib.metadata.packages_distributions())
