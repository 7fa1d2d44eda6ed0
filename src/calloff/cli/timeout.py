"""``calloff timeout``: run a program with a time limit; the options, messages and exit statuses of GNU timeout 9.

The difference is what is left afterwards: nothing. The process becomes a *child subreaper*: whatever descends from the
program and loses its parent (a daemon, a child that called ``setsid``) becomes our child instead of init's. So "there
is no child left to wait for" means that the whole tree is gone, and no list of processes has to be trusted for that;
such lists (`/proc`) only say whom to signal next, and are read again until nobody is left. When `calloff timeout` itself
is killed, an heir does the same (`calloff.cli._tree`).

One thread, no event loop: the signals that matter are blocked and waited for with ``sigtimedwait``. The module avoids
every import that costs time (argparse, signal, ctypes), because it has to start as fast as a bare interpreter.
"""

import os
import sys
from time import monotonic

from .._os.proc import believed, name_of
from .._os.reaper import no_core_file
from ._gnu_options import Options, Usage, complain, quote, say, signal_name
from ._tree import Heir, become_reaper, descendants, in_our_group, kill, undo_coercion

TYPE_CHECKING = False
if TYPE_CHECKING:
    import signal as _signal
else:
    import _signal

__all__ = ["main"]

TIMED_OUT, FAILED, NOT_EXECUTABLE, NOT_FOUND = 124, 125, 126, 127

#: How long what the program left behind may take to end by itself, and, once asked, before it is killed.
STRAGGLE, LAST = 0.25, 1.0


def main(argv: "list[str]") -> int:
    """The verb: runs the program to its end and returns the exit status."""
    try:
        options = Options(argv)
        if options.text is not None:
            sys.stdout.write(options.text + "\n")
            return 0
        return Watch(options).run()
    except Usage as problem:
        if problem.args[0]:
            complain(problem.args[0])
        say("Try 'timeout --help' for more information.\n")
        return FAILED


_WATCHED = tuple(
    int(getattr(_signal, name))
    for name in ("SIGHUP", "SIGINT", "SIGQUIT", "SIGTERM", "SIGALRM")
    if hasattr(_signal, name)
)
_LONGEST = 1e6  # seconds that one wait takes at most; it is simply repeated


class Watch:
    """One run: the program, its limit, and the signals that were sent."""

    def __init__(self, options: Options) -> None:
        self._options = options
        self._pid = 0
        self._heir: Heir | None = None
        self._status: int | None = None  # as waitpid tells it
        self._ended_at = 0.0
        self._timed_out = False
        self._kill_after = options.kill_after
        self._next_signal = options.signal  # what is sent when time is up
        self._asked_at: float | None = None
        self._sent = 0  # the last signal that was sent
        self._by: int | None = None  # the signal that we were sent
        self._reaper = False  # orphans of the tree come to us
        self._left: set[int] = set()  # processes that outlived the program and had to be ended
        self._survivors: list[str] = []

    def run(self) -> int:
        """Run the program and see its whole tree to the end; returns the exit status."""
        if not hasattr(_signal, "sigtimedwait"):
            complain("this system lacks sigtimedwait")
            return FAILED
        options = self._options
        undo_coercion()
        if not options.foreground:
            try:
                os.setpgid(0, 0)
            except OSError:  # we lead the session
                pass
            self._reaper = become_reaper()
        watched = {number for number in _WATCHED if _signal.getsignal(number) != _signal.SIG_IGN}
        if options.signal not in (0, _signal.SIGKILL, _signal.SIGSTOP):
            watched.add(options.signal)
        for stops in (_signal.SIGTTIN, _signal.SIGTTOU):
            _signal.signal(stops, _signal.SIG_IGN)
        _signal.signal(_signal.SIGCHLD, _signal.SIG_DFL)
        self._wakes = watched | {int(_signal.SIGCHLD)}
        self._mask = _signal.pthread_sigmask(_signal.SIG_BLOCK, self._wakes)
        began = monotonic()
        try:
            mask = set(self._mask) - watched
            if self._reaper:
                self._heir = Heir(options.command, mask)
                self._pid = self._heir.program
            else:
                from ._plain import spawn

                self._pid = spawn(options.command, mask)
        except OSError as error:
            complain(f"failed to run command {quote(options.command[0])}: {error.strerror}")
            status = NOT_FOUND if error.errno == 2 else FAILED if error.errno == 10 else NOT_EXECUTABLE
            self._tell(status, began, f"{options.command[0]}: {error.strerror}")
            return status
        self._wait(began)
        self._clear()
        status = self._exit_status()
        self._tell(status, began)
        self._die_alike()
        return status

    def _wait(self, began: float) -> None:
        """Until the program itself has ended: signals are passed on, time limits are kept."""
        due = began + self._options.limit if self._options.limit else None
        while True:
            self._reap()
            if self._status is not None:
                self._ended_at = monotonic()
                return
            number = self._next(due)
            if number == _signal.SIGCHLD:
                continue
            if number is None or number == _signal.SIGALRM:
                self._timed_out = True
                self._by = None
                number = self._next_signal
            else:
                self._by = number
            due = None
            if self._kill_after:
                due = monotonic() + self._kill_after
                self._next_signal = int(_signal.SIGKILL)
                self._kill_after = 0.0
            self._send(number)

    def _below(self) -> "list[int]":
        """What descends from the program, and the program itself, as far as they can be listed."""
        heir = self._heir and self._heir.pid
        if heir and self._status is not None and not believed():  # only its parent can find it: we have to become that
            kill(heir, _signal.SIGKILL)
            os.waitpid(heir, 0)
            self._heir = heir = None
        return [pid for pid in descendants(os.getpid(), self._pid) if pid != heir]

    def _next(self, due: float | None) -> int | None:
        """The next signal, or ``None`` when `due` has passed."""
        while True:
            pause = _LONGEST if due is None else min(due - monotonic(), _LONGEST)
            if pause <= 0:
                return None
            caught = _signal.sigtimedwait(self._wakes, pause)
            if caught is not None:
                return int(caught.si_signo)

    def _send(self, number: int) -> None:
        self._asked_at = self._asked_at or monotonic()
        self._sent = number
        if self._options.verbose:
            complain(f"sending signal {signal_name(number)} to command {quote(self._options.command[0])}")
        if self._options.foreground:
            kill(self._pid, number)
        elif number == _signal.SIGKILL:
            for pid in (self._pid, *descendants(self._pid, self._pid)):
                kill(pid, number)
        else:
            self._send_group(number)
            if number not in (0, _signal.SIGCONT):
                self._send_group(int(_signal.SIGCONT))

    def _send_group(self, number: int) -> None:
        """To the process group that we share with the program, ourselves excepted; once, unlike GNU, to each."""
        if number in (0, _signal.SIGSTOP):
            kill(self._pid, number)
            return
        before = _signal.signal(number, _signal.SIG_IGN)
        masked = _signal.pthread_sigmask(_signal.SIG_UNBLOCK, {number})
        kill(0, number)
        _signal.pthread_sigmask(_signal.SIG_SETMASK, masked)
        _signal.signal(number, _signal.SIG_DFL if before is None else before)
        if not in_our_group(self._pid):  # it has made a group of its own
            kill(self._pid, number)

    # --- what the program leaves behind

    def _clear(self) -> None:
        """See to it that no descendant is left."""
        if not self._reaper or not self._reap():
            return
        now = monotonic()
        if self._asked_at is None:
            if self._gone_by(now + STRAGGLE):
                return
            now = monotonic()
        if self._ask_the_rest(now):
            return
        self._kill_all()

    def _ask_the_rest(self, now: float) -> bool:
        """Send what still runs the signal that the program got; whether it ended of that in time."""
        first = self._sent or self._options.signal or int(_signal.SIGTERM)
        if first == _signal.SIGKILL:
            return False
        fresh = [pid for pid in self._below() if self._asked_at is None or not in_our_group(pid)]
        for pid in fresh:  # the others have had it with their group
            kill(pid, first)
            kill(pid, _signal.SIGCONT)
        self._note_left(first, fresh)
        return self._gone_by(max((self._asked_at or now) + (self._options.kill_after or LAST), now))

    def _note_left(self, number: int, pids: "list[int]") -> None:
        self._left.update(pids)
        if self._options.verbose and pids:
            what = f"{len(pids)} left behind by {quote(self._options.command[0])}"
            complain(f"sending signal {signal_name(number)} to {what}")

    def _gone_by(self, due: float) -> bool:
        """Wait until no child is left; ``False`` when time is up or we are asked to hurry by a signal."""
        while self._reap():
            if self._next(due) != _signal.SIGCHLD:
                return False
        return True

    def _kill_all(self) -> None:
        """Kill every descendant until none is left; those that can't be killed are named."""
        if self._sent != _signal.SIGKILL and self._reap():
            self._note_left(int(_signal.SIGKILL), self._below())
        pause, due = 0.001, monotonic() + LAST
        while self._reap():
            refused = [pid for pid in self._below() if not kill(pid, _signal.SIGKILL)]
            if monotonic() > due:
                self._survivors = [f"{pid} ({name_of(pid) or 'gone'})" for pid in refused or self._below()]
                if self._heir:  # nothing of ours stays with them
                    kill(self._heir.pid, _signal.SIGKILL)
                how = "could not be killed" if refused else "was killed, and has not ended yet"
                for survivor in self._survivors:
                    complain(f"process {survivor} {how}")
                return
            self._next(min(due, monotonic() + pause))
            pause = min(pause * 2, 0.05)

    def _reap(self) -> bool:
        """Collect who has ended; whether there is a child left."""
        heir = self._heir
        while True:
            try:
                pid, status = os.waitpid(-1 if self._reaper else self._pid, os.WNOHANG | (os.WUNTRACED if heir else 0))
            except ChildProcessError:
                pid, status = -1, 0
            if heir and self._status is None:
                self._status = heir.status()
                if pid < 0 and self._status is None:  # killed, after it had seen the end and before it told us
                    self._status = int(_signal.SIGKILL)
            if pid <= 0:
                return pid == 0
            if os.WIFSTOPPED(status):
                if heir and pid == heir.pid:
                    kill(pid, _signal.SIGCONT)
            elif pid == self._pid:
                self._status = status

    # --- how it ended

    def _exit_status(self) -> int:
        assert self._status is not None
        if os.WIFSIGNALED(self._status):
            if os.WCOREDUMP(self._status):
                complain("the monitored command dumped core")
            if self._timed_out and os.WTERMSIG(self._status) == _signal.SIGKILL:
                return 128 + int(_signal.SIGKILL)
        if self._timed_out and not self._options.preserve_status:
            return TIMED_OUT
        code = os.waitstatus_to_exitcode(self._status)
        return code if code >= 0 else 128 - code

    def _die_alike(self) -> None:
        """A program that was ended by a signal, not by our time limit: end by the same one, without a core file."""
        assert self._status is not None
        if self._timed_out or not os.WIFSIGNALED(self._status):
            return
        number = os.WTERMSIG(self._status)
        no_core_file()
        if number != _signal.SIGKILL:
            _signal.signal(number, _signal.SIG_DFL)
        _signal.pthread_sigmask(_signal.SIG_UNBLOCK, {number})
        sys.stdout.flush()
        os.kill(os.getpid(), number)

    def _tell(self, status: int, began: float, error: str | None = None) -> None:
        if not self._options.json:
            return
        import json

        ended_at = self._ended_at or monotonic()
        code = None if self._status is None else os.waitstatus_to_exitcode(self._status)
        reason = None
        if self._timed_out:
            reason = {"kind": "deadline", "text": f"within {self._options.limit:g} s", "by": None}
        elif self._by is not None:
            reason = {"kind": "shutdown", "text": "", "by": f"SIG{signal_name(self._by)}"}
        document = {
            "outcome": "cancelled" if reason else "completed" if code == 0 else "failed",
            "status": status,
            "command": self._options.command,
            "error": error,
            "exited": code if code is not None and code >= 0 else None,
            "signal": signal_name(-code) if code is not None and code < 0 else None,
            "seconds": round(ended_at - began, 6),
            "reason": reason,
            "rung": None if reason is None else "KILLED" if self._sent == _signal.SIGKILL else "TERMINATED",
            "stop_seconds": None if self._asked_at is None else round(monotonic() - self._asked_at, 6),
            "left_behind": len(self._left),
            "survivors": self._survivors,
        }
        begin = "" if os.isatty(2) else "\n"  # what the command wrote last there need not have ended its line
        say(begin + json.dumps(document) + "\n")
