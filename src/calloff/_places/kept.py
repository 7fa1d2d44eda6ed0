"""The owner's handles of guards: each starts one piece of work, hears of it, and can have it killed.

A guard that is killed is a moment later told of by the keeper, which killed what the guard left behind. When that is
gone as well, nobody but the owner is left to do it. And a helper that was stopped, or never comes up, must not hold
anybody up: as long as something is waited for, it is looked after four times a second.
"""

import array
import atexit
import contextlib
import os
import signal
import socket
import threading
from asyncio import AbstractEventLoop, TimerHandle
from collections.abc import Callable, Sequence
from contextvars import Context
from time import monotonic, sleep
from typing import Any, ClassVar, Protocol

from .._child.wire import Letters, letter
from .._os import fds, inherit, proc
from .._os.fds import Files
from .._words.errors import CalloffError
from .keeper import QUIET, Keeper

__all__ = ["Guarded", "Listener", "ended", "hold", "keepers", "lease", "on_fork", "shut_down"]

_SPACE = socket.CMSG_SPACE(4 * 4) if hasattr(socket, "CMSG_SPACE") else 0
_CLOEXEC = int(getattr(socket, "MSG_CMSG_CLOEXEC", 0))
#: seconds between two looks at the helpers as long as something is waited for
_LOOK = 0.25
#: seconds that a keeper has to come up, and after which one that is stopped again and again is killed
_UP, _STOPPED = 5.0, 0.7
#: seconds for killing all of a tree, and then for its root to be dead, where nobody is left to reap it for us
_KILLING, _DYING = 0.7, 0.2
#: how often a start is tried when keepers are killed
_TRIES = 3
#: seconds that credentials which were read count as those of now, for workers that are warm
_FRESH = 0.01


class Listener(Protocol):
    """Who wants to hear of a guard."""

    def heard(self, letter: tuple[Any, ...], handle: int | None, /) -> None:
        """A letter came, with a pidfd of the work when that was born."""

    def failed(self, error: Exception, /) -> None:
        """Nothing was started."""

    def lost(self) -> None:
        """The guard is gone without its last letter, and so is the keeper."""

    def let_go(self) -> None:
        """The loop was closed: nothing will be heard any more, so nothing is to be kept open."""


class Guarded:
    """The control socket to one guard.

    Args:
        loop: the loop that listens.
        kind: ``worker``, ``command``, or ``foreground`` for a command that has the terminal.
        files: those of the work; given away, unless this raises.
        listener: hears the letters.

    Raises:
        CalloffError: this system, or this program, can't start processes for calloff.
        OSError: no files or processes are left.
    """

    def __init__(self, loop: AbstractEventLoop, kind: str, files: list[int], listener: Listener) -> None:
        self._listener = listener
        self._letters = Letters()
        self._rest = b""
        self._ended = False
        self._kind = kind
        #: until it is born, what was sent, to be sent to another guard if this one never comes to it
        self._sent: list[bytes] | None = []
        self._given: list[int] = []
        self._tries = 1
        self._unread = False
        #: there is nothing to be started again
        self._called_off = False
        self._pid = self._guard = 0
        self._since = monotonic()
        self.loop: AbstractEventLoop = loop
        credentials, wanted = inherit.standing()
        _seen.note(credentials, wanted["limits"])
        self._umask: int = wanted["umask"]
        self._marks = inherit.marks(self._umask) if kind == "worker" else None
        self._limits: list[tuple[int, int]] = wanted["limits"]
        self._fork(credentials, files)
        self._given = list(files)
        _open.add(self)
        self._listen()
        self.write("inherit", wanted)
        _Watch.of(loop).add(self)

    def _fork(self, credentials: inherit.Credentials, files: list[int]) -> None:
        ours, theirs = fds.pair()
        try:
            ours.setblocking(False)
            self.keeper: Keeper
            self.keeper, self._number = _fork(self.loop, self._kind, credentials, theirs.fileno(), files)
        except BaseException:
            ours.close()
            raise
        finally:
            theirs.close()
        self._socket = ours
        self._file = ours.fileno()

    def _listen(self) -> None:
        Context().run(self.loop.add_reader, self._file, self._readable)

    def move(self, loop: AbstractEventLoop) -> None:
        """Listen on another loop: the one before was closed."""
        self.loop = loop
        self._listen()

    def is_like_us(self) -> bool:
        """Whether what it started would be the same if it were started now: user, groups, limits, umask, niceness.

        The rest of the credentials changes once in a program's life if ever, and takes longer to read than a function
        takes to be sent and back: what was read of it counts for a moment. So do limits, as long as no code of Python's
        can have changed them.
        """
        if self.keeper is not _keeper or inherit.marks(self._umask) != self._marks:
            return False
        if monotonic() - _seen.at > _FRESH:
            _seen.note(inherit.credentials(), inherit.limits())
        elif inherit.may_set_limits() and inherit.limits() != self._limits:
            return False
        return _seen.credentials == self.keeper.credentials and _seen.limits == self._limits

    def write(self, *parts: Any) -> None:
        """Send a letter."""
        if self._ended:
            return
        if parts[0] == "kill":
            self._called_off = True
            self._since = monotonic()
            _Watch.of(self.loop).add(self)
        elif parts[0] == "ask" and self._kind != "worker":
            self._called_off = True
        data = letter(*parts)
        if self._sent is not None:
            self._sent.append(data)
        if self._rest:
            self._rest += data
        else:
            self._send(data)
        if parts[0] == "kill" and self.loop.is_closed():
            self.close()
            self._listener.let_go()

    def _send(self, data: bytes) -> None:
        try:
            sent = self._socket.send(data, QUIET)
        except (BlockingIOError, InterruptedError):
            sent = 0
        except OSError:  # it ended: its last letter is on its way
            self._unread = self._unread or (
                self._sent is not None and len(self._sent) <= 2
            )  # it never heard of the start
            return
        if sent < len(data):
            self._rest = data[sent:]
            self.loop.add_writer(self._file, self._writable)

    def _writable(self) -> None:
        self.loop.remove_writer(self._file)
        data, self._rest = self._rest, b""
        self._send(data)

    def _readable(self) -> None:
        while not self._ended:
            own = self._socket
            try:
                data, extras, _, _ = own.recvmsg(1 << 16, _SPACE, _CLOEXEC)
            except (BlockingIOError, InterruptedError):
                return
            except OSError as error:
                data, extras = b"", []
                unread = isinstance(error, ConnectionResetError)
            else:
                unread = False
            handle = _handle_in(extras)
            if not data:
                self._guard_is_gone(unread)
                return
            for mail in self._letters.feed(data):
                if own is self._socket:  # else it was started again meanwhile
                    self._hear(mail, handle if mail[0] == "born" else None)

    def _hear(self, mail: tuple[Any, ...], handle: int | None) -> None:
        kind = mail[0]
        if kind == "born":
            self._pid, self._guard = mail[1:]
            self._settle()
            self.keeper.look()
            _Watch.of(self.loop).done(self)
        elif kind == "failed":
            self.close()
        elif kind == "ended":
            self.keeper.look()
            if self._sent is not None and not mail[1].get("launched", True) and not mail[1]["survivors"]:
                self._begin_again(mail[1]["guard"])
                return
            if mail[1]["survivors"]:
                self._letters = Letters()  # it tells once more, when they are gone
            else:
                self.close()
        elif kind == "gone":
            self.close()
        self._listener.heard(mail, handle)

    def _settle(self) -> None:
        """It is known what became of the start."""
        self._sent = None
        given, self._given = self._given, []
        for file in given:
            os.close(file)

    def _guard_is_gone(self, unread: bool) -> None:
        """Without a last word. The keeper kills what is left, and tells; if it can.

        Args:
            unread: whether something that was sent was never read.
        """
        self._unread = unread or self._unread
        number, self._number = self._number, -1
        try:
            if number < 0:  # the keeper was to tell, and is gone, too
                raise BrokenPipeError
            ours, theirs = fds.pair()
        except OSError:
            self._all_are_gone()
            return
        ours.setblocking(False)
        try:
            self.keeper.tell(self.loop, number, theirs.fileno(), self._pid)
        except OSError:
            ours.close()
            self._all_are_gone()
            return
        finally:
            theirs.close()
        self._unlisten()
        self._socket.close()
        self._socket, self._file, self._rest, self._letters = ours, ours.fileno(), b"", Letters()
        self._since = monotonic()
        _Watch.of(self.loop).add(self)
        self._listen()

    def _all_are_gone(self) -> None:
        _dead(self.keeper)
        if self._sent is not None and self._unread and self._called_off:
            self._never()
            return
        up = self.keeper.look()
        if self._sent is not None and self._unread and (up or self.keeper.killed) and self._start_again():
            return
        words = self.keeper.words()
        unborn, known = self._sent is not None, self._unread or not self.keeper.pid
        self.close()
        if unborn and (known or self._kind != "worker"):
            told = "nothing was started" if known else "it is not known whether anything was started"
            self._listener.failed(CalloffError(f"{told}: {words}"))
            return
        if self._pid:
            _kill_tree(self._pid)
        self._listener.lost()

    def _begin_again(self, code: int) -> None:
        """The guard was killed before it came to this; nothing was started, so another one can."""
        if self._called_off:
            self._never()
            return
        words = self.guard_words(code)
        if not self._start_again():
            self.close()
            self._listener.failed(CalloffError(f"nothing was started: {words}"))

    def _never(self) -> None:
        """It was called off, and nothing was started."""
        self.close()
        how = {"status": None, "cause": "never", "asked": False, "begun": 0, "refused": 0, "survivors": ()}
        self._listener.heard(("ended", how), None)

    def withdraw(self) -> bool:
        """Take the start back, as long as nobody has come to it; whether nothing was started, and nothing ever will be.

        A keeper that is about to come up, or was stopped, need not be waited for. What was sent to a guard it reads before
        it starts anything, and behind that it finds the end.
        """
        if self._ended or self._sent is None or not (self._rest or fds.is_unread(self._file)):
            return False
        try:
            self._socket.shutdown(socket.SHUT_WR)
        except OSError:  # the guard has ended: its letters tell
            return False
        if not (self._rest or fds.is_unread(self._file)):
            return False
        self.close()
        return True

    def guard_words(self, code: int) -> str:
        """How the guard has ended, which should not have, in words; `code` is its exit status."""
        said = "" if code < 0 else self.keeper.said()
        return f"the process that guards the {self._kind} {ended(code)}" + (f": {said}" if said else "")

    def _start_again(self) -> bool:
        """Nobody has come to this; nothing was started, so another guard, of a new keeper if need be, can."""
        letters = self._sent
        if letters is None or self._tries >= _TRIES:
            return False
        former = self.keeper
        self._unlisten()
        self._socket.close()
        try:
            self._fork(inherit.credentials(), self._given)
        except (OSError, CalloffError):
            self._ended = True  # and closed
            _open.discard(self)
            self._settle()
            _Watch.of(self.loop).done(self)
            self._listener.failed(CalloffError(f"nothing was started: {former.words()}"))
            return True
        finally:
            _release(former)
        self._tries += 1
        self._rest, self._letters, self._unread, self._since = b"", Letters(), False, monotonic()
        self._listen()
        self._send(b"".join(letters))
        _Watch.of(self.loop).add(self)
        return True

    def expect(self) -> None:
        """The end of the work was seen: its letter is due."""
        if not self._ended:
            self._since = monotonic()
            _Watch.of(self.loop).add(self)

    def look_after(self, now: float, state: str) -> bool:
        """It is waited for, and its keeper was in that state: whether waiting has a point."""
        keeper, waited = self.keeper, now - self._since
        if (waited > _UP and not keeper.pid) or (waited > _STOPPED and state in ("T", "t")):
            keeper.kill()
            return False
        if self._guard and self._number >= 0 and not self._ended:
            with contextlib.suppress(OSError):  # its keeper continues it, if there is one
                os.kill(self._guard, signal.SIGCONT)
        return not self._ended

    def bury(self) -> None:
        """End a worker which has lost its guard, and which nobody else will end: at exit."""
        if self._pid and self._kind == "worker" and proc.parent_of(self._pid) not in (0, self._guard):
            if proc.name_of(self._pid) == "calloff-worker":
                _kill_tree(self._pid)

    def born(self) -> tuple[int, int] | None:
        """Pid and pidfd of the work, if it was born and the loop, which may be blocked, has not heard of it yet.

        From any thread; the letter stays where it is, and the loop gets a pidfd of its own.
        """
        try:
            data, extras, _, _ = self._socket.recvmsg(1 << 12, _SPACE, _CLOEXEC | socket.MSG_PEEK)
        except OSError:
            return None
        handle = _handle_in(extras)
        if handle is None:
            return None
        return Letters().feed(data)[0][1], handle  # it is the first letter, and the only one with a file

    def close(self) -> None:
        """No more of it; a guard that lives kills its work."""
        if self._ended:
            return
        self._ended = True
        _open.discard(self)
        self._settle()
        self._unlisten()
        self._socket.close()
        _Watch.of(self.loop).done(self)
        _release(self.keeper)

    def _unlisten(self) -> None:
        if not self.loop.is_closed():
            self.loop.remove_reader(self._file)
            if self._rest:
                self.loop.remove_writer(self._file)


def ended(code: int) -> str:
    """How a process has ended, by its exit status, or minus the number of a signal."""
    if code >= 0:
        return f"exited with status {code}"
    try:
        return f"was killed by {signal.Signals(-code).name}"
    except ValueError:
        return f"was killed by signal {-code}"


def _handle_in(extras: Sequence[tuple[int, int, bytes]]) -> int | None:
    """The file that came with a message."""
    for _, _, files in extras:
        return array.array("i", files[:4])[0]
    return None


def _kill_tree(root: int) -> None:
    """Both helpers of some work were killed: end what can be found of it.

    A worker was stopped by that, and is a subreaper: as long as it is there, all that descends from it is below it.
    """
    with contextlib.suppress(OSError, AttributeError), Files() as files:
        handle = files.add(os.pidfd_open(root))
        until = monotonic() + _KILLING
        while monotonic() < until:
            below = [pid for pid, _ in proc.descendants(root) if proc.state_of(pid) not in ("Z", "X", "")]
            if not below:
                break
            for pid in below:
                with contextlib.suppress(OSError):
                    os.kill(pid, signal.SIGKILL)
            sleep(0.002)
        for kill in (os.kill, os.killpg):
            with contextlib.suppress(OSError):
                kill(root, signal.SIGKILL)
        fds.is_readable(handle, _DYING)


class _Watch:
    """Looks after the helpers of what is waited for on one loop: a start, or an end that was ordered."""

    all: ClassVar[dict[AbstractEventLoop, "_Watch"]] = {}

    def __init__(self, loop: AbstractEventLoop) -> None:
        self._loop = loop
        self._waited: dict[Guarded, None] = {}
        self._timer: TimerHandle | None = None

    @classmethod
    def of(cls, loop: AbstractEventLoop) -> "_Watch":
        """The one of this loop."""
        found = cls.all.get(loop)
        if found is None:
            for closed in [known for known in cls.all if known.is_closed()]:
                del cls.all[closed]
            found = cls.all[loop] = cls(loop)
        return found

    def add(self, guarded: Guarded) -> None:
        """A letter of it is due."""
        self._waited[guarded] = None
        if self._timer is None and not self._loop.is_closed():
            self._timer = Context().run(self._loop.call_later, _LOOK, self._look)

    def done(self, guarded: Guarded) -> None:
        """The letter came."""
        self._waited.pop(guarded, None)

    def _look(self) -> None:
        self._timer = None
        now = monotonic()
        states = {keeper: keeper.go_on() for keeper in {guarded.keeper for guarded in self._waited}}
        for guarded in [each for each in self._waited if not each.look_after(now, states[each.keeper])]:
            del self._waited[guarded]
        if self._waited:
            self._timer = Context().run(self._loop.call_later, _LOOK, self._look)


class _Seen:
    """The credentials and limits that were read last, and when."""

    def __init__(self) -> None:
        self.at = 0.0
        self.credentials: inherit.Credentials = ()
        self.limits: list[tuple[int, int]] = []

    def note(self, credentials: inherit.Credentials, limits: list[tuple[int, int]]) -> None:
        """These are ours now."""
        self.at, self.credentials, self.limits = monotonic(), credentials, limits


_seen = _Seen()
_open: set[Guarded] = set()
#: the one that is used now, and the one for commands that have the terminal
_keeper: Keeper | None = None
_foreground: Keeper | None = None
_retired: set[Keeper] = set()
_lock = threading.Lock()


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


def _release(keeper: Keeper) -> None:
    """One guard less."""
    with _lock:
        keeper.uses -= 1
        if not keeper.uses and keeper in _retired:
            _retired.discard(keeper)
            keeper.close(0)


def _dead(keeper: Keeper) -> None:
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


def _fork(
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
            _dead(mine)
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
    for guarded in tuple(_open):
        guarded.look_after(now, "")
        guarded.bury()
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
    _Watch.all.clear()
    for guarded in tuple(_open):
        guarded._ended = True
        guarded._settle()
        guarded._socket.close()
    _open.clear()
    for let_go in _forgetters:
        let_go()


def on_fork(let_go: Callable[[], None]) -> None:
    """What else a fork of the owner must let go of."""
    _forgetters.append(let_go)


_forgetters: list[Callable[[], None]] = []
