"""Who hears of a guard, the owner's handle of a worker or the body of a command; and what is done when nobody will."""

import contextlib
import os
import signal
from typing import Any, Protocol

from .._os import proc, reaper

__all__ = ["Listener", "see_to_the_end"]


class Listener(Protocol):
    """Who wants to hear of a guard."""

    def heard(self, letter: tuple[Any, ...], handle: int | None, /) -> None:
        """A letter came, with a pidfd of the work when that was born."""

    def failed(self, error: Exception, /) -> None:
        """Nothing was started."""

    def lost(self) -> None:
        """The guard is gone without its last letter, and so is the keeper: nobody else is left to kill the work."""

    def let_go(self) -> None:
        """The loop was closed: nothing will be heard any more, so nothing is to be kept open."""


def see_to_the_end(guard: int, worker: int, *, is_alone: bool) -> None:
    """Have a guard that is let go end its work, though it may be stopped.

    Args:
        guard: the number of its process.
        worker: that of the worker; 0 where there is none, or the work is a command.
        is_alone: its keeper is gone, so what a worker has started would come to nobody, should the guard be killed.
    """
    parent = proc.parent_of(worker) if worker else 0
    if parent and parent == guard and not is_alone:
        with contextlib.suppress(OSError):
            os.kill(worker, signal.SIGKILL)
    elif parent and proc.name_of(worker) == "calloff-worker":
        reaper.kill_from_outside(worker)
    with contextlib.suppress(OSError):
        os.kill(guard, signal.SIGCONT)
