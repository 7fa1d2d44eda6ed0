"""A command: how a guard starts it."""

import contextlib
import errno
import os
import signal
from typing import TYPE_CHECKING, Any

from .._os import fds, inherit

if TYPE_CHECKING:
    from .guard import Guard

__all__ = ["launch"]

_ALL = {int(number) for number in signal.valid_signals()} - {signal.SIGKILL, signal.SIGSTOP}


def launch(guard: "Guard", details: dict[str, Any]) -> int:
    """Start the program in a process group of its own, or in that of the owner when it is to have the terminal.

    Where the owner's settings are ours, `posix_spawn` does it: it shares the memory until the exec, so it costs the same
    however large the guard is. Else the guard forks and sets in the child what is different.

    Raises:
        OSError: it can't be started.
    """
    _go_to(details["cwd"], guard)
    wanted = guard.wanted
    if wanted["ignored"] or not inherit.is_like(wanted, guard.own):
        return _forked(guard, details)
    os.umask(wanted["umask"])
    actions: list[tuple[Any, ...]] = [
        (os.POSIX_SPAWN_DUP2, file, number) for number, file in enumerate(guard.files[:3])
    ]
    actions += [(os.POSIX_SPAWN_CLOSE, number) for number in details["closed"]]
    return os.posix_spawn(
        details["program"],
        details["argv"],
        details["env"],
        file_actions=actions,
        setpgroup=details["group"],
        setsigmask=wanted["blocked"],
        setsigdef=_ALL,
    )


def _go_to(cwd: str | None, guard: "Guard") -> None:
    """The guard itself goes to the directory: it has no other use for one.

    Where the owner is, we may not be allowed to go: it may have dropped its privileges since it went there.
    """
    if cwd is None:  # it has no path any more
        os.fchdir(guard.files[3])
        return
    try:
        os.chdir(cwd)
    except OSError:
        if inherit.here() != guard.wanted["here"]:
            raise


def _forked(guard: "Guard", details: dict[str, Any]) -> int:
    """Fork, become like the owner, execute; an error comes back through a pipe that the exec closes."""
    told, tell = fds.pipe()
    pid = os.fork()
    if not pid:
        problem = errno.EINVAL
        try:
            os.setpgid(0, details["group"])
            signal.set_wakeup_fd(-1)
            inherit.take_over(guard.wanted, guard.own)
            for number, file in enumerate(guard.files[:3]):
                os.dup2(file, number)
            for number in details["closed"]:
                os.close(number)
            inherit.dispositions(guard.wanted)
            os.execve(details["program"], details["argv"], details["env"])
        except OSError as error:
            problem = error.errno or 1
        finally:
            with contextlib.suppress(OSError):
                os.write(tell, b"%d" % problem)
            os._exit(127)
    os.close(tell)
    try:
        answer = os.read(told, 16)
    finally:
        os.close(told)
    if answer:
        os.waitpid(pid, 0)
        raise OSError(int(answer), os.strerror(int(answer)))
    return pid
