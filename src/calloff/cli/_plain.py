"""How `calloff timeout` starts its program where it can only keep that itself: in the foreground, or without ``/proc``."""

import os

from .._os.reaper import die_with_parent
from ._tree import found

TYPE_CHECKING = False
if TYPE_CHECKING:
    import signal as _signal
    from collections.abc import Collection
    from typing import NoReturn
else:
    import _signal

__all__ = ["spawn"]


def spawn(command: "list[str]", mask: "Collection[int]") -> int:
    """Start the program with the signal dispositions that we were started with; when we are killed it dies, too."""
    told, tell = os.pipe()
    parent = os.getpid()
    pid = os.fork()
    if not pid:
        _become(command, mask, parent, tell)
    os.close(tell)
    number = os.read(told, 16)  # the end, as soon as the program runs
    os.close(told)
    if number:
        os.waitpid(pid, 0)
        raise OSError(int(number), os.strerror(int(number)))
    return pid


def _become(command: "list[str]", mask: "Collection[int]", parent: int, tell: int) -> "NoReturn":
    try:
        die_with_parent(parent)
        for number in (_signal.SIGPIPE, _signal.SIGXFSZ, _signal.SIGTTIN, _signal.SIGTTOU):
            _signal.signal(number, _signal.SIG_DFL)
        _signal.pthread_sigmask(_signal.SIG_SETMASK, mask)
        try:
            os.execvp(command[0], command)
        except OSError as error:
            if error.errno != 8:  # ENOEXEC: a script without a first line that says by what; a shell runs it
                raise
        os.execv("/bin/sh", ["/bin/sh", found(command[0]), *command[1:]])
    except OSError as error:
        os.write(tell, str(error.errno).encode())
    finally:
        os._exit(127)
