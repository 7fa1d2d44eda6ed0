"""Looking at a running operation: a line each time, or on a terminal one live line that is drawn over itself.

The live line is on stderr. When stdout goes to a terminal too, the program's prints and the live line would run into
each other; so the streams of the program are watched: before it prints the line is erased, and it is not drawn while
the cursor stands behind an unfinished line of the program. What the program writes is passed on as it is.
"""

import os
import sys
from collections.abc import Generator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, TextIO

from .._words.durations_text import spoken
from .._words.frame import at_line
from ._text import clean, fit, printable, progress_text

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
        parts.append(progress_text(tick.progress, BAR if bar else 0))
    line = clean(at_line(tick.where))
    if line:
        parts.append(f"at {line}")
    return "  ".join(parts)


class LiveLine:
    """One line at the bottom of a terminal that is drawn over itself and leaves no trace."""

    def __init__(self, stream: TextIO) -> None:
        self.stream = stream
        self._shown = False
        self._broken = False  # the program has printed half a line

    def draw(self, text: str) -> None:
        """Show this text instead of the one before."""
        if self._broken:
            return
        try:
            width = os.get_terminal_size(self.stream.fileno()).columns
        except OSError:
            width = 80
        self._write("\r" + fit(printable(text), (width or 80) - 1) + "\x1b[K")
        self._shown = True

    def draw_over(self, made: str) -> None:
        """Show what was drawn for a terminal, instead of what was there; it leaves the cursor where it was."""
        if self._broken:
            return
        self._write(f"\r\x1b[J{made}")
        self._shown = True

    def erase(self) -> None:
        """Take the line away, and what stands below it."""
        if self._shown:
            self._shown = False
            self._write("\r\x1b[J")

    def printed(self, text: str) -> None:
        """The program has printed something."""
        if text:
            self._broken = not text.endswith("\n")

    def _write(self, text: str) -> None:
        try:
            self.stream.write(text)
            self.stream.flush()
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
