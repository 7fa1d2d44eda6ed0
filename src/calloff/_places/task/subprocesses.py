"""Processes that a coroutine has started by asyncio, and waits for: they run on when nobody waits any longer.

`asyncio.create_subprocess_exec` and `create_subprocess_shell` leave a process behind when whoever waits for its end or
reads its output is cancelled. It is part of the operation that has started it: when the coroutine has ended and has left
it, it is asked with SIGTERM, all that descends from it as well, and killed when the grace is over. Before a signal is sent
all of it is halted: what a process begins just then would lose its parent, and nobody would find it any more.

Who has started it is told by the context in which the event loop watches over it. The reader of somebody else's process
ends without harm to that.
"""

import asyncio
import gc
import math
import os
import signal
import time
from collections.abc import Callable
from contextvars import Context
from types import FrameType
from typing import Any

from ..._os import proc
from ..._words.frame import RawStack
from .objects import fields, is_a, is_of, own_self

__all__ = ["PROCESS_WAITS", "Subprocess", "left_by", "subprocess_of"]


class Subprocess:
    """A process and what descends from it, as a part of an operation.

    Args:
        transport: by which the loop has it.
        loop: the loop, where it does not run now.
    """

    def __init__(self, transport: Any, loop: asyncio.AbstractEventLoop | None = None) -> None:
        self._given = loop
        self.key: object = transport
        self._transport = transport
        self._pid: int = transport.get_pid()
        self._began = proc.began(self._pid)
        #: what was asked or killed below it, with when each began: a number may be given out anew
        self._below: dict[int, float] = {}
        self._denied: set[int] = set()
        self._killed = False
        #: the signal that is sent when all have halted, who was told to halt, and since when
        self._ahead: int | None = None
        self._halting: list[int] = []
        self._halting_since = 0.0
        #: whether it has ended and the loop has heard of that
        self.over = False
        self._unheard_until: float | None = None
        self._callback: Callable[[], object] | None = None
        self._timer: asyncio.TimerHandle | None = None

    def pending(self) -> bool:
        """Return whether it has not ended, or something below it that was asked."""
        return self._runs() or bool(self._left_below())

    def _runs(self) -> bool:
        if self._transport.get_returncode() is not None:
            return False
        return not self._began or proc.lives(self._pid, self._began)  # the loop hears of its end later than the system

    def _living(self) -> list[int]:
        """Return the process and those below it that live, as far as they are known."""
        return [self._pid, *self._left_below()] if self._runs() else self._left_below()

    def _look_below(self) -> list[int]:
        """Note what descends from it now, or from what has lost it; return what was not known."""
        if not self._began:
            return []
        found: dict[int, float] = {}
        for known in self._living():
            if known not in found:
                found |= {pid: proc.began(pid) for pid, _ in proc.descendants(known)}
        new = [pid for pid, since in found.items() if self._below.get(pid) != since]
        self._below.update(found)
        return new

    def _left_below(self) -> list[int]:
        return [pid for pid, since in self._below.items() if proc.lives(pid, since)]

    def cancel(self) -> None:
        """Do nothing: it has begun."""

    def ask(self) -> None:
        """Send SIGTERM to it and to what is below it."""
        self._send(signal.SIGTERM)

    def kill(self) -> None:
        """Send SIGKILL to it and to what is below it."""
        self._killed = True
        self._send(_KILL)

    def hurry(self) -> None:
        """Send at once what waits for a halt: the loop will not turn any more."""
        self._halting_since = -math.inf
        self._deliver()

    def _send(self, signum: int) -> None:
        """Send a signal to all of it; they are halted meanwhile, so that none starts one that is not seen."""
        self._ahead = signum
        self._halting_since = time.monotonic()
        self._look_below()
        if self._began:
            self._halt(self._living())
        self._deliver()
        if self._timer is not None:
            self._timer.cancel()
            self._look(_FIRST)

    def _halt(self, pids: list[int]) -> None:
        for _ in range(_ROUNDS):
            self._halting += pids
            self._tell(pids, _HALT)
            if not (pids := self._look_below()):
                break

    def _deliver(self) -> None:
        """Send what is to be sent, when all have halted."""
        signum = self._ahead
        if signum is None:
            return
        will_look = signum != _KILL or self._timer is not None
        if will_look and self._is_halting():
            return
        self._look_below()
        self._ahead = None
        self._halting = []
        living = self._living()
        self._tell(living, signum)
        self._tell(living, _GO_ON)

    def _is_halting(self) -> bool:
        """Return whether one may be in the midst of a fork, of which it comes out with one more, and halt that, too."""
        waited = time.monotonic() - self._halting_since
        if waited > (_KILL_AFTER if self._ahead == _KILL else _ASK_AFTER):
            return False
        states = ("R", "S", "D") if waited < _HALTED_SOON else ("R", "S")
        self._halting = [pid for pid in self._halting if pid not in self._denied and proc.state_of(pid) in states]
        if not self._halting:
            self._halt(self._look_below())  # only now: what was found before may not have been all
        return bool(self._halting)

    def _tell(self, pids: list[int], signum: int) -> None:
        for pid in pids:
            try:  # not by its transport, which collects a dead one that the loop waits for
                os.kill(pid, signum)
            except PermissionError:
                self._denied.add(pid)
            except OSError:
                pass

    def when_done(self, callback: Callable[[], object]) -> None:
        """Have `callback` called on the event loop when it has ended."""
        self._callback = callback
        self._look(_FIRST)

    def _look(self, pause: float) -> None:
        self._deliver()
        if self.pending() or self._is_unheard():
            new = self._look_below() if self._ahead is None else []  # for what it has started since it was asked
            if self._killed:
                self._tell(new, _KILL)
            self._timer = self._loop().call_later(pause, self._look, min(2 * pause, _LONGEST), context=Context())
            return
        self.over = True
        callback, self._callback = self._callback, None
        if callback is not None:
            if self._transport.get_returncode() is not None:
                self._transport.close()  # its pipes, which nobody reads any more
            callback()

    def _is_unheard(self) -> bool:
        """Return whether the loop, which hears of an end by a thread, say, may still hear of this one."""
        now = self._loop().time()
        if self._unheard_until is None:
            self._unheard_until = now + _HEARD
        return self._transport.get_returncode() is None and now < self._unheard_until

    def _loop(self) -> asyncio.AbstractEventLoop:
        return self._given or asyncio.get_running_loop()

    def stack(self) -> RawStack:
        """Return nothing: its frames are not ours to know."""
        return ()

    def describe(self) -> str:
        """Return which process it is, or what is left below it, and why."""
        from ..._os.reaper import told

        left = self._left_below()
        pid = self._pid if self._runs() or not left else left[0]
        return told(pid, pid in self._denied)

    def is_lookup(self) -> bool:
        """Return ``False``: it may change anything."""
        return False


def subprocess_of(frame: FrameType, outer: object, owner: Any) -> Subprocess | None:
    """Return the process whose end or output the frame of a function of asyncio waits for, if `owner` has started it.

    Args:
        frame: one of a function of `PROCESS_WAITS`.
        outer: the coroutine that awaits it.
        owner: the operation.
    """
    if owner is None or id(frame.f_code) not in PROCESS_WAITS:
        return None
    waiting = own_self(frame)
    transport: Any = fields(waiting).get("_transport")
    if is_a(waiting, _STREAMS):  # of a pipe, perhaps
        transport = fields(transport.get_protocol()).get("proc") if _is_known(transport) else None
    if not _is_known(transport) or transport.get_returncode() is not None:
        return None
    contexts = _contexts_of(transport)
    if any(is_of(context, owner) for context in contexts):
        return Subprocess(transport)
    if not contexts and _is_made_in(outer, waiting) and _is_younger(transport.get_pid(), owner):
        return Subprocess(transport)
    return None


def _is_known(transport: object) -> bool:
    """Return whether a transport is of one of the event loops that we know: no code of anybody else is run."""
    module = _module_of(type(transport))
    return type(module) is str and module.partition(".")[0] in ("asyncio", "uvloop")


def left_by(loop: asyncio.AbstractEventLoop) -> list[Subprocess]:
    """Return the processes that were started on an event loop and run, but for those with a session of their own.

    Whoever begins a new session for a process wants it to be able to outlive the program.
    """
    running = {pid for pid, _ in proc.running_children(os.getpid())} if proc.believed() else set()
    if not running:  # the usual case: nobody has to go through all objects
        return []
    found = []
    for thing in gc.get_objects():
        if _is_known(thing) and hasattr(type(thing), "get_returncode"):
            transport: Any = thing
            pid = transport.get_pid()
            if pid in running and fields(transport).get("_loop", loop) is loop and not _leads_a_session(pid):
                found.append(Subprocess(transport, loop))
    return found


def _leads_a_session(pid: int) -> bool:
    try:
        return os.getsid(pid) == pid
    except OSError:  # it has ended just now
        return False


def _contexts_of(transport: Any) -> list[Context]:
    """Return the contexts in which the loop watches over a process: those of whoever has started it."""
    found = [part for part in gc.get_referents(transport) if type(part) is Context]  # uvloop's
    if found:
        return found
    selector = getattr(getattr(transport, "_loop", None), "_selector", None)
    files = None if selector is None else selector.get_map()  # of a loop that is closed there are none
    for key in list(files.values()) if files is not None else ():
        reader = key.data[0] if type(key.data) is tuple else None
        if reader is None:
            continue
        pipe = fields(getattr(reader._callback, "__self__", None)).get("_protocol")
        told = reader._args[-1] if reader._args else ()  # of the watcher of a file of the process
        if fields(pipe).get("proc") is transport or (type(told) is tuple and any(arg is transport for arg in told)):
            found.append(reader._context)
    return found


def _is_made_in(outer: object, process: object) -> bool:
    """Return whether a coroutine has a process in a variable of its own that was not handed to it.

    In Python 3.11, a process without pipes is watched by a thread, which has no context.
    """
    frame: FrameType | None = getattr(outer, "cr_frame", None)
    if frame is None:
        return False
    code, here = frame.f_code, frame.f_locals
    return any(here.get(name) is process for name in code.co_varnames[code.co_argcount + code.co_kwonlyargcount :])


def _is_younger(pid: int, owner: Any) -> bool:
    """Return whether a process has begun since an operation has, as exactly as the system tells it."""
    since = proc.began(pid)
    now = time.clock_gettime(time.CLOCK_BOOTTIME)  # before the other clock: what comes between the two makes none older
    return bool(since) and now - owner.elapsed <= since + _TICK


_module_of = type.__dict__["__module__"].__get__
_process = asyncio.subprocess.Process
_STREAMS = _reader, _writer = asyncio.StreamReader, asyncio.StreamWriter
#: codes, by their `id`, of asyncio's functions in which the end or the output of a process is waited for; they are kept
PROCESS_WAITS = frozenset(
    id(function.__code__)
    for function in (_process.wait, _process.communicate, _reader._wait_for_data, _writer.drain)  # type: ignore[attr-defined]
)
_KILL = getattr(signal, "SIGKILL", signal.SIGTERM)
#: where processes can't be halted, nothing
_HALT, _GO_ON = getattr(signal, "SIGSTOP", 0), getattr(signal, "SIGCONT", 0)
#: how often those are looked for that began while others were halted
_ROUNDS = 50
#: seconds that processes have to halt, until they are killed or asked; who waits inside the system may wait for one that is
#: halted
_KILL_AFTER, _ASK_AFTER, _HALTED_SOON = 0.5, 2.0, 0.05
#: seconds from one look to the next
_FIRST = 0.005
_LONGEST = 0.25
#: seconds that the loop has to hear of an end
_HEARD = 0.5
#: the system counts in hundredths of a second
_TICK = 0.02
