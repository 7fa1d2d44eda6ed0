"""How long the client of a request still waits, as the headers of HTTP and gRPC say it.

Four ways are in use: ``grpc-timeout`` (a number of at most eight digits and a unit), ``Request-Timeout-Ms`` and Envoy's
``x-envoy-expected-rq-timeout-ms`` (whole milliseconds), ``Request-Timeout`` (seconds). Nothing else is read as a limit, and
what can't be read is no limit: a header that some client sends must never end a request that others would have finished.
"""

import re
from collections.abc import Callable, Mapping
from types import MappingProxyType

__all__ = ["HEADERS", "seconds_of"]

_SECONDS = re.compile(rb"\d{1,9}(?:\.\d{1,9})?")
_UNITS = {b"H": 3600.0, b"M": 60.0, b"S": 1.0, b"m": 1e-3, b"u": 1e-6, b"n": 1e-9}


def _grpc(value: bytes) -> float | None:
    digits, unit = value[:-1], _UNITS.get(value[-1:])
    return int(digits) * unit if unit is not None and digits.isdigit() and len(digits) <= 8 else None


def _milliseconds(value: bytes) -> float | None:
    return int(value) / 1000 if value.isdigit() and len(value) <= 12 else None


def _plain_seconds(value: bytes) -> float | None:
    return float(value) if _SECONDS.fullmatch(value) else None


#: the headers that tell it, in lower case, and how each is read
HEADERS: Mapping[bytes, Callable[[bytes], float | None]] = MappingProxyType(
    {
        b"grpc-timeout": _grpc,
        b"request-timeout-ms": _milliseconds,
        b"x-envoy-expected-rq-timeout-ms": _milliseconds,
        b"request-timeout": _plain_seconds,
    }
)


def seconds_of(name: bytes, value: bytes) -> float | None:
    """Return the seconds that the header of that name tells; ``None`` for another header, and where it tells nothing."""
    read = HEADERS.get(name)
    return None if read is None else read(value.strip())
