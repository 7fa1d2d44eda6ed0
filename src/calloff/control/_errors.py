"""What the client raises::

CalloffError
└── ControlError      nothing could be learnt or done
    ├── NotFound      no operation has that id: it has ended long ago, or was mistyped
    ├── Ambiguous     several have; `candidates` are rows of them
    └── Unreachable   the process of the operation does not answer, or the sockets can't be looked at
"""

from typing import TYPE_CHECKING

from .._words.errors import CalloffError

if TYPE_CHECKING:
    from ._records import Row

__all__ = ["Ambiguous", "ControlError", "NotFound", "Unreachable"]


class ControlError(CalloffError):
    """Base of what the client of the control sockets raises."""

    __module__ = "calloff.control"


class NotFound(ControlError):
    """No operation has that id. It has ended and is forgotten, or the id was mistyped."""

    __module__ = "calloff.control"


class Ambiguous(ControlError):
    """Several operations have an id that begins so. The caller's fault: type more of it.

    Attributes:
        candidates: the operations, at most twenty of them.
    """

    __module__ = "calloff.control"

    def __init__(self, text: str, candidates: "tuple[Row, ...]" = ()) -> None:
        super().__init__(text)
        self.candidates = candidates


class Unreachable(ControlError):
    """The process does not answer: something holds up all of its threads, or it is stopped."""

    __module__ = "calloff.control"
