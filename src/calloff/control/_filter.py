"""The filter that a person types: words for what is to be seen, as `calloff top` and the page take them.

``fetch`` is part of a name and ``fetch-*`` a pattern for the whole of it. A word with a colon is a condition:
``state:stopping,pending``, ``place:process``, ``node:oak``, ``pid:4312``, ``older:30s``. All of them must hold.
"""

from .._words.durations_text import read_duration
from ._records import PLACES, STATES, Query

__all__ = ["KEYS", "on_nodes", "read_filter"]

#: what may stand before a colon
KEYS = ("state", "place", "node", "pid", "older")
_ALLOWED = {"state": STATES, "place": PLACES}


def read_filter(text: str) -> Query:
    """Read a filter; an empty one means everything.

    A word whose beginning is none of `KEYS` is part of the name, also with a colon in it.

    Raises:
        ValueError: a condition has no such value; the message names those that there are.
    """
    names: list[str] = []
    found: dict[str, tuple[str, ...]] = {}
    for word in text.split():
        key, colon, value = word.partition(":")
        if colon and key in KEYS:
            found[key] = found.get(key, ()) + _values(key, value)
        else:
            names.append(word)
    name = " ".join(names)
    return Query(
        ids=tuple(f"{pid}." for pid in found.get("pid", ())),
        name=name if not name or set("*?") & set(name) else f"*{name}*",
        states=found.get("state", ()),
        places=on_nodes(found.get("place", ()), found.get("node", ())),
        older_than=max(map(read_duration, found["older"]), default=None) if "older" in found else None,
        tasks="asyncio" in found.get("place", ()),
    )


def on_nodes(places: tuple[str, ...], nodes: tuple[str, ...]) -> tuple[str, ...]:
    """The places of a query that are on one of these machines of a cluster; without any, the places as they are.

    They are words that no place has by itself, so a program that runs a version which knows no nodes finds nothing.
    """
    if not nodes:
        return places
    return tuple(f"{place} {node}" for place in places or PLACES for node in nodes)


def _values(key: str, value: str) -> tuple[str, ...]:
    values = tuple(filter(None, value.split(",")))
    for each in values:
        if key in _ALLOWED and each not in _ALLOWED[key]:
            raise ValueError(f"{key} is one of {', '.join(_ALLOWED[key])}, not {each!r}")
        if key == "pid" and not each.isdecimal():
            raise ValueError(f"pid is the number of a process, not {each!r}")
        if key == "older":
            _duration(each)
    return values


def _duration(text: str) -> None:
    try:
        read_duration(text)
    except ValueError as error:
        raise ValueError(f"older is a duration, such as 30s: {error}") from None
