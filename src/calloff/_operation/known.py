"""Which operations there are, and which of them the running code belongs to."""

import os
import sys
from contextvars import ContextVar
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .operation import Operation

__all__ = ["current_operation", "live"]

#: every operation that has not really ended, oldest first (a dict used as an ordered set): held strongly, so that none is
#: ever garbage collected; abandoned operations stay until their body ends
live: "dict[Operation[Any], None]" = {}

_inside: Any = getattr(sys.modules.get("_calloff._child.inside"), "operation", None)
#: the operation that the running code belongs to; in a worker of the process place, what stands there for it
current_operation: "ContextVar[Operation[Any] | None]" = ContextVar("calloff.current_operation", default=_inside)

if hasattr(os, "register_at_fork"):  # what runs in the parent runs there alone
    os.register_at_fork(after_in_child=live.clear)
