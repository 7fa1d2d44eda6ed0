"""The template of a command: GNU parallel's replacement strings, without its shell.

    {}    the item                   {.}   without its last extension
    {/}   its last path component    {//}  its directory            {/.}  last component without extension
    {#}   its number, from 1         {name}, {2}  that field of an item that has several

A template without any gets the item as a last word. A word stays one word, whatever the item holds: nothing is split or
expanded again.
"""

import json
import os.path
import re
import shlex
from collections.abc import Mapping, Sequence
from typing import Any

__all__ = ["Template"]

_PLACE = re.compile(r"\{(\.|/\.|//|/|#|[A-Za-z_]\w*|\d+)?\}")


class Template:
    """The words of a command, with places for the item."""

    def __init__(self, text: str | Sequence[str]) -> None:
        words = shlex.split(text) if isinstance(text, str) else [str(word) for word in text]
        if not words:
            raise ValueError("the template of a command needs at least the name of a program")
        if not any(_PLACE.search(word) for word in words):
            words.append("{}")
        self._words = words
        self.name = os.path.basename(words[0]) or words[0]

    @property
    def program(self) -> str | None:
        """The program, where it is the same for all items."""
        return None if _PLACE.search(self._words[0]) else self._words[0]

    @property
    def fields(self) -> set[str]:
        """The fields that an item has to have."""
        names = {found[1] or "" for word in self._words for found in _PLACE.finditer(word)}
        return {name for name in names if name.replace("_", "a").isalnum()}

    def words(self, item: Any, number: int) -> list[str]:
        """The command for one item.

        Raises:
            ValueError: the item has no such field.
        """

        def put(found: re.Match[str]) -> str:
            return _value(found[1], item, number)

        return [_PLACE.sub(put, word) for word in self._words]

    def __str__(self) -> str:
        return shlex.join(self._words)


def _value(name: str | None, item: Any, number: int) -> str:
    if name == "#":
        return str(number)
    if name is not None and (name.isalnum() or "_" in name):
        return _text(_field(name, item))
    text = _text(item)
    if name == ".":
        return os.path.splitext(text)[0]
    if name == "/":
        return os.path.basename(text)
    if name == "//":
        return os.path.dirname(text) or "."
    if name == "/.":
        return os.path.splitext(os.path.basename(text))[0]
    return text


def _field(name: str, item: Any) -> Any:
    if isinstance(item, Mapping) and name in item:
        return item[name]
    if name.isdigit() and isinstance(item, (list, tuple)) and 0 < int(name) <= len(item):
        return item[int(name) - 1]
    if name == "1" and not isinstance(item, (Mapping, list, tuple)):
        return item
    raise ValueError(f"the item has no field {name!r}: {item!r:.100}")


def _text(value: Any) -> str:
    if isinstance(value, str):
        return value
    if isinstance(value, os.PathLike):
        return str(os.fspath(value))
    if isinstance(value, (Mapping, list, tuple)):
        return json.dumps(value, ensure_ascii=False, default=str)
    return str(value)
