"""Looking at a running operation: a line each time, or on a terminal one live line that is drawn over itself.

The live line is on stderr. When stdout goes to a terminal too, the program's prints and the live line would run into
each other; so the streams of the program are watched: before it prints the line is erased, and it is not drawn while
the cursor stands behind an unfinished line of the program. What the program writes is passed on as it is.
"""

import os
import sys
import unicodedata
from collections.abc import Generator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, TextIO

from .._words.durations_text import spoken
from .._words.frame import at_line

if TYPE_CHECKING:
    from .._operation.watching import Tick

__all__ = ["LiveLine", "describe", "looks_live"]

BAR = 20


def looks_live(stream: TextIO) -> bool:
    """Whether a live line can be drawn there."""
    return stream.isatty() and os.environ.get("TERM", "") not in ("", "dumb")


def describe(tick: "Tick", limit: float | None, *, bar: bool = False) -> str:
    """Elapsed time, limit, progress and where it is, in one line."""
    time = spoken(tick.elapsed)
    if limit is not None:
        time += f" of {spoken(limit)}"
    parts = [time]
    if str(tick.state) == "stopping":
        parts.append("stopping")
    if tick.progress is not None:
        parts.append(_progress(tick.progress, bar))
    line = at_line(tick.where)
    if line:
        parts.append(f"at {line}")
    return "  ".join(parts)


def _progress(value: Any, bar: bool) -> str:
    fraction, text = _fraction(value)
    if fraction is None:
        return text
    share = min(1.0, max(0.0, fraction))
    filled = round(share * BAR)
    drawn = f"[{'#' * filled}{'.' * (BAR - filled)}] " if bar else ""
    return f"{drawn}{share:.0%}{text}"


def _fraction(value: Any) -> tuple[float | None, str]:
    """How much is done from 0 to 1, if the report says so, and its words."""
    if isinstance(value, (int, float)) and not isinstance(value, bool):
        return (float(value), "") if 0 <= value <= 1 else (None, f"{value:g}")
    if isinstance(value, (tuple, list)) and len(value) == 2:
        done, total = value
        if _is_number(done) and _is_number(total) and total > 0:
            return done / total, f" ({done:g}/{total:g})"
    text = value if isinstance(value, str) else repr(value)
    return None, " ".join(text.split())


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def fit(text: str, width: int) -> str:
    """The text cut to so many columns of a terminal, wide characters counted as two."""
    if sum(map(cells, text)) <= width:
        return text
    room = width - 1  # for what shows that something is missing
    for index, char in enumerate(text):
        room -= cells(char)
        if room < 0:
            return text[:index] + "…" if width > 1 else ""
    return ""


def cells(char: str) -> int:
    """The columns that a character takes."""
    if unicodedata.combining(char) or unicodedata.category(char) in ("Mn", "Me", "Cf"):
        return 0
    return 2 if unicodedata.east_asian_width(char) in "WF" else 1


class LiveLine:
    """One line at the bottom of a terminal that is drawn over itself and leaves no trace."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream
        self._shown = False
        self._broken = False  # the program has printed half a line

    def draw(self, text: str) -> None:
        """Show this text instead of the one before."""
        if self._broken:
            return
        try:
            width = os.get_terminal_size(self._stream.fileno()).columns
        except OSError:
            width = 80
        clean = "".join(char if char.isprintable() else " " for char in text)
        self._write("\r" + fit(clean, (width or 80) - 1) + "\x1b[K")
        self._shown = True

    def erase(self) -> None:
        """Take the line away."""
        if self._shown:
            self._shown = False
            self._write("\r\x1b[K")

    def printed(self, text: str) -> None:
        """The program has printed something."""
        if text:
            self._broken = not text.endswith("\n")

    def _write(self, text: str) -> None:
        try:
            self._stream.write(text)
            self._stream.flush()
        except (OSError, ValueError):  # the terminal is gone
            pass

    @contextmanager
    def beside_prints(self) -> "Generator[None, None, None]":
        """Keep the line out of the way of what the program prints to the same terminal."""
        before = sys.stdout, sys.stderr
        if sys.stdout.isatty():
            sys.stdout = _Watched(sys.stdout, self)
        sys.stderr = _Watched(sys.stderr, self)
        try:
            yield
        finally:
            self.erase()
            sys.stdout, sys.stderr = before


class _Watched:
    """A stream of the program: erases the live line before each write and passes everything on."""

    def __init__(self, stream: TextIO, line: LiveLine) -> None:
        self._stream = stream
        self._line = line

    def write(self, text: str) -> int:
        self._line.erase()
        written = self._stream.write(text)
        self._line.printed(text)
        return written

    def writelines(self, lines: Any) -> None:
        for line in lines:
            self.write(line)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)
