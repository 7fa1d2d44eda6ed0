"""The doors that programs import from: names that are loaded when they are first used.

So `import calloff` and the light verbs of the command line cost next to nothing. What type checkers are to know stands in
each door itself, behind ``if TYPE_CHECKING``. Kept small: everything begins by loading this.
"""

import sys

TYPE_CHECKING = False  # known to type checkers; typing takes half as long to import as Python to start
if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

__all__ = ["lazy"]


def lazy(
    door: str, homes: "Mapping[str, tuple[str, ...]]"
) -> "tuple[list[str], Callable[[str], object], Callable[[], list[str]]]":
    """The ``__all__``, ``__getattr__`` and ``__dir__`` of a door.

    Args:
        door: the full name of its module; of what is loaded, tracebacks and pickles show this public path.
        homes: for each module below it the names that are found there.
    """
    names = sorted([name for those in homes.values() for name in those])

    def load(name: str) -> object:
        from importlib import import_module

        home = next((home for home, those in homes.items() if name in those), None)
        if home is None:
            raise AttributeError(f"module {door!r} has no attribute {name!r}")
        value = getattr(import_module(f"{door}.{home}"), name)
        if getattr(value, "__module__", "").startswith(f"{door}._"):
            value.__module__ = door
        setattr(sys.modules[door], name, value)
        return value

    return names, load, names.copy
