"""Durations exist only at the door: checked once here, then turned into a point on the clock."""

import math

__all__ = ["count", "delay", "limit", "period"]


def limit(value: float | None, name: str) -> float | None:
    """A time limit in seconds: zero or more; ``None`` and infinity mean no limit."""
    if value is None:
        return None
    seconds = delay(value, name, or_none=" or None")
    return None if seconds == math.inf else seconds


def delay(value: float, name: str, *, or_none: str = "") -> float:
    """A duration in seconds: zero or more, infinity included.

    Raises:
        TypeError: not a number. The caller's fault.
        ValueError: negative or not-a-number. The caller's fault.
    """
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        raise TypeError(f"{name} must be a number of seconds (0 or more){or_none}, not {value!r}")
    if not value >= 0:  # also true for NaN
        raise ValueError(f"{name} must be 0 or more seconds, not {value!r}")
    try:
        return float(value)
    except OverflowError:  # an integer beyond every clock
        return math.inf


def period(value: float, name: str) -> float:
    """A repeating interval in seconds: finite and more than zero."""
    seconds = delay(value, name)
    if seconds == 0 or seconds == math.inf:
        raise ValueError(f"{name} must be more than 0 and finite, not {value!r}")
    return seconds


def count(value: int, name: str, what: str = "a whole number") -> int:
    """How many: one or more.

    Raises:
        TypeError: not a whole number. The caller's fault.
        ValueError: below 1. The caller's fault.
    """
    if isinstance(value, bool) or not isinstance(value, int):
        raise TypeError(f"{name} must be {what}, not {value!r}")
    if value < 1:
        raise ValueError(f"{name} must be 1 or more, not {value!r}")
    return value
