"""Ids of operations across processes: ``4312.7`` is number 7 of process 4312, ``4312.t3`` a plain asyncio task of it."""

from collections.abc import Iterable
from typing import TypeVar

__all__ = ["best", "fits", "numbers"]

T = TypeVar("T")
EXACT = 3


def fits(id: str, text: str) -> int:
    """How well an id fits what was typed: 3 exactly, 2 as the number in its process, 1 as a prefix, 0 not at all."""
    if id == text:
        return EXACT
    if id.endswith(text) and id.rpartition(".")[2] == text:
        return 2
    return 1 if text and id.startswith(text) else 0


def best(known: Iterable[tuple[str, T]], text: str) -> list[T]:
    """What fits best: with an exact one only that, and a number before a prefix."""
    ranked = [(fits(id, text), each) for id, each in known]
    highest = max((rank for rank, _ in ranked), default=0)
    return [each for rank, each in ranked if rank == highest] if highest else []


def numbers(texts: Iterable[str], pid: int) -> set[int] | None:
    """The numbers in these texts, if each is the whole id of an operation of that process."""
    found: set[int] = set()
    for text in texts:
        number = text.removeprefix(f"{pid}.")
        if not (number.isascii() and number.isdigit()) or text != f"{pid}.{int(number)}":
            return None
        found.add(int(number))
    return found
