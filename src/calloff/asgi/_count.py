"""The requests that are open, and what is counted of all."""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .._operation.operation import Operation
    from ._channel import Channel

__all__ = ["Counts", "counts", "requests"]


class Counts:
    """Of this process."""

    #: headers with a deadline that could not be read
    malformed: int = 0


counts: Counts = Counts()
#: each request and websocket that is open, oldest first
requests: "dict[Operation[Any], Channel]" = {}
