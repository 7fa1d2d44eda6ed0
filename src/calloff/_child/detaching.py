"""How the keeper becomes nobody's child, and keeps no file but its own."""

import contextlib
import os
import select

from .._os import proc

__all__ = ["close_all_but", "detach", "handle", "has_hung_up"]


def handle(pid: int) -> int:
    """A pidfd, or -1 where the system has none: then the end of a socket has to do."""
    try:
        return os.pidfd_open(pid)
    except (OSError, AttributeError):
        return -1


def has_hung_up(file: int) -> bool:
    """Whether the other end of a socket is closed."""
    looking = select.poll()
    looking.register(file, 0)
    return bool(looking.poll(0))


def detach() -> None:
    """Go on in a child, whose parent ends at once; when this returns that has happened."""
    gone, mine = os.pipe()
    if os.fork():
        os._exit(0)
    os.close(mine)
    os.read(gone, 1)
    os.close(gone)


def close_all_but(kept: set[int]) -> None:
    """Close all files but these."""
    try:
        numbers = [int(name) for name in os.listdir("/proc/self/fd" if proc.believed() else "/dev/fd")]
    except OSError:
        numbers = list(range(256))
    for number in numbers:
        if number not in kept:
            with contextlib.suppress(OSError):
                os.close(number)
