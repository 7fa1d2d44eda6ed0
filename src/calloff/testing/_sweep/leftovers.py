"""What the function left behind: tasks, threads, child processes, open files and sockets, timers, readers.

A snapshot before the function runs, and a look afterwards. What is still there then is not yet a finding: it may be on
its way out. Each kind is given its patience (a task that was cancelled, or that closes a generator for the garbage
collector, has longer than one that nobody told to end), and what a run without a cancel leaves as well is no finding.
"""

import asyncio
import os
import re
import socket
import sys
import threading
import weakref
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from types import FrameType
from typing import Any, NamedTuple

from ..._os import proc
from ..._os.threads import looks
from ...freezing import MARK
from .course import Course, current_course
from .driver import Driver
from .keepers import caller_of
from .opened import opened_at, started_at
from .points import Stack, Step, is_ours, is_python, shown, stack_of
from .quiet import watched

__all__ = ["CLOSING", "Left", "Snapshot", "is_idle", "open_files"]


class Left(NamedTuple):
    """Something that was not there before.

    Attributes:
        oracle: which of the oracles it belongs to.
        key: what it is, the same from run to run.
        text: what to tell.
        patience: seconds it may still take to go away.
        gone: tells whether it has gone away.
        made: the stack at which it was made, where that is known, up to the frame that answers for it.
    """

    oracle: str
    key: str
    text: str
    patience: float
    gone: Callable[[], bool]
    made: Stack = ()


#: a sleeping task is told of by itself, and calloff's one timer for all its deadlines is never taken back
_HARMLESS = ("_set_result_unless_cancelled", "Timers._fire")
_BRIEF, _SHORT, CLOSING = 0.02, 0.06, 0.5
_ENVIRONMENT = 1 << 20  # bytes of an environment that are looked through


class Snapshot:
    """What was there before the function ran.

    Attributes:
        given: what was open then.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop, oracles: frozenset[str]) -> None:
        self.loop = loop
        self.oracles = oracles
        self.tasks: weakref.WeakSet[asyncio.Task[Any]] = weakref.WeakSet(asyncio.all_tasks(loop))
        self.threads = set(threading.enumerate())
        self.busy = {thread for thread in self.threads if not is_idle(thread)}
        self.files = open_files()
        self.given = sorted(map(_brief, self.files.values()))
        self.processes = _child_processes()
        self.timers = set(map(id, getattr(loop, "_scheduled", ())))
        self.readers = set(_readers(loop))

    def still_open(self, now: Mapping[int, str]) -> list[str]:
        """The sockets and files that were open before the function ran and still are, of those open now."""
        return sorted(_brief(name) for fd, name in self.files.items() if now.get(fd) == name)

    def left(
        self,
        course: Course,
        others: "weakref.WeakSet[asyncio.Task[Any]]",
        ended: Mapping[Stack, Stack],
        files: Mapping[int, str],
    ) -> list[Left]:
        """What is there now and was not before, without the tasks of `others`; `files` are those open now.

        `ended` tells where the function waits when a task that was started somewhere ends without a cancel.
        """
        found: list[Left] = []
        if "tasks" in self.oracles:
            found += self._tasks(course, others, ended)
        if "threads" in self.oracles:
            found += self._threads()
        if "processes" in self.oracles:
            found += self._processes()
        if "files" in self.oracles:
            found += self._files(files)
        if "timers" in self.oracles:
            found += self._timers()
        if "readers" in self.oracles:
            found += self._readers()
        return found

    def _tasks(
        self, course: Course, others: "weakref.WeakSet[asyncio.Task[Any]]", ended: Mapping[Stack, Stack]
    ) -> Iterator[Left]:
        order = {id(child): number for number, child in enumerate(course.children)}
        tasks = sorted(asyncio.all_tasks(self.loop), key=lambda task: order.get(id(task.get_coro()), len(order)))
        for task in tasks:  # as they were started: the first is what the fault is told by, and a baseline knows it
            if task in self.tasks or task in others:
                continue
            coro: Any = task.get_coro()
            made: Stack = ()
            by: Stack = ()
            if isinstance(coro, Driver):
                if coro is course.main or coro.course is not course or coro.left_by is not coro:
                    continue
                made = coro.made_at
                by = caller_of(made, ended.get(made, ()), coro.keepers, coro.had, task)
                coro = coro.coro
            name = getattr(coro, "__qualname__", type(coro).__name__)
            closing = name.endswith(".aclose") or type(coro).__name__ == "async_generator_athrow"
            stack = stack_of(coro)
            where = f" at {_line(shown(stack))}" if stack else ""
            started = f", started at {_line(shown(made))}" if made else ""
            state = "was cancelled and still runs" if task.cancelling() else "still runs"
            text = f"the task {name} {state}{where}{started}"
            patience = CLOSING if closing or task.cancelling() else _BRIEF
            yield Left("tasks", name, text, patience, task.done, by)

    def _threads(self) -> Iterator[Left]:
        for thread in threading.enumerate():
            if thread in self.busy or is_idle(thread) or thread.name.startswith(_WAITING):
                continue
            at = _thread_line(thread)
            if at is not None and at.function in _RESOLVING:
                continue
            text = f"the thread {thread.name} still runs"
            if at is not None:
                text += f" at {_line(at)}"
            made = () if _is_pooled(thread) else started_at(thread)
            if made:
                text += f", started at {_line(shown(made))}"
            key = getattr(getattr(thread, "_target", None), "__qualname__", type(thread).__name__)
            yield Left("threads", key, text, _SHORT, partial(is_idle, thread), made)

    def _processes(self) -> Iterator[Left]:
        for pid, name in _child_processes().items():
            if pid not in self.processes:
                text = f"the child process {pid} ({name}) still runs"
                yield Left("processes", name, text, _SHORT, partial(_has_ended, pid))

    def _files(self, files: Mapping[int, str]) -> Iterator[Left]:
        for fd, name in files.items():
            if self.files.get(fd) != name:
                made = opened_at(fd, name)
                where = f", opened at {_line(shown(made))}" if made else ""
                text = f"{_describe(fd, name)} is still open (fd {fd}){where}"
                yield Left("files", _kind(name, made), text, CLOSING, partial(_was_closed, fd, name), made)

    def _timers(self) -> Iterator[Left]:
        for handle in list(getattr(self.loop, "_scheduled", ())):
            if id(handle) in self.timers or handle.cancelled() or not _is_swept(handle):
                continue
            name = _callback(handle)
            if name in _HARMLESS:
                continue
            text = f"the timer {name} is still set, due in {max(0.0, handle.when() - self.loop.time()):.3g} s"
            yield Left("timers", name, text, _BRIEF, partial(self._is_off, handle))

    def _readers(self) -> Iterator[Left]:
        for fd, handle in _readers(self.loop).items():
            if fd in self.readers or not _is_swept(handle) or _target(fd) != self.files.get(fd):
                continue  # a new file is told of by itself
            name = _callback(handle)
            text = f"the loop still watches fd {fd} for {name}"
            yield Left("readers", name, text, _BRIEF, partial(self._is_unwatched, fd))

    def _is_off(self, handle: asyncio.TimerHandle) -> bool:
        return handle.cancelled() or handle not in getattr(self.loop, "_scheduled", ())

    def _is_unwatched(self, fd: int) -> bool:
        return fd not in _readers(self.loop)


# --- threads


def is_idle(thread: threading.Thread) -> bool:
    """Whether it is a worker of a pool that waits for its next job."""
    if thread.ident is None or not thread.is_alive():
        return True
    frame = next(looks(sys._current_frames)).get(thread.ident)
    if frame is None or _is_in(frame, "_worker", _FUTURES):
        return True
    while frame.f_back is not None and frame.f_code.co_name != "get" and is_python(frame.f_code.co_filename):
        frame = frame.f_back
    return frame.f_code.co_name == "get" and frame.f_back is not None and _is_in(frame.f_back, "run", _ANYIO)


def _is_in(frame: FrameType, function: str, file: str) -> bool:
    return frame.f_code.co_name == function and frame.f_code.co_filename.endswith(file)


#: where workers wait for their next job: those of Python's pools, and anyio's, which last as long as the root task
_FUTURES = os.path.join("futures", "thread.py")
_ANYIO = os.path.join("anyio", "_backends", "_asyncio.py")


def _is_pooled(thread: threading.Thread) -> bool:
    """Whether it belongs to a pool: who started it is not who gave it what it does now."""
    return getattr(getattr(thread, "_target", None), "__module__", "") == "concurrent.futures.thread"


def _thread_line(thread: threading.Thread) -> Step | None:
    frame = next(looks(sys._current_frames)).get(thread.ident or 0)
    inner: Step | None = None
    while frame is not None:
        code = frame.f_code
        step = Step(code.co_filename, frame.f_lineno, code.co_name)
        if inner is None:
            inner = step
        if not is_python(step.file) and not is_ours(step.file):
            return step
        if step.function in _RESOLVING:
            return step
        frame = frame.f_back
    return inner


#: asyncio's own, each for a child process, which is told of by itself
_WAITING = ("waitpid-", "asyncio-waitpid-")
_RESOLVING = frozenset({"getaddrinfo", "getnameinfo"})


# --- processes


def _child_processes() -> dict[int, str]:
    """The children of this process that have not ended, with the names of their programs.

    A helper of calloff's that is just being started is none of them: in a moment it is nobody's child.
    """
    return {pid: name for pid, name in proc.running_children(os.getpid()) if not _is_helper(pid)}


def _is_helper(pid: int) -> bool:
    return f"\0{MARK}=".encode() in b"\0" + proc.read(f"/proc/{pid}/environ", _ENVIRONMENT)


def _has_ended(pid: int) -> bool:
    return pid not in _child_processes()


def _listed(path: str) -> list[str]:
    try:
        return os.listdir(path)
    except OSError:
        return []


# --- files


def open_files() -> dict[int, str]:
    """The files and sockets that this process has open, each with its name."""
    found: dict[int, str] = {}
    for entry in _listed("/proc/self/fd"):
        name = _target(int(entry))
        if name is not None and not name.startswith(_OF_THE_LOOP):
            found[int(entry)] = name
    return found


_OF_THE_LOOP = ("anon_inode:", "/proc/")


def _target(fd: int) -> str | None:
    try:
        return os.readlink(f"/proc/self/fd/{fd}")
    except OSError:
        return None


def _was_closed(fd: int, name: str) -> bool:
    return _target(fd) != name


def _brief(name: str) -> str:
    return name.partition(":")[0] if name.startswith(("socket:", "pipe:")) else "file"


def _kind(name: str, made: Stack) -> str:
    """What it is, the same from run to run: a file is known by the line that opened it, as its name may be random."""
    if _brief(name) != "file":
        return _brief(name)
    if made:
        return f"file opened at {shown(made).file}:{shown(made).line}"
    folder, file = os.path.split(name)
    return f"file in {re.sub('[0-9]+', '#', folder)} {os.path.splitext(file)[1]}"


def _describe(fd: int, name: str) -> str:
    if not name.startswith("socket:"):
        return "a pipe" if name.startswith("pipe:") else f"the file {name}"
    try:
        with socket.socket(fileno=os.dup(fd)) as copy:
            own, peer = copy.getsockname(), ""
            try:
                peer = f" to {_address(copy.getpeername())}"
            except OSError:
                pass
            return f"a socket{peer or f' at {_address(own)}'}"
    except OSError:
        return "a socket"


def _address(address: object) -> str:
    return f"{address[0]}:{address[1]}" if isinstance(address, tuple) else str(address or "a pair")


# --- the loop


def _readers(loop: asyncio.AbstractEventLoop) -> dict[int, Any]:
    found: dict[int, Any] = {}
    for fd, key in watched(getattr(loop, "_selector", None)).items():
        handle = next((part for part in key.data or () if part is not None), None)
        if handle is not None:
            found[fd] = handle
    return found


def _is_swept(handle: Any) -> bool:
    context = getattr(handle, "_context", None)
    return context is not None and context.get(current_course) is not None


def _callback(handle: Any) -> str:
    callback = getattr(handle, "_callback", None)
    callback = getattr(callback, "func", callback)
    return re.sub(r" at 0x\w+", "", getattr(callback, "__qualname__", repr(callback)))


def _line(step: Step) -> str:
    return f"{os.path.basename(step.file)}:{step.line}: {step.source}" if step.source else f"{step.file}:{step.line}"
