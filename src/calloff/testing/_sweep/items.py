"""Items of a `calloff.map`: one of them is called off, the others are under way beside it and must come to their end.

What the items share (a session, a semaphore, a cache of the module) is where the end of one does harm to another.
"""

import json
from collections.abc import Callable, Iterable
from typing import Any

from ..._api.map import map

__all__ = ["Items", "read_items"]


class Items:
    """A function of one item, as the functions of a case.

    Args:
        function: what is called with an item.
        items: the first is the one that is called off.
    """

    def __init__(self, function: Callable[[Any], Any], items: Iterable[Any]) -> None:
        self._function = function
        self._first, *self._others = items

    async def first(self, *_world: Any) -> Any:
        """Do what is to be done for the first item."""
        return await self._function(self._first)

    async def others(self, *_world: Any) -> None:
        """Do the others, all at once."""
        for outcome in await map(self._function, self._others, jobs=len(self._others)):
            outcome.unwrap()


def read_items(words: Iterable[str]) -> list[Any]:
    """Take what is JSON as JSON, as `calloff map` does, and the rest as text."""
    return [_read(word) for word in words]


def _read(word: str) -> Any:
    try:
        return json.loads(word)
    except ValueError:
        return word
