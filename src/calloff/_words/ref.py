"""Who an operation is, as plain data."""

from typing import NamedTuple

from .text import clean

__all__ = ["Ref"]


class Ref(NamedTuple):
    """The id and the name of an operation, for errors, reports and records that outlive it."""

    id: str
    name: str

    def __str__(self) -> str:
        return f"operation {self.id} '{clean(self.name)}'"
