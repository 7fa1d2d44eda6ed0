"""Rows that say the same are one row: of a thousand alike operations a person wants to see the few that are not.

Alike are siblings with the same name but for its numbers, in the same state, at the same place and at the same line. What
has children stays by itself. The row is that of the oldest, which is the one that may hang.
"""

import re
from collections.abc import Callable, Iterable
from contextlib import suppress
from typing import Any

from .._operation.operation import Operation
from ._lines import innermost
from ._records import Frame

__all__ = ["folded", "stem"]

_NUMBER = re.compile(r"\d+")


def stem(name: str) -> str:
    """The name with a ``*`` for each number: a pattern that fits all of them."""
    return _NUMBER.sub("*", name)


def folded(
    found: Iterable[Any],
    name_of: Callable[[Any], str],
    number_of: Callable[[Any], int],
    wanted: Callable[[Any], bool],
) -> dict[Any, int]:
    """The oldest of each kind, in the order in which the kinds come, with the number of its kind.

    Args:
        found: operations, ended ones, plain tasks.
        name_of: tells the name of one.
        number_of: tells the number of an operation; the oldest has the lowest.
        wanted: asked of each when all have a kind, which takes a while: some may have ended meanwhile.
    """
    kinds: dict[Any, list[Any]] = {}
    for each in found:
        kinds.setdefault(_kind(each, name_of), []).append(each)
    left = (list(filter(wanted, alike)) for alike in kinds.values())
    return {min(alike, key=number_of) if len(alike) > 1 else alike[0]: len(alike) for alike in left if alike}


def _kind(each: Any, name_of: Callable[[Any], str]) -> Any:
    if not isinstance(each, Operation) or each._children:
        return each
    return each._parent, stem(name_of(each)), each._phase, each._place, _line(each)


def _line(operation: "Operation[Any]") -> Frame | None:
    """Where it stands, as far as that is known without asking another process."""
    body = operation.body
    with suppress(Exception):
        return None if body is None or body.argv else innermost(body.known_where())
    return None
