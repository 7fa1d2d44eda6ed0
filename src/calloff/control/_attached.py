"""What is brought into a program that was not started to be looked at, and opens its door there (`_attaching` sends it).

It comes at any step of any program: while a lock is held, a module is imported, a thread is started. So nothing is done in
the main thread but to start another one (the one of `_thread`, which takes no lock of Python's and waits for nothing), and
all that can fail happens there. How it went is written to a file, and nothing of it is seen by the program.
"""

import asyncio
import atexit
import sys
from collections.abc import Iterable

from .._os.threads import looks
from . import _server

__all__ = ["open_door", "running_loops"]


def open_door(directory: str, loop: asyncio.AbstractEventLoop | None) -> None:
    """Expose this process until it ends.

    Args:
        directory: where whoever attaches looks for sockets; empty: in the usual places.
        loop: the one of the main thread, where that is known.
    """
    door = _server.keep_open(directory)
    if loop is not None:
        door.loops[loop] = 1
    door.find_loops = running_loops
    atexit.register(_server.let_close)


def running_loops() -> Iterable[asyncio.AbstractEventLoop]:
    """The event loops that run in the threads of this process, as far as their frames tell."""
    found: list[asyncio.AbstractEventLoop] = []
    for frame in next(looks(sys._current_frames)).values():
        step = frame
        while step is not None:
            if step.f_code.co_name == "run_forever":
                loop = step.f_locals.get("self")
                if isinstance(loop, asyncio.AbstractEventLoop):
                    found.append(loop)
            step = step.f_back  # type: ignore[assignment]  # None at the end
    return found
