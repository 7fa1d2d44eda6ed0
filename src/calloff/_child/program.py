"""A command: how a guard starts it."""

import os
import signal
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .guard import Guard

__all__ = ["launch"]

#: what Python ignores and a program expects not to be; and what was ignored only for the keeper's sake
_RESTORED = (signal.SIGPIPE, signal.SIGXFSZ, signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


def launch(guard: "Guard", details: dict[str, Any]) -> int:
    """Start the program in a process group of its own.

    The guard itself goes to the directory: it has no other use for one. `posix_spawn` shares the memory until the exec,
    so it costs the same however large the guard is.

    Raises:
        OSError: it can't be started.
    """
    os.chdir(details["cwd"])
    ignored = {number for number in _RESTORED if number in details["ignored"]}
    for number in ignored:
        signal.signal(number, signal.SIG_IGN)
    return os.posix_spawn(
        details["program"],
        details["argv"],
        details["env"],
        file_actions=[(os.POSIX_SPAWN_DUP2, file, number) for number, file in enumerate(guard.files)],
        setpgroup=0,
        setsigmask=(),
        setsigdef=[number for number in _RESTORED if number not in ignored],
    )
