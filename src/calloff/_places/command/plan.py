"""What is said of a command before it starts, and what is left of it at its end."""

from asyncio import AbstractEventLoop
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Protocol

__all__ = ["NULL", "SAME", "Finished", "Outlet", "Plan", "Stream"]


@dataclass(frozen=True, slots=True)
class Finished:
    """What a command that has ended left behind.

    Attributes:
        argv: the program and its arguments.
        status: its exit status; minus the number of a signal that ended it.
        stdout: what it wrote to standard output, if that was captured.
        stderr: what it wrote to standard error, if that was captured.
        dropped: how many bytes of both, the oldest, were left out because of the limit.
    """

    argv: tuple[str, ...]
    status: int
    stdout: bytes = b""
    stderr: bytes = b""
    dropped: int = 0

    @property
    def text(self) -> str:
        """The standard output as UTF-8 text; what is none becomes U+FFFD."""
        return self.stdout.decode(errors="replace")


class Stream(Protocol):
    """One end of a pipe to the command."""

    def attach(self, loop: AbstractEventLoop) -> int:
        """Make the pipe; returns the command's end."""
        ...

    def finish(self) -> None:
        """The command and all it started are dead."""

    def close(self) -> None:
        """Let go."""


#: a stream, or the number of a file; or what stands for standard output where standard error goes there, too; or nothing
Outlet = Stream | int
SAME, NULL = -1, -2


@dataclass(slots=True)
class Plan:
    """How to start the program.

    Attributes:
        argv: the program and its arguments.
        env: its environment, or ``None`` for ours.
        cwd: its directory, or ``None`` for ours.
        streams: for standard input, output and error.
        signal: what asks it to end.
        check: whether a status other than 0 is a failure.
        foreground: whether it stays in our process group, and so has the terminal.
        given: what the caller gave for the streams: a file must not be closed by the garbage collector before the start.
    """

    argv: tuple[str, ...]
    env: Mapping[str, str] | None
    cwd: str | None
    streams: tuple[Outlet, Outlet, Outlet]
    signal: int
    check: bool
    given: tuple[Any, ...] = ()
    foreground: bool = False
