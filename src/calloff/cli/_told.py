"""Standard error for what is told to people: that nobody can read it changes nothing of what is done."""

import sys

#: known to type checkers: every verb comes by here, and `typing` takes as long to import as Python to start
TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, TextIO

__all__ = ["Told"]


class Told:
    """Have nothing fail for ``sys.stderr``, which may be closed, full, or a pipe that nobody reads any more."""

    def __enter__(self) -> None:
        self._former = sys.stderr
        self._stream = stream = _Stream(self._former)
        sys.stderr = stream  # what is written there needs no more of a stream

    def __exit__(self, *error: object) -> None:
        if not self._stream.failed:  # else the interpreter is not to try again at its exit
            sys.stderr = self._former


class _Stream:
    def __init__(self, stream: "TextIO | None") -> None:
        self._stream = stream
        self.failed = False

    def write(self, text: str) -> int:
        """Write it if that can be."""
        try:
            return len(text) if self._stream is None else self._stream.write(text)
        except (OSError, ValueError):
            self.failed = True
            return len(text)

    def flush(self) -> None:
        """Flush it if that can be."""
        try:
            if self._stream is not None:
                self._stream.flush()
        except (OSError, ValueError):
            self.failed = True

    def isatty(self) -> bool:
        """Whether it is a terminal."""
        return self._stream is not None and self._stream.isatty()

    def __getattr__(self, name: str) -> "Any":
        return getattr(self._stream, name)
