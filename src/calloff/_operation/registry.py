"""Every operation that has not really ended, held strongly: a running operation is never garbage collected."""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .operation import Operation

__all__ = ["live", "operations"]

#: used as an ordered set; abandoned operations stay until their body ends
live: "dict[Operation[Any], None]" = {}


def operations() -> "tuple[Operation[Any], ...]":
    """The operations of this process that run now, oldest first, abandoned ones included until they really end."""
    return tuple(live)
