"""What a program tells the supervisor that has started it: the protocol of ``sd_notify(3)``, without any library.

A service manager puts the address of a datagram socket into the environment (``NOTIFY_SOCKET``; a name in the file
system, or an abstract one of Linux behind ``@``) and reads lines from it: ``READY=1``, ``STOPPING=1``, ``STATUS=...``.
Where it asks for signs of life (``WATCHDOG_USEC``), they are sent by the event loop, twice in that interval: a loop that is
blocked sends none, and the service manager restarts what nobody else would. Nothing is ever waited for, and a manager that
is gone is no error.
"""

import asyncio
import os
import socket
from collections.abc import Callable
from typing import Literal, TypeAlias

__all__ = ["Notify", "Notifier", "notify", "notifier"]

Notify: TypeAlias = Literal["auto", "later"] | None
_WORDS = ("auto", "later", None)
#: the part of the manager's patience after which a sign of life is sent
_PART = 0.5


def notify(*lines: str) -> bool:
    """Send lines to the service manager, if there is one that listens; returns whether they were sent."""
    address = os.environ.get("NOTIFY_SOCKET", "")
    if not address.startswith(("/", "@")) or not hasattr(socket, "AF_UNIX"):
        return False
    if address[0] == "@":
        address = "\0" + address[1:]
    try:
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sender:
            sender.setblocking(False)
            sender.sendto("\n".join(lines).encode(), address)
    except OSError:
        return False
    return True


class Notifier:
    """Tells the service manager of one program.

    Args:
        word: ``"auto"``: it is ready as soon as it has begun; ``"later"``: when `ready` is called.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop, word: Literal["auto", "later"]) -> None:
        self._loop = loop
        self._auto = word == "auto"
        self._every = _watchdog()
        self._timer: asyncio.TimerHandle | None = None
        self._is_ready = self._stopping = False

    def began(self) -> None:
        """The main operation has taken its first step; on the loop's thread."""
        if self._auto:
            self.ready()
        if self._every is not None:
            self._sign_of_life(self._every)

    def ready(self) -> None:
        """The program does what it is there for; the second time nothing happens."""
        if not self._is_ready:
            self._is_ready = True
            notify("READY=1", f"MAINPID={os.getpid()}")

    def stopping(self, bound: float | None = None) -> None:
        """The program ends, and needs at most `bound` seconds for that; the second time nothing happens."""
        if not self._stopping:
            self._stopping = True
            extend = [] if bound is None else [f"EXTEND_TIMEOUT_USEC={int(bound * 1e6)}"]
            notify("STOPPING=1", *extend)

    def close(self) -> None:
        """Send no more signs of life."""
        running.pop(self._loop, None)
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _sign_of_life(self, every: float) -> None:
        notify("WATCHDOG=1")
        self._timer = self._loop.call_later(every, self._sign_of_life, every)


def _watchdog() -> float | None:
    """Seconds between two signs of life; ``None`` where nobody asks for them, or not this process."""
    text, pid = os.environ.get("WATCHDOG_USEC", ""), os.environ.get("WATCHDOG_PID", "")
    if not text.isdecimal() or int(text) == 0 or (pid and pid != str(os.getpid())):
        return None
    return int(text) / 1e6 * _PART


def notifier(word: Notify) -> "Callable[[asyncio.AbstractEventLoop], Notifier | None]":
    """What makes the notifier of a program, when one is asked for and somebody listens.

    Raises:
        ValueError: the word is not known.
    """
    if word not in _WORDS:
        raise ValueError(f'notify must be "auto", "later" or None, not {word!r}')

    def make(loop: asyncio.AbstractEventLoop) -> Notifier | None:
        if word is None or "NOTIFY_SOCKET" not in os.environ:
            return None
        made = Notifier(loop, word)
        running[loop] = made
        return made

    return make


#: those of the programs that run; seldom more than one
running: dict[asyncio.AbstractEventLoop, Notifier] = {}
