"""What goes with a body into another process, beside its arguments: the trace that it is a part of, and fields of logs.

Context variables end at the border of a process. Of those two that users look for on the other side the plain part is taken
along: the headers of OpenTelemetry (trace and baggage, by the propagators that the program has set), and the context
variables of structlog that are plain values. Each is looked at only where the program has imported it. A body takes along
what is there when it is started; the other end is `_child/luggage.py`.
"""

import sys
from collections.abc import Callable
from contextlib import suppress
from importlib import import_module
from typing import Any

__all__ = ["Luggage", "luggage_of", "packers"]

#: plain values only, by the names of the two
Luggage = dict[str, dict[str, Any]]

_PLAIN = frozenset({bool, float, int, str, type(None)})
#: called with an operation and what goes with its body, to change that
packers: list[Callable[[Any, Luggage], object]] = []


def luggage_of(operation: object) -> Luggage | None:
    """What the body of an operation takes along, from the current context; ``None`` for nothing."""
    loaded = sys.modules
    if not packers and "opentelemetry.context" not in loaded and "structlog.contextvars" not in loaded:
        return None
    found: Luggage = {}
    if "opentelemetry.context" in loaded:
        with suppress(Exception):  # whatever a propagator does, the body runs
            headers: dict[str, str] = {}
            import_module("opentelemetry.propagate").inject(headers)
            found["trace"] = headers
    structlog: Any = sys.modules.get("structlog.contextvars")
    if structlog is not None:
        with suppress(Exception):
            fields = structlog.get_contextvars()
            found["log"] = {key: value for key, value in fields.items() if type(value) in _PLAIN}
    for pack in packers:
        pack(operation, found)
    return {name: part for name, part in found.items() if part} or None
