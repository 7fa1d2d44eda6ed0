"""The keepers of this process: which one is used now, which are only waited for, and their end with that of the process.

One keeper serves as long as our credentials stay what they are, and lives; the next start makes another one. A keeper that
is not used any more is let go when the last guard is gone which it may have to tell of.
"""

import atexit
import contextlib
import os
import threading
from asyncio import AbstractEventLoop
from collections.abc import Callable
from time import monotonic
from typing import Protocol

from .._os import inherit
from .._words.errors import CalloffError
from .keeper import Keeper
from .watching import Watch

__all__ = ["dead", "fork", "hold", "keepers", "lease", "on_fork", "opened", "release", "shut_down", "used_now"]


class _Open(Protocol):
    """A guard that may be told something, or tell something."""

    def look_after(self, now: float, state: str) -> bool:
        """Have its helpers go on."""
        ...

    def close(self) -> None:
        """No more of it."""

    def forget(self) -> None:
        """In a fork of the owner: close what is open for it."""


#: the guards that are not gone
opened: set[_Open] = set()
#: the one that is used now, and the one for commands that have the terminal
_keeper: Keeper | None = None
_foreground: Keeper | None = None
_retired: set[Keeper] = set()
_lock = threading.Lock()


def used_now() -> Keeper | None:
    """The one that workers and commands are started with now, if there is one."""
    return _keeper


def keepers() -> tuple[Keeper, ...]:
    """Those of this process that may have guards."""
    return tuple(keeper for keeper in (_keeper, _foreground, *_retired) if keeper is not None)


def _keeper_for(loop: AbstractEventLoop, credentials: inherit.Credentials, foreground: bool) -> Keeper:
    """The one to start with, under the credentials that we have."""
    global _keeper, _foreground
    with _lock:
        found = _foreground if foreground else _keeper
        if found is not None and found.credentials == credentials:
            return found
        if not _hooked:
            _hooked.append(True)
            atexit.register(shut_down)
            os.register_at_fork(after_in_child=_forget)
        made = Keeper(loop, credentials, found, foreground=foreground)
        if _leased is not None:
            made.lease(loop, _leased)
        if found is not None:
            _retire_locked(found)
        if foreground:
            _foreground = made
        else:
            _keeper = made
        return made


def _retire_locked(keeper: Keeper) -> None:
    """No more is started by it; it is let go as soon as nobody needs to be told anything by it."""
    if keeper.uses:
        _retired.add(keeper)
    else:
        keeper.close(0)


def release(keeper: Keeper) -> None:
    """One guard less."""
    with _lock:
        keeper.uses -= 1
        if not keeper.uses and keeper in _retired:
            _retired.discard(keeper)
            keeper.close(0)


def dead(keeper: Keeper) -> None:
    """It is of no use any more: the next start makes another one."""
    global _keeper, _foreground
    with _lock:
        if _keeper is keeper:
            _keeper = None
        elif _foreground is keeper:
            _foreground = None
        else:
            return
        _retire_locked(keeper)


def fork(
    loop: AbstractEventLoop, kind: str, credentials: inherit.Credentials, control: int, files: list[int]
) -> tuple[Keeper, int]:
    """Have a guard forked, with copies of the files, by a new keeper if the one before was killed."""
    words = ""
    for _ in range(2):
        mine = _keeper_for(loop, credentials, kind == "foreground")
        try:
            if kind == "worker":
                mine.prepare(loop)
            number = mine.fork(loop, kind, [control, *files])
        except OSError:
            words = mine.words()
            dead(mine)
        else:
            with _lock:
                mine.uses += 1
            return mine, number
    raise CalloffError(f"nothing was started: {words}")


def hold(loop: AbstractEventLoop, file: int) -> Callable[[], None]:
    """Have a copy of the file (a lock, say) kept open until all that this process has started is dead, even after SIGKILL.

    Returns:
        What lets go of it before.

    Raises:
        OSError, CalloffError: there is nobody who could.
    """
    keeper = _keeper_for(loop, inherit.standing()[0], False)
    number = keeper.hold(loop, file)

    def drop() -> None:
        with contextlib.suppress(OSError):  # the keeper is gone, and the copy with it
            keeper.drop(loop, number)

    return drop


def lease(file: int) -> None:
    """Have whatever this process starts killed when the lease in that file is over; called before the first start."""
    global _leased
    _leased = file


_hooked: list[bool] = []
_leased: int | None = None


def shut_down() -> None:
    """At exit: nothing of ours stays behind."""
    global _keeper, _foreground
    now = monotonic()
    for guarded in tuple(opened):
        guarded.look_after(now, "")
        guarded.close()
    mine = keepers()
    _keeper = _foreground = None
    _retired.clear()
    for keeper in mine:
        keeper.retire()
    for keeper in mine:
        keeper.close(1.0)


def _forget() -> None:
    """A fork of the owner must not hold the sockets open: their end is the sign that the owner is gone."""
    global _lock, _keeper, _foreground
    _lock = threading.Lock()
    for keeper in keepers():
        keeper.forget()
    _keeper = _foreground = None
    _retired.clear()
    Watch.all.clear()
    for guarded in tuple(opened):
        guarded.forget()
    opened.clear()
    for let_go in _forgetters:
        let_go()


def on_fork(let_go: Callable[[], None]) -> None:
    """What else a fork of the owner must let go of."""
    _forgetters.append(let_go)


_forgetters: list[Callable[[], None]] = []
