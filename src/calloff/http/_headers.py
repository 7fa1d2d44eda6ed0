"""The header that tells how long the caller still waits."""

from asyncio import _get_running_loop
from collections.abc import Iterable, Mapping, MutableMapping
from math import ceil, inf
from typing import Any

from .._operation.checkpoint import checkpoint, is_obeying
from .._operation.current import remaining
from .._words.budget import seconds_of

__all__ = ["HEADER", "MARGIN", "cut", "headers", "incoming", "left", "write"]

HEADER = "Request-Timeout-Ms"
#: seconds that a blocking client gets beyond the limit, so that it is the limit which is seen to end the work
MARGIN = 0.05
_KEY = HEADER.lower().encode()


def left() -> float | None:
    """Seconds that the calling code has; ``None`` without a limit, and in the clean-up after one has passed.

    Raises:
        asyncio.CancelledError: the deadline has passed: nothing is worth asking for any more.
    """
    try:
        seconds = remaining()
    except RuntimeError:  # a thread outside any operation: no clock, and no limit
        return None
    if seconds == inf:
        return None
    if seconds > 0:
        return seconds
    if not is_obeying():
        checkpoint(0.0 if _get_running_loop() is not None else MARGIN)  # a thread leaves the loop time to ask first
    return None


def headers() -> dict[str, str]:
    """Tell how long the calling code still waits: the header for a client of any kind.

    Returns:
        ``{"Request-Timeout-Ms": "1500"}``, from the nearest deadline of the enclosing operations and scopes; empty when
        there is none, so also in detached work without a limit of its own, and in the clean-up after it has passed.

    Raises:
        asyncio.CancelledError: the deadline has passed: nothing is worth asking for any more.
    """
    seconds = left()
    return {} if seconds is None else {HEADER: str(ceil(seconds * 1000))}


def write(target: MutableMapping[str, Any]) -> None:
    """Put it into the headers of a request; a smaller value that is there already stays.

    A redirected request has the header of the one before, which tells more time than is left by now.
    """
    seconds = left()
    if seconds is not None:
        there = target.get(HEADER)
        told = None if there is None else seconds_of(_KEY, _bytes(there))
        if told is None or told > seconds:
            target[HEADER] = str(ceil(seconds * 1000))


def incoming(given: Mapping[str, Any] | Iterable[tuple[Any, Any]], /) -> float | None:
    """Read how long the client of a request still waits.

    Args:
        given: the headers of the request: a mapping, or pairs of texts or bytes.

    Returns:
        Seconds: the smallest of ``grpc-timeout``, ``Request-Timeout-Ms``, ``x-envoy-expected-rq-timeout-ms`` and
        ``Request-Timeout``. What can't be read is no limit; ``None`` when there is none.
    """
    items = getattr(given, "items", None)
    pairs: Iterable[tuple[Any, Any]] = given if items is None else items()  # type: ignore[assignment]  # then it is one
    found = [seconds_of(_bytes(name).lower(), _bytes(value)) for name, value in pairs]
    return min((seconds for seconds in found if seconds is not None), default=None)


def cut(seconds: float | None, limit: float | None) -> float | None:
    """The timeout of a blocking client, cut to what is left."""
    if limit is None:
        return seconds
    limit += MARGIN
    return limit if seconds is None else min(seconds, limit)


def _bytes(text: Any) -> bytes:
    return text if isinstance(text, bytes) else str(text).encode("latin-1", "replace")
