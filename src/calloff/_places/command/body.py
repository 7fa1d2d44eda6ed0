"""A program as the body of an operation, below a guard of its own."""

import contextlib
import logging
import os
import shlex
import signal
import time
from asyncio import AbstractEventLoop, TimerHandle, get_running_loop
from contextvars import Context
from typing import Any

from ..._os import reaper
from ..._os.fds import Files, standard
from ..._words.errors import CalloffError, CommandFailed
from ..._words.frame import RawStack
from ..._words.place import Body, Sink
from ..._words.report import Rung
from ..keeper import refuse
from ..kept import Guarded
from .plan import NULL, SAME, Finished, Plan
from .streams import Captured

__all__ = ["CommandBody"]

#: characters of a command line that are shown
_LONG = 100
#: bytes of standard error that `CommandFailed` shows
_TAIL = 2000
_logger = logging.getLogger("calloff")


class CommandBody(Body):
    """Runs a program for an operation."""

    __slots__ = (
        "_bounded",
        "_cwd",
        "_done",
        "_env",
        "_forced",
        "_held_back",
        "_guarded",
        "_handle",
        "_left",
        "_loop",
        "_plan",
        "_program",
        "_sink",
        "argv",
        "name",
        "pid",
        "reached",
    )
    place = "command"
    queued = True
    #: seconds after which the guard asks and uses force by itself, when the owner should have done so
    slack: float = 0.05

    def __init__(self, plan: Plan, name: str, program: str, env: dict[str, str], cwd: str | None) -> None:
        self.name: str = name
        self.argv: tuple[str, ...] = plan.argv
        #: of the program, once it runs
        self.pid: int | None = None
        self.reached: bool = False
        self._plan = plan
        self._program = program
        self._env = env
        self._cwd = cwd
        self._done = False
        self._forced = False
        #: whether the guard has been told of a limit
        self._bounded = False
        #: sends the signal later than at the request
        self._held_back: TimerHandle | None = None
        self._left = False
        self._handle: int | None = None

    # --- what the operation asks for

    def begin(self, sink: Sink) -> None:
        """Have a guard forked that starts the program."""
        refuse()
        group = _our_group() if self._plan.foreground else 0
        self._sink = sink
        self._loop = loop = get_running_loop()
        with Files() as files:
            try:
                closed = [number for number in range(3) if not self._open(number, loop, files)]
                if self._cwd is None:
                    files.add(os.open(".", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC))
                kind = "foreground" if group else "command"
                self._guarded = Guarded(loop, kind, files.numbers, self)
            except BaseException:
                self._finish_streams()
                raise
            files.give()
        details = {
            "program": self._program,
            "argv": list(self._plan.argv),
            "env": self._env,
            "cwd": self._cwd,
            "closed": closed,
            "group": group,
        }
        self._guarded.write("start", details)
        self._allow()

    def _allow(self) -> None:
        """Leave the limits with the guard, which begin with the program: we may be held up then."""
        timeout, grace = self._sink.allowed
        if timeout is not None:
            self._bounded = True
            self._guarded.write("allow", timeout + self.slack, grace, self._plan.signal)

    def _open(self, number: int, loop: AbstractEventLoop, files: Files) -> bool:
        """Have the command's end of a stream; ``False`` when there is to be none, since we have none ourselves."""
        stream = self._plan.streams[number]
        if not isinstance(stream, int):
            files.add(stream.attach(loop))
        elif stream == SAME:
            files.copy(files.numbers[1])
        elif stream == NULL or (stream < 3 and not standard(stream)):
            files.add(os.open(os.devnull, os.O_RDWR | os.O_CLOEXEC))
        else:
            files.copy(stream)
        return not isinstance(stream, int) or not 0 <= stream < 3 or standard(stream)

    def ask(self, text: str) -> RawStack:
        """Signal its process group; what has not begun never will."""
        reason = self._sink.reason
        assert reason is not None
        if self._is_withdrawn():
            return ()
        where = self.where()
        now, force_at = self._loop.time(), self._sink.force_at
        if self._plan.foreground and reason.by == "SIGINT" and force_at is not None and force_at > now:
            # the terminal sends one to the group; when half of the grace is over, this will have to do
            self._held_back = Context().run(self._loop.call_at, (now + force_at) / 2, self._signal_it)
        else:
            self._signal_it()
        self.limited()
        return where

    def _is_withdrawn(self) -> bool:
        """Whether it could be taken back before anybody has started it."""
        if self.pid is not None or self._done or not self._guarded.withdraw():
            return False
        self._close()
        self._sink.stopped(Rung.ASKED)
        return True

    def _signal_it(self) -> None:
        reason = self._sink.reason
        assert reason is not None
        words = (str(reason.kind), reason.text, reason.by, reason.at)
        self._hold_no_longer()
        self._guarded.write("ask", 0, self._plan.signal, words)

    def _hold_no_longer(self) -> None:
        if self._held_back is not None:
            self._held_back.cancel()
            self._held_back = None

    def force(self) -> bool:
        """Kill it and everything that descends from it."""
        self._forced = True
        self._hold_no_longer()
        if self._is_withdrawn():
            return True
        if self._handle is not None:  # the guard does it, too, but has to wake up first
            with contextlib.suppress(OSError):
                signal.pidfd_send_signal(self._handle, signal.SIGKILL)
        self._guarded.write("kill")
        return True

    def abandon(self) -> bool:
        """Something is out of reach of SIGKILL (it waits inside the kernel); the guard goes on trying."""
        return True

    def survivors(self) -> tuple[str, ...]:
        """What lives below the guard, should that not have come to tell in time."""
        return () if self._done else self._guarded.survivors()

    def limited(self) -> None:
        """Leave with the guard when force is due at the latest, and when it is to ask, should we not come to it."""
        if self.pid is None and self._sink.reason is None:  # it has not begun, as far as we have heard
            self._guarded.write("limit", 0, None, None, None)
            self._allow()
            return
        sink, late = self._sink, time.monotonic() - self._loop.time() + self.slack
        force_at, deadline = sink.force_at, sink.deadline
        reminder = None
        if deadline is not None and sink.reason is None:
            reminder = (deadline + late, self._plan.signal, ())
        self._guarded.write("limit", 0, None if force_at is None else force_at + late, None, reminder)

    def where(self) -> RawStack:
        """Programs show no lines: one frame, with the command line and the number of the process."""
        if self.pid is None or self._done:
            return ()
        line = shlex.join(self._plan.argv)
        line = line if len(line) <= _LONG else line[: _LONG - 1] + "…"
        return ((self._program, 0, os.path.basename(self._program), f"{line} (process {self.pid})"),)

    # --- what the guard says

    def heard(self, letter: tuple[Any, ...], handle: int | None) -> None:
        """A letter of the guard."""
        kind, *parts = letter
        if kind == "born":
            self._handle = handle
            self.pid, _, began = parts
            if handle is not None:
                Context().run(self._loop.add_reader, handle, self._has_ended)
            self._sink.entered_elsewhere(max(0.0, time.monotonic() - began))
            if self._bounded or self._sink.force_at is not None:
                self.limited()
        elif kind == "failed" and not self._done:
            self._close()
            number, text = parts
            self._sink.raised(OSError(number, text, self._program))
        elif kind == "ended" and not self._done:
            self._close()
            self._ended(**parts[0])
        elif kind == "gone" and self._left:
            self._left = False
            self._sink.stopped()  # abandoned because of survivors: now they are gone

    def _has_ended(self) -> None:
        """The program has ended: its guard is to tell so, and may be stopped."""
        assert self._handle is not None
        self._loop.remove_reader(self._handle)
        self._guarded.expect()

    def _ended(self, status: int | None, cause: str, asked: bool, survivors: tuple[str, ...], **_: Any) -> None:
        sink = self._sink
        self._left = bool(survivors) and (
            cause in ("kill", "limit") or asked or self._forced or sink.reason is not None
        )
        itself = cause == "itself" or (cause == "lost" and status not in (None, -signal.SIGKILL))
        if cause == "never":
            sink.stopped(Rung.ASKED)
        elif cause == "lost" and sink.reason is None and not itself:
            text = "the process that guarded it was killed, and then all that it had started"
            if survivors:
                text += f", but for {'; '.join(survivors)}"
            sink.raised(CommandFailed(self._plan.argv, -signal.SIGKILL if status is None else status, text))
        elif not itself or (self._forced and status == -signal.SIGKILL):
            sink.stopped(Rung.KILLED, survivors=survivors)
        elif asked:
            sink.stopped(Rung.TERMINATED, survivors=survivors)
        else:
            if survivors:
                _logger.warning("%s left behind what could not be killed: %s", self._plan.argv[0], "; ".join(survivors))
            assert status is not None
            self._judge(status)

    def _judge(self, status: int) -> None:
        out, err = (self._captured(number) for number in (1, 2))
        if status and self._plan.check:
            tail = b"" if err is None else err.value()[-_TAIL:]
            stdout = b"" if out is None else out.value()
            self._sink.raised(CommandFailed(self._plan.argv, status, tail.decode(errors="replace"), stdout))
            return
        taken = [(b"", 0) if stream is None else (stream.value(), stream.dropped) for stream in (out, err)]
        (stdout, lost), (stderr, lost_too) = taken
        self._sink.returned(Finished(self._plan.argv, status, stdout, stderr, lost + lost_too))

    def _captured(self, number: int) -> Captured | None:
        stream = self._plan.streams[number]
        return stream if isinstance(stream, Captured) else None

    def failed(self, error: Exception) -> None:
        """It was not started: we can't."""
        if not self._done:
            self._close()
            self._sink.raised(error)

    def lost(self) -> None:
        """Guard and keeper were killed: what can be found of it is killed, too, and the rest can't be."""
        if self._done:
            return
        if self.pid is not None:
            reaper.kill_from_outside(self.pid)
        self._close()
        killed = "both of calloff's processes that guarded it were killed"
        if self._sink.reason is None:
            text = f"{killed}: what it had detached may run on"
            self._sink.raised(CommandFailed(self._plan.argv, -signal.SIGKILL, text))
        else:
            self._sink.stopped(survivors=(f"what it had detached, if anything, may run on: {killed}",))
            self._sink.stopped(Rung.ABANDONED)  # nobody will ever know more

    def let_go(self) -> None:
        """The loop was closed, and nobody hears of the end."""
        if not self._done:
            self._close()

    def _close(self) -> None:
        self._done = True
        self._hold_no_longer()
        if self._handle is not None:
            if not self._loop.is_closed():
                self._loop.remove_reader(self._handle)
            os.close(self._handle)
            self._handle = None
        self._finish_streams()

    def _finish_streams(self) -> None:
        for stream in self._plan.streams:
            if not isinstance(stream, int):
                stream.finish()


def _our_group() -> int:
    """The process group of this process, for a program that is to have the terminal."""
    group = os.getpgrp()
    if not group:
        raise CalloffError(
            "the process group of this program is that of another PID namespace: nothing can be started in its foreground"
        )
    return group
