"""The owner's handles of guards: each starts one piece of work, hears of it, and can have it killed.

A guard that is killed is a moment later told of by the keeper, which killed what the guard left behind. When that is
gone as well, nobody but the owner is left to do it. And a helper that was stopped, or never comes up, must not hold
anybody up: as long as something is waited for, it is looked after four times a second.
"""

import contextlib
import errno
import os
import signal
import socket
from asyncio import AbstractEventLoop
from contextvars import Context
from time import monotonic
from typing import Any

from .._child.wire import Letters, letter
from .._os import fds, inherit, reaper
from .._words.errors import CalloffError
from . import keepers
from .hearing import Listener, see_to_the_end
from .keeper import QUIET, Keeper
from .standing import Standing
from .watching import Watch

__all__ = ["Guarded"]

_SPACE = socket.CMSG_SPACE(4 * 4) if hasattr(socket, "CMSG_SPACE") else 0
_CLOEXEC = int(getattr(socket, "MSG_CMSG_CLOEXEC", 0))
#: seconds that a keeper has to come up, and after which one that is stopped again and again is killed
_UP, _STOPPED = 5.0, 0.7
#: how often a start is tried when keepers are killed
_TRIES = 3


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
        #: the start was sent; it was read, so that what is unread later is something else
        self._is_sent = self._was_read = False
        #: what was sent behind it
        self._later: list[bytes] = []
        #: there is nothing to be started again
        self._called_off = False
        self._pid = self._guard = 0
        #: its keeper is gone: what it leaves behind, should it be killed, comes to nobody
        self.is_alone: bool = False
        self._since = monotonic()
        self.loop: AbstractEventLoop = loop
        credentials, wanted = inherit.standing()
        self._standing = Standing(credentials, wanted) if kind == "worker" else None
        self._fork(credentials, files)
        self._given = list(files)
        keepers.opened.add(self)
        self._listen()
        self.write("inherit", wanted)
        Watch.of(loop).add(self)

    def _fork(self, credentials: inherit.Credentials, files: list[int]) -> None:
        ours, theirs = fds.pair()
        try:
            ours.setblocking(False)
            self.keeper: Keeper
            self.keeper, self._number = keepers.fork(self.loop, self._kind, credentials, theirs.fileno(), files)
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
        if self._sent is not None:  # its start is waited for
            Watch.of(loop).add(self)
        if self._rest:
            loop.add_writer(self._file, self._writable)

    def is_like_us(self) -> bool:
        """Whether what it started would be the same if it were started now: user, groups, limits, umask, niceness."""
        return self._standing is not None and self.keeper is keepers.used_now() and self._standing.is_ours()

    def write(self, *parts: Any) -> None:
        """Send a letter."""
        self.write_all(parts)

    def write_all(self, *letters: tuple[Any, ...]) -> None:
        """Send letters together."""
        if self._ended:
            return
        kinds = [parts[0] for parts in letters]
        if "kill" in kinds:
            self._called_off = True
            self._since = monotonic()
            Watch.of(self.loop).add(self)
        elif "never" in kinds or ("ask" in kinds and self._kind != "worker"):
            self._called_off = True
        each = [letter(*parts) for parts in letters]
        data = b"".join(each)
        if self._sent is not None:
            self._sent += each
        if self._rest:
            self._rest += data
        else:
            self._send(data)
        if "kill" in kinds and self.loop.is_closed():
            self.close()
            self._listener.let_go()

    def _send(self, data: bytes) -> None:
        if self._is_sent and not self._was_read and self._sent is not None and not fds.is_unread(self._file):
            # of one that is gone nothing is unread any more, but the system has noted that something was
            was_lost = self._socket.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR) == errno.ECONNRESET
            self._was_read, self._unread = not was_lost, self._unread or was_lost
        try:
            sent = self._socket.send(data, QUIET)
        except (BlockingIOError, InterruptedError):
            sent = 0
        except OSError:  # it ended: its last letter is on its way
            self._unread = self._unread or (self._sent is not None and len(self._sent) <= 2)  # nor heard of the start
            return
        if self._sent is not None and (self._is_sent or self._later):
            self._later.append(data[:sent])
        self._is_sent = sent == len(data) and self._sent is not None and len(self._sent) > 1
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
                unread = isinstance(error, ConnectionResetError) and not self._was_read
            else:
                unread = False
            handle = fds.received(extras)
            if not data:
                self._guard_is_gone(unread)
                return
            for mail in self._letters.feed(data):
                if own is self._socket:  # else it was started again meanwhile
                    self._hear(mail, handle if mail[0] == "born" else None)

    def _hear(self, mail: tuple[Any, ...], handle: int | None) -> None:
        kind = mail[0]
        if kind == "born":
            self._pid, self._guard, _ = mail[1:]
            self._settle()
            self.keeper.look()
            Watch.of(self.loop).done(self)
        elif kind == "alone":
            self._guard = mail[1]
            self.is_alone = True
            keepers.dead(self.keeper)
            return
        elif kind == "failed":
            self._guard = 0
            self.close()
        elif kind == "ended":
            self._guard = 0
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
        Watch.of(self.loop).add(self)
        self._listen()

    def _all_are_gone(self) -> None:
        keepers.dead(self.keeper)
        if self._sent is not None and self._unread and self._called_off:
            self._never()
            return
        up = self.keeper.look_at_its_end()
        if self._sent is not None and self._unread and (up or self.keeper.killed) and self._start_again():
            return
        words = self.keeper.words()
        unborn, known = self._sent is not None, self._unread or not self.keeper.pid
        # the guard may be dying still, and the worker is not to die before all below it: the listener sees to that
        self._guard = 0
        self.close()
        if unborn and (known or self._kind != "worker"):
            told = "nothing was started" if known else "it is not known whether anything was started, which may run on"
            self._listener.failed(CalloffError(f"{told}: {words}"))
            return
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
        it starts anything: where the start is unread when ``never`` lies behind it, it finds both. Where it may have been
        read, it is told the rest, as if this had not been asked for.
        """
        if self._ended or self._sent is None or not self._is_untouched():
            return False
        self.write("never")
        if not self._is_untouched():
            return False
        self.close()
        return True

    def _is_untouched(self) -> bool:
        """Whether nobody has read the whole of the start."""
        if self._rest and not self._later:
            return True  # it was not even sent
        return not self._was_read and fds.is_unread(self._file, self._later)

    def guard_words(self, code: int) -> str:
        """How the guard has ended, which should not have, in words; `code` is its exit status."""
        said = "" if code < 0 else self.keeper.said()
        return f"the process that guards the {self._kind} {reaper.ended(code)}" + (f": {said}" if said else "")

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
            keepers.opened.discard(self)
            self._settle()
            Watch.of(self.loop).done(self)
            self._listener.failed(CalloffError(f"nothing was started: {former.words()}"))
            return True
        finally:
            keepers.release(former)
        self._tries += 1
        self._rest, self._letters, self._later, self._since = b"", Letters(), [], monotonic()
        self._unread = self._is_sent = self._was_read = self.is_alone = False
        self._listen()
        self._send(b"".join(letters))
        Watch.of(self.loop).add(self)
        return True

    def expect(self) -> None:
        """The end of the work was seen: its letter is due."""
        if not self._ended:
            self._since = monotonic()
            Watch.of(self.loop).add(self)

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

    def forget(self) -> None:
        """In a fork of the owner: close what is open for it, and touch nothing that the two share."""
        self._ended = True
        self._settle()
        self._socket.close()

    def _abandon_guard(self) -> None:
        """See to it that a guard which is let go ends its work, though it may be stopped, and its keeper gone."""
        if self._sent is not None:  # it may have told what nobody has read yet
            with contextlib.suppress(OSError):
                data, extras, _, _ = self._socket.recvmsg(1 << 12, _SPACE, _CLOEXEC)
                self._take_note(data, extras)
        if self._guard:
            see_to_the_end(self._guard, self._pid if self._kind == "worker" else 0, is_alone=self.is_alone)

    def _take_note(self, data: bytes, extras: list[tuple[int, int, bytes]]) -> None:
        """Note the numbers of the guard and of its work in letters that nobody will hear any more."""
        for mail in self._letters.feed(data):
            if mail[0] == "born":
                self._pid, self._guard, _ = mail[1:]
            elif mail[0] == "alone":
                self._guard, self.is_alone = mail[1], True
        handle = fds.received(extras)
        if handle is not None:
            os.close(handle)

    def born(self) -> tuple[int, int] | None:
        """Pid and pidfd of the work, if it was born and the loop, which may be blocked, has not heard of it yet.

        From any thread; the letter stays where it is, and the loop gets a pidfd of its own.
        """
        try:
            data, extras, _, _ = self._socket.recvmsg(1 << 12, _SPACE, _CLOEXEC | socket.MSG_PEEK)
        except OSError:
            return None
        handle = fds.received(extras)
        if handle is None:
            return None
        return next(mail[1] for mail in Letters().feed(data) if mail[0] == "born"), handle  # the only one with a file

    def survivors(self) -> tuple[str, ...]:
        """Return what lives below the guard, should that not have come to tell in time: a busy machine holds it up."""
        if not self._guard or self._ended:
            return ()
        left = reaper.left_below(self._guard)
        return () if self.is_over() else left

    def is_over(self) -> bool:
        """Whether its last letter has come, though the loop has not heard it yet: the guard may have other work by now."""
        try:
            data = self._socket.recv(1 << 16, socket.MSG_PEEK | socket.MSG_DONTWAIT)
        except OSError:
            return False
        return any(mail[0] == "ended" for mail in Letters().feed(data))

    def close(self) -> None:
        """No more of it; a guard that lives kills its work."""
        if self._ended:
            return
        self._ended = True
        keepers.opened.discard(self)
        self._abandon_guard()
        self._settle()
        self._unlisten()
        self._socket.close()
        Watch.of(self.loop).done(self)
        keepers.release(self.keeper)

    def _unlisten(self) -> None:
        if not self.loop.is_closed():
            self.loop.remove_reader(self._file)
            if self._rest:
                self.loop.remove_writer(self._file)
