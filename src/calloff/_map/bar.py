"""How far a map is, in words, and shown: drawn over itself on a terminal or in a notebook, else a line now and then."""

import os
import sys
import time
from collections.abc import Callable
from typing import Any, NamedTuple, TextIO

from .._operation.operation import Operation
from .._words.durations_text import spoken
from .._words.frame import at_line
from .drawn import SLOW, drawn, erased
from .flight import Counts

__all__ = ["Bar", "Progress", "width_of"]

#: seconds between two looks on a terminal, and between two lines elsewhere
LIVE, LINES = 0.25, 10.0
_WIDTH = 20


class Progress(NamedTuple):
    """How far a map is.

    Attributes:
        counts: items by what became of them.
        total: how many there are, where that is known.
        elapsed: seconds since the begin.
        slowest: the operation that has run longest, if any runs.
    """

    counts: Counts
    total: int | None
    elapsed: float
    slowest: Operation[Any] | None

    @property
    def ended(self) -> int:
        """How many items have ended in this run."""
        return self.counts.completed + self.counts.failed

    @property
    def rate(self) -> float:
        """How many end in a second."""
        return self.ended / self.elapsed if self.elapsed > 0 else 0.0

    @property
    def left(self) -> float | None:
        """Seconds that are left if it goes on like this; ``None`` where that can't be told."""
        if not self.total or not self.rate:
            return None
        return max(0, self.total - self.ended - self.counts.skipped) / self.rate

    @property
    def share(self) -> float | None:
        """Which part is done, from 0 to 1, where the total is known."""
        return min(1.0, (self.ended + self.counts.skipped) / self.total) if self.total else None

    def text(self, *, bar: bool = False) -> str:
        """All of it in one line."""
        parts = [str(self.counts), f"{self.rate:.3g}/s"]
        share = self.share
        if share is not None:
            filled = round(share * _WIDTH)
            drawn = f"[{'#' * filled}{'.' * (_WIDTH - filled)}] " if bar else ""
            parts.insert(0, f"{drawn}{share:.0%} of {self.total}")
        left = self.left
        if left:
            parts.append(f"{spoken(left)} left")
        slowest = self.slowest
        if slowest is not None and slowest.elapsed >= SLOW:
            line = at_line(slowest.where())
            parts.append(f"slowest {spoken(slowest.elapsed)}" + (f" at {line}" if line else ""))
        return "  ".join(parts)

    def __str__(self) -> str:
        return self.text()


class Bar:
    """Shows it on stderr; made for ``progress=True``."""

    def __init__(self, name: str) -> None:
        self._name = name
        self._show: Callable[[str], object] | None = None
        stream = sys.stderr
        self._is_live = stream.isatty() and os.environ.get("TERM", "") not in ("", "dumb")
        if not self._is_live and "ipykernel" in sys.modules:
            self._show = _in_notebook()
        self._due = time.monotonic() + (0.0 if self._is_live or self._show else LINES)

    def __call__(self, progress: Progress, *, last: bool = False) -> None:
        """Show it, if it is time for that; the last one always."""
        now = time.monotonic()
        if now < self._due and not last:
            return
        live = self._is_live or self._show is not None
        self._due = now + (LIVE if live else LINES)
        stream = sys.stderr
        if self._is_live:
            # in the end there is no second line: it would stand where the cursor goes
            shown = progress._replace(slowest=None) if last else progress
            stream.write(erased() + drawn(self._name, shown, width_of(stream)) + ("\n" if last else ""))
            stream.flush()
            return
        text = f"{self._name}: {progress.text(bar=live)}"
        if self._show is not None:
            self._show(text)
        else:
            stream.write(text + "\n")
            stream.flush()


def width_of(stream: TextIO) -> int:
    """The columns of a terminal."""
    try:
        return os.get_terminal_size(stream.fileno()).columns or 80
    except (OSError, ValueError):
        return 80


def _in_notebook() -> Callable[[str], object] | None:
    """A line of a notebook that is written anew; ``None`` where there is none after all."""
    try:
        from IPython.display import display  # type: ignore[import-not-found, unused-ignore]  # only where it is there
    except ImportError:
        return None
    handle: Any = display({"text/plain": ""}, raw=True, display_id=True)
    return lambda text: handle.update({"text/plain": text}, raw=True)
