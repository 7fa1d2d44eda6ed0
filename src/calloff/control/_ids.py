"""Ids of operations across processes: ``4312.7`` is number 7 of process 4312, ``4312.t3`` a plain asyncio task of it."""

from bisect import bisect_left
from collections.abc import Iterable
from itertools import takewhile
from typing import Generic, TypeVar

__all__ = ["Index", "best", "fits", "numbers"]

T = TypeVar("T")
EXACT = 4
_DIGITS = 18  # more has no number of ours, and Python refuses to read thousands


def fits(id: str, text: str) -> int:
    """How well an id fits what was typed.

    Returns:
        4 exactly, 3 as the number in its process, 2 as the number of its process, 1 as a prefix, 0 not at all.
    """
    if id == text:
        return EXACT
    if id.endswith(text) and id.rpartition(".")[2] == text:
        return 3
    if not text or not id.startswith(text):
        return 0
    return 2 if id.startswith(".", len(text)) else 1


def best(known: Iterable[tuple[str, T]], text: str) -> list[T]:
    """What fits best: with an exact one only that, a number before a whole process, and that before a prefix."""
    ranked = [(fits(id, text), each) for id, each in known]
    highest = max((rank for rank, _ in ranked), default=0)
    return [each for rank, each in ranked if rank == highest] if highest else []


class Index(Generic[T]):
    """`best` for many texts: each is looked up in no more time than what it finds takes."""

    def __init__(self, known: Iterable[tuple[str, T]]) -> None:
        self._known = list(known)
        self._exact: dict[str, list[T]] = {}
        self._numbers: dict[str, list[T]] = {}
        for id, each in self._known:
            self._exact.setdefault(id, []).append(each)
            self._numbers.setdefault(id.rpartition(".")[2], []).append(each)
        self._sorted = sorted((id, place) for place, (id, _) in enumerate(self._known))

    def best(self, text: str) -> list[T]:
        """What fits best, as the function of that name finds it."""
        found = self._exact.get(text) or self._numbers.get(text)
        if found or not text:
            return found or []
        return self._begun(f"{text}.") or self._begun(text)

    def _begun(self, text: str) -> list[T]:
        rest = (self._sorted[index] for index in range(bisect_left(self._sorted, (text, 0)), len(self._sorted)))
        fitting = takewhile(lambda entry: entry[0].startswith(text), rest)
        return [self._known[place][1] for place in sorted(place for _, place in fitting)]


def numbers(texts: Iterable[str], pid: int) -> set[int] | None:
    """The numbers in these texts, if each is the whole id of an operation of that process."""
    found: set[int] = set()
    for text in texts:
        number = text.removeprefix(f"{pid}.")
        if not (number.isascii() and number.isdigit() and len(number) <= _DIGITS) or text != f"{pid}.{int(number)}":
            return None
        found.add(int(number))
    return found
