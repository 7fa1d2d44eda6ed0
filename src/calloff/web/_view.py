"""What one browser looks at: the parameters of its stream, checked, and the questions that follow from them."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from msgspec import Struct, ValidationError, convert

from ..control import Query
from ..control._filter import read_filter
from ..control._records import ENDED, LIVE, PLACES, SORTS, STATES

__all__ = ["MOST", "View"]

MOST = 200  # rows of a page; 10,000 operations are looked at page by page
_FURTHEST = 1_000_000
_LISTS = ("state", "place")


class _Parameters(Struct, forbid_unknown_fields=True):
    name: str = ""
    state: tuple[str, ...] = ()
    place: tuple[str, ...] = ()
    sort: str = "tree"
    reverse: bool = False
    tasks: bool = False
    fold: bool = False
    offset: int = 0
    past: int = 0
    limit: int = 100
    show: str = ""


@dataclass(frozen=True)
class View:
    """The part of the world that is on one screen.

    Attributes:
        running: asks for the page of operations that run; ``None`` where the filter excludes them.
        ended: the same for those that have ended, the latest first.
        counts: counts all states, where the filter leaves some of them out of the other two.
        show: the id whose details are open, or nothing.
    """

    running: Query | None
    ended: Query | None
    counts: Query | None
    show: str

    @classmethod
    def read(cls, parameters: Mapping[str, str]) -> "View":
        """From the parameters of a link.

        Raises:
            ValueError: one of them is wrong; the message names it and what is allowed.
        """
        found = _checked(parameters)
        typed = read_filter(found.name)
        states = _both(found.state, typed.states)
        places = _both(found.place, typed.places)
        common: dict[str, Any] = {
            "ids": typed.ids,
            "name": typed.name,
            "places": places or (),
            "older_than": typed.older_than,
            "tasks": found.tasks or typed.tasks,
        }
        wanted = () if places == () else STATES if states is None else states
        live = tuple(state for state in wanted if state in LIVE)
        ended = tuple(state for state in wanted if state in ENDED)
        running = Query(
            states=() if states is None else live,
            sort=found.sort,
            reverse=found.reverse,
            offset=found.offset,
            limit=found.limit,
            fold=found.fold,
            **common,
        )
        past = Query(
            states=ended, ended=True, sort="ended", offset=found.past, limit=found.limit, where=False, **common
        )
        return cls(
            running=running if live else None,
            ended=past if ended else None,
            counts=Query(ended=True, limit=0, where=False, **common) if states is not None and places != () else None,
            show=found.show,
        )


def _both(pressed: tuple[str, ...], typed: tuple[str, ...]) -> tuple[str, ...] | None:
    """What both the buttons and the filter let through, where either says anything; ``None`` is everything.

    A word of the filter may say more than one of the buttons, "process oak" for "process".
    """
    if not pressed or not typed:
        return pressed or typed or None
    return tuple(word for word in typed if word.partition(" ")[0] in pressed)


def _checked(parameters: Mapping[str, str]) -> _Parameters:
    raw: dict[str, Any] = dict(parameters)
    for name in _LISTS:
        if name in raw:
            raw[name] = [word for word in raw[name].split(",") if word]
    try:
        found = convert(raw, _Parameters, strict=False)
    except ValidationError as error:
        raise ValueError(f"wrong parameter: {error}") from None
    _among("state", found.state, STATES)
    _among("place", found.place, PLACES)
    _among("sort", (found.sort,), SORTS)
    _within("limit", found.limit, 1, MOST)
    _within("offset", found.offset, 0, _FURTHEST)
    _within("past", found.past, 0, _FURTHEST)
    return found


def _among(name: str, values: tuple[str, ...], allowed: tuple[str, ...]) -> None:
    for value in values:
        if value not in allowed:
            raise ValueError(f"{name} must be of {', '.join(allowed)}, not {value!r}")


def _within(name: str, value: int, least: int, most: int) -> None:
    if not least <= value <= most:
        raise ValueError(f"{name} must be from {least} to {most}, not {value}")
