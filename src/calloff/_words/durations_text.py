"""Durations as people write them: ``3``, ``3s``, ``500ms``, ``1m30s``, ``2h``. Text in, seconds out, and back.

Kept free of regular expressions, because the light verbs of the command line start with it.
"""

from math import isfinite

__all__ = ["brief", "read_duration", "spoken"]

#: From the longest to the shortest: in one duration they may only appear in this order.
UNITS = {"d": 86400.0, "h": 3600.0, "m": 60.0, "s": 1.0, "ms": 0.001}
_ORDER = list(UNITS)
EXAMPLES = "3, 3s, 500ms, 1m30s or 2h"


def read_duration(text: str) -> float:
    """The seconds that a text means.

    Args:
        text: a number of seconds, or numbers each with a unit (`d`, `h`, `m`, `s`, `ms`), the longest unit first.

    Raises:
        ValueError: it is not a duration of zero or more; the message shows what is. The caller's fault.
    """
    number = _number(text)
    if number is not None:
        return number
    seconds, rest, last = 0.0, text.strip(), -1
    while rest:
        digits = len(rest) - len(rest.lstrip("0123456789."))
        unit = rest[digits : digits + _letters(rest[digits:])]
        number = _number(rest[:digits])
        if number is None or unit not in UNITS or _ORDER.index(unit) <= last:
            break
        last = _ORDER.index(unit)
        seconds += number * UNITS[unit]
        rest = rest[digits + len(unit) :]
    if rest or last < 0:
        raise ValueError(f"not a duration such as {EXAMPLES}: {text!r}")
    return seconds


def spoken(seconds: float) -> str:
    """Seconds for people: ``0.25 s``, ``3.0 s``, ``1m30s``, ``2h05m``."""
    if seconds < 60:
        return f"{seconds:.2f} s" if 0 < seconds < 0.995 else f"{seconds:.1f} s"
    if not isfinite(seconds):
        return "no limit"
    whole = round(seconds)
    minutes, rest = divmod(whole, 60)
    if minutes < 60:
        return f"{minutes}m{rest:02}s"
    hours, minutes = divmod(minutes, 60)
    return f"{hours}h{minutes:02}m"


def brief(value: float) -> str:
    """A duration in at most six characters: ``0.3 s``, ``59 s``, ``4m07s``, ``3h20m``, ``12d 3h``."""
    if not isfinite(value):
        return "-"
    sign, value = ("-", -value) if value < 0 else ("", value)
    if value < 60:
        return f"{sign}{value:.1f} s" if value < 9.95 else f"{sign}{value:.0f} s"
    minutes, rest = divmod(round(value), 60)
    if minutes < 60:
        return f"{sign}{minutes}m{rest:02}s"
    hours, minutes = divmod(minutes, 60)
    if hours < 100:
        return f"{sign}{hours}h{minutes:02}m"
    return f"{sign}{hours // 24}d{hours % 24:2}h"


def _letters(text: str) -> int:
    return len(text) - len(text.lstrip("abcdefghijklmnopqrstuvwxyz"))


def _number(text: str) -> float | None:
    """A plain decimal number of zero or more; ``None`` for all else: signs, ``nan``, ``1e3``, ``1_000``."""
    text = text.strip()
    if not text or text.strip("0123456789.") or not text.isascii():
        return None
    try:
        number = float(text)
    except ValueError:
        return None
    return number if isfinite(number) else None
