"""Standard error for what is told to people: that nobody can read it changes nothing of what is done."""

import sys
from collections.abc import Generator
from contextlib import contextmanager
from typing import Any, TextIO, cast

__all__ = ["told"]


@contextmanager
def told() -> Generator[None]:
    """Have nothing fail for ``sys.stderr``, which may be closed, full, or a pipe that nobody reads any more."""
    former = sys.stderr
    stream = _Told(former)
    sys.stderr = cast(TextIO, stream)
    try:
        yield
    finally:
        if not stream.failed:  # else the interpreter is not to try again at its exit
            sys.stderr = former


class _Told:
    def __init__(self, stream: TextIO | None) -> None:
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

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)
