"""The worker's end of what goes with a body beside its arguments: it is put where the code of the body looks for it.

OpenTelemetry and structlog are imported only for what has come of them; a worker that has not got them goes without.
"""

from contextlib import suppress
from importlib import import_module
from typing import Any

__all__ = ["unpack"]


def unpack(luggage: dict[str, dict[str, Any]]) -> None:
    """Put it into the current context."""
    headers, fields = luggage.get("trace"), luggage.get("log")
    if headers:
        with suppress(Exception):
            extracted = import_module("opentelemetry.propagate").extract(headers)
            import_module("opentelemetry.context").attach(extracted)
    if fields:
        with suppress(Exception):
            import_module("structlog.contextvars").bind_contextvars(**fields)
