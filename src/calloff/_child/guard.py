"""One guard per worker and per command: it starts the work below it and sees to it that nothing of it survives.

It listens to its owner, to the owner's life and to its own children. The work and everything that descends from it is
killed when the owner says so, when the deadline that the owner left here has passed (whether or not the owner is able
to look at a clock), when the owner is gone, and when the work itself has ended. Only when all of it is dead and reaped
does the guard say ``ended``; that letter is the verdict.

An owner that is held up asks too late, or never. So the guard knows when it ought to, and asks in its place; the grace
then counts from that moment.

The messages are in the table of `calloff._child`.
"""

import _socket
import array
import contextlib
import os
import select
import signal
import time
from _socket import SCM_RIGHTS, SOL_SOCKET
from _socket import socket as Socket
from collections.abc import Callable
from math import inf
from typing import Any

from .._os import fds, inherit, proc, reaper
from .lease import Lease
from .page import Page
from .wire import DUMP, Letters, letter, reminder

__all__ = ["QUIET", "Guard", "Launch", "send", "wake_on_children"]

ITSELF, KILL, LIMIT, NEVER, LEASE = "itself", "kill", "limit", "never", "lease"

#: seconds between two looks at a lease, at most: its clock goes on while the machine sleeps, and that of a poll does not
_LEASED = 1.0

#: seconds until a worker is asked again (its event loop may be blocked, a module be imported), and how many at most
#: after further times: as long as the asking has not arrived, and then
_AGAIN, _AGAIN_AT_MOST, _LOOK_AT_MOST = 0.025, 0.1, 0.8
#: and where it was found busy with a lock, which it will have given back in a moment
_HELD = 0.003
#: seconds between two looks for the job that was given to an idle worker when the clock rang, and how many at most
_ON_ITS_WAY, _LOOKS = 1.0, 3
#: seconds of trying to kill before the survivors are told; and between two attempts afterwards, at most
_PATIENCE, _LONG_PAUSE = 0.7, 1.0
#: seconds that a worker has to show where it is when its owner is held up: until its turn comes, and then
_TURN, _SHOWN = 0.2, 0.01
#: seconds for which a guard is stopped at most when its owner or its keeper is gone
_STOPPED = 0.5
#: no signal for a socket that nobody reads any more
QUIET = int(getattr(_socket, "MSG_NOSIGNAL", 0))


def wake_on_children() -> tuple[int, int]:
    """A pipe whose first end becomes readable whenever a child has ended; the second is ours to close after a fork."""
    readable, writable = fds.pipe(os.O_NONBLOCK)
    signal.set_wakeup_fd(writable, warn_on_full_buffer=False)
    signal.signal(signal.SIGCHLD, lambda *_: None)
    signal.signal(signal.SIGCONT, lambda *_: None)  # so that it wakes, too
    return readable, writable


def send(control: Socket, data: bytes, handle: int | None = None) -> None:
    """Send to an owner, with a file or none; nothing happens when the owner is gone."""
    extra = [] if handle is None else [(SOL_SOCKET, SCM_RIGHTS, array.array("i", [handle]))]
    with contextlib.suppress(OSError):
        control.setblocking(True)
        control.sendmsg([data], extra, QUIET)
        control.setblocking(False)


class Guard:
    """The life of a guard.

    Args:
        control: the socket to the owner.
        owner: a pidfd of the owner, or -1.
        keeper: the process that forks it.
        launch: starts the work as a child and returns its number.
        kind: ``worker``, ``command``, or ``foreground`` for a command in the process group of the owner.
        files: the files of the work, in its order.
        page: shared with the work, if that is a worker, and with the keeper.
        own: the settings that the guard has itself.
        lease: until when whoever the owner works for is believed to live, if that is not the owner itself.
    """

    def __init__(
        self,
        control: Socket,
        owner: int,
        keeper: int,
        launch: "Launch",
        *,
        kind: str,
        files: list[int],
        page: Page,
        own: inherit.Settings,
        lease: Lease | None = None,
    ) -> None:
        self.files = files
        self.page = page
        self.kind = kind
        self.own = own
        self.wanted: inherit.Settings = own
        """The settings that the work is to have."""
        self._control = control
        self._owner = owner
        self._keeper = keeper
        """Its number, or 0 once it is known to be gone."""
        self._lease = lease
        self._launch = launch
        self._letters = Letters()
        self._mail: list[tuple[Any, ...]] = []
        self._woken, self._waker = wake_on_children()
        self._poll = select.poll()
        for file in (control.fileno(), owner, self._woken):
            if file >= 0:
                self._poll.register(file, select.POLLIN)
        fds.go_on_with(control.fileno())
        self._reaper = reaper.Reaper()
        self._asked = False
        self._job = 0
        self._signal = 0
        """Which one asks the work; 0 once those left of a command's group that ignore it were asked by another."""
        self._again: float | None = None
        self._pausing = _AGAIN
        self._limit: float | None = None
        self._limited = 0
        self._born_at = 0.0
        self._reminder: tuple[float, int, tuple[Any, ...]] | None = None
        """When the owner ought to have asked, by which signal, and why."""
        self._looks = _LOOKS
        """How often it is still looked for a job, where the clock rang and there was none."""
        self._gone = False

    def run(self) -> bool:
        """Start the work, watch over it, bury it, tell.

        Returns:
            Whether this process could guard something else now: nothing is below it, and keeper and owner are there.
        """
        self._look_for_keeper()
        cause = self._begin() or self._read()
        while not cause:
            self._wait()
            if self._reaper.status is not None:
                self.page.status = self._reaper.status
            if self._reaper.status is not None and self._settled():
                cause = ITSELF
            else:
                cause = self._read() or self._overdue()
        if not self._keeper and self.kind == "worker" and self._reaper.leader:
            # should this process be killed now, there is nobody but the worker, a subreaper, whom all would come to
            reaper.stop_and_kill_below(self._reaper.leader, self._pause)
        if self._gone and self._keeper:  # it may have been stopped, and nobody else would let it go on
            with contextlib.suppress(OSError):
                os.kill(self._keeper, signal.SIGCONT)
            reaper.go_on_every(_STOPPED)  # and it may be killed meanwhile
        survivors = reaper.kill_all(self._reaper, self._pause, _PATIENCE)
        how = {"status": self._reaper.status, "cause": cause, "asked": self._asked, "survivors": survivors}
        self._tell("ended", {**how, "begun": self.page.begun, "refused": self.page.refused})
        if survivors:  # out of reach or still dying: stay, catch what they leave behind, and tell when they are gone
            reaper.kill_all(self._reaper, self._pause, inf, _LONG_PAUSE)
            self._tell("gone")
        return not survivors and not self._gone and self._keeper > 0

    def close(self) -> None:
        """Close what was open for this work: the process goes on."""
        signal.set_wakeup_fd(-1)
        self._control.close()
        for file in (self._woken, self._waker, *self.files):
            os.close(file)

    # --- the beginning

    def _begin(self) -> str:
        details: dict[str, Any] | None = None
        while details is None:
            self._wait()
            for number, mail in enumerate(self._mail):
                if mail[0] == "inherit":
                    self.wanted = mail[1]
                elif mail[0] == "start":
                    details = mail[1]
                    del self._mail[: number + 1]
                    break
            if self._gone or self._is_over():
                return NEVER
        while self._receive():  # an owner that has taken the start back has said so behind that letter
            pass
        calling_off = ("never",) if self.kind == "worker" else ("never", "kill", "ask")
        if self._gone or any(mail[0] in calling_off for mail in self._mail):
            return NEVER  # called off before it began
        self.page.launched = True
        try:
            pid = self._launch(self, details)
        except OSError as error:
            self._tell("failed", error.errno, error.strerror)
            return NEVER
        self._reaper.leader = pid
        self._born_at = time.monotonic()
        for file in self.files:  # they are not the guard's: whoever reads a pipe is to see its end
            os.close(file)
        self.files = []
        try:
            handle = os.pidfd_open(pid)
        except (OSError, AttributeError):  # the system has none: the owner has to leave the killing to us
            self._tell("born", pid, os.getpid(), self._born_at)
        else:
            self._tell("born", pid, os.getpid(), self._born_at, handle=handle)
            os.close(handle)
        return ""

    def let_go(self) -> None:
        """In a fork that becomes the work: nothing of the guard is to stay open there."""
        signal.set_wakeup_fd(-1)
        for number in (signal.SIGCHLD, signal.SIGCONT):
            signal.signal(number, signal.SIG_DFL)
        for file in (self._control.detach(), self._owner, self._woken, self._waker):
            if file >= 0:
                os.close(file)

    # --- watching

    def _wait(self) -> None:
        now = time.monotonic()
        reminder = None if self._reminder is None else self._reminder[0]
        leased = None if self._lease is None else now + min(_LEASED, self._lease.left())
        due = min((at for at in (self._limit, self._again, reminder, leased) if at is not None), default=None)
        wait = None if due is None else due - now + 0.001
        if self._reaper.leader and self._reaper.status is not None:
            wait = 0.02 if wait is None else min(wait, 0.02)  # others of its group clean up
        for file, _ in self._poll.poll(fds.milliseconds(wait)):
            if file == self._woken:
                self._drain()
                self._look_for_keeper()
                if self._reaper.leader:
                    self._reaper.reap()
                if self._reaper.was_stopped:
                    self._go_on()
            elif file == self._owner:
                self._gone = True
            else:
                self._receive()

    def _look_for_keeper(self) -> None:
        """Nobody continues this process any more, should it be stopped, when its keeper is gone: then its owner has to."""
        if self._keeper and os.getppid() != self._keeper:
            self._keeper = 0
            reaper.go_on_every(_STOPPED)  # the owner may be killed, too
            self._tell("alone", os.getpid())

    def _go_on(self) -> None:
        """Continue a worker that was stopped while it waits for a function: the next one would wait for ever."""
        self._reaper.was_stopped = False
        if self.kind == "worker" and self.page.begun == self.page.done:
            self._signal_work(signal.SIGCONT)

    def _drain(self) -> None:
        try:
            while len(os.read(self._woken, 4096)) == 4096:
                pass
        except BlockingIOError:
            pass

    def _pause(self, seconds: float) -> None:
        """Wait until a child has ended."""
        if fds.is_readable(self._woken, seconds):
            self._drain()

    def _receive(self) -> bool:
        """Take what has come; whether something had."""
        try:
            data = self._control.recv(1 << 16)
        except (BlockingIOError, InterruptedError):
            return False
        except OSError:
            data = b""
        if data:
            self._mail += self._letters.feed(data)
        else:
            self._gone = True
        return bool(data)

    def _read(self) -> str:
        """Carry out the letters; the cause when everything is to be killed."""
        mail, self._mail = self._mail, []
        for kind, *parts in mail:
            if kind == "kill":
                return KILL
            if kind == "limit":
                self._limited, self._limit, deadline, *rest = parts
                self._looks = _LOOKS
                self._reminder = rest[0] if rest else None
                self.page.limit(self._limited, deadline)
            elif kind == "allow":
                timeout, grace, signum = parts
                self._limit = self._born_at + timeout + grace
                self._reminder = self._born_at + timeout, signum, ()
            elif kind == "ask":
                self._ask(*parts)
        return KILL if self._gone else ""

    def _ask(self, number: int, signum: int, reason: tuple[Any, ...]) -> None:
        if self._reaper.status is not None:
            return  # it has ended: what is told must be that
        if self._asked and self._job == number:
            return  # it was, in the place of an owner that was held up
        self._asked, self._job, self._reminder = True, number, None
        if self.kind == "worker":
            self.page.ask(number, reason)
            self._again = time.monotonic() + _AGAIN
            self._pausing = _AGAIN
            self._signal = signum
            self._signal_work(signum)
            return
        self.page.note_asked()
        self._signal = signum
        reach = os.kill if self.kind == "foreground" else os.killpg
        with contextlib.suppress(OSError):  # not ours to signal (setuid): force may be, or the survivors are told
            reach(self._reaper.leader, signum)
            reach(self._reaper.leader, signal.SIGCONT)

    def _signal_work(self, signum: int) -> None:
        try:
            os.kill(self._reaper.leader, signum)
        except OSError:
            pass

    def _ask_again(self, now: float) -> None:
        """Until it has arrived; from then on, less and less often, to see whether the function went on."""
        self._again = None
        page = self.page
        if page.refused == self._job:
            self._tell("refused", self._job)
        elif self._reaper.status is None and page.done < self._job:
            self._signal_work(self._signal)
            heard = page.heard == self._job
            self._pausing = min(2 * self._pausing, _LOOK_AT_MOST if heard else _AGAIN_AT_MOST)
            self._again = now + (_HELD if page.held == self._job and not heard else self._pausing)

    def _is_over(self) -> bool:
        return self._lease is not None and self._lease.left() <= 0

    def _overdue(self) -> str:
        if self._is_over():
            return LEASE
        now = time.monotonic()
        if self._rings(now) and self.kind == "worker" and self.page.done >= self._limited:
            self._take_over(now)
        if self._reminder is not None and self._reminder[0] <= now:
            self._ask_unbidden(now, *self._reminder)
        if self._again is not None and self._again <= now:
            self._ask_again(now)
        if self._limit is not None and self._limit <= now and (self.kind != "worker" or self._goes_on()):
            self._limit = None
            return LIMIT
        return ""

    def _goes_on(self) -> bool:
        """Have C write where a function is whose limit has passed, as its owner does not; whether it has not ended by then.

        If it has, nothing is killed, for the next one may have begun; the limit is taken over by that.
        """
        if self.page.done >= self._limited:
            return False
        self._signal_work(DUMP)
        until = time.monotonic() + _TURN
        while proc.is_pending(self._reaper.leader, DUMP) and time.monotonic() < until:
            self._pause(0.005)
        self._pause(_SHOWN)
        return self.page.done < self._limited

    def _rings(self, now: float) -> bool:
        """Whether a limit has passed."""
        return (self._limit is not None and self._limit <= now) or (
            self._reminder is not None and self._reminder[0] <= now
        )

    def _take_over(self, now: float) -> None:
        """The job whose limit that was is over: from now on that of the one which runs counts, as the worker noted it."""
        number, force_at, deadline = self.page.plan
        self._limit = self._reminder = None
        if number <= self.page.done:
            if self._looks:  # an owner that relied on this ringing may have sent a job that was not begun yet
                self._looks -= 1
                self._limit = now + _ON_ITS_WAY
        elif deadline < inf:
            self._looks = _LOOKS
            self._limited, self._limit, self._reminder = number, force_at, reminder(deadline)

    def _ask_unbidden(self, now: float, at: float, signum: int, reason: tuple[Any, ...]) -> None:
        """The owner ought to have asked: do it in its place, and give the work the whole of its grace from now on."""
        self._reminder = None
        if self.kind == "worker" and self.page.done >= self._limited:
            return
        if self._limit is not None:
            self._limit = max(self._limit, now + self._limit - at)
        self._ask(self._limited, signum, reason)

    def _settled(self) -> bool:
        """The work has ended; once it was asked, the rest of its group has the same grace to clean up."""
        if self.kind != "command" or not self._asked:
            return True
        left = [pid for pid, _ in proc.descendants(os.getpid()) if proc.group_of(pid) == self._reaper.leader]
        if left and self._signal:
            self._ask_the_deaf(left)
        return not left

    def _ask_the_deaf(self, left: list[int]) -> None:
        """Ask those in another way, once, that ignore the signal: a shell starts its jobs so that they ignore SIGINT."""
        signum, self._signal = self._signal, 0
        for pid in left:
            if signum != signal.SIGTERM and proc.ignores(pid, signum):
                with contextlib.suppress(OSError):
                    os.kill(pid, signal.SIGTERM)

    # --- telling

    def _tell(self, *parts: Any, handle: int | None = None) -> None:
        send(self._control, letter(*parts), handle)


Launch = Callable[[Guard, dict[str, Any]], int]
