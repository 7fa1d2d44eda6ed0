"""What runs now."""

from typing import Any

from .loops import forget_closed
from .operation import Operation, live

__all__ = ["live", "operations"]


def operations() -> tuple[Operation[Any], ...]:
    """The operations of this process that run now, oldest first, abandoned ones included until they really end.

    Those of an event loop end with that loop.
    """
    forget_closed(live)
    return tuple(live)
