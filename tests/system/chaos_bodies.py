"""What the operations of the chaos test do: each misbehaves in a way of its own.

Those in processes note what they do in a file of their operation, a line for each note: the number of the process, when
it was started (so that the number can't be mistaken) and what happened. Everything that they start and exec carries the
token of the operation in its environment or its arguments. By that the observer tells what is left of them, without
asking calloff. Bodies in threads and tasks note it in a record that the test shares with them.
"""

import asyncio
import ctypes
import hashlib
import os
import resource
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from typing import Any

import calloff

LONG = 1000.0


class Record:
    """What a body in a thread or a task does, seen from outside."""

    def __init__(self, token: str, wait: float) -> None:
        self.token = token
        self.wait = wait
        self.inside = False
        self.left_at = 0.0
        self.parts = 0
        """How many child tasks, and calls in threads, of the body run now."""
        self._counting = threading.Lock()
        self.release = threading.Event()
        """Set by the test in the end, so that what refuses everything does not run for ever."""

    def leave(self) -> None:
        self.inside = False
        self.left_at = time.monotonic()

    def part(self, change: int) -> None:
        with self._counting:
            self.parts += change


# --- in a worker process


def note(path: str, what: str) -> None:
    with open("/proc/self/stat") as file:
        started = file.read().rpartition(")")[2].split()[19]
    file_number = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)
    os.write(file_number, f"{os.getpid()} {started} {what}\n".encode())
    os.close(file_number)


def in_process(body: str, path: str, token: str, wait: float) -> Any:
    """Run a body in a worker. The clean-up stands there twice: a request may hit the first one, and no more."""
    try:
        try:
            note(path, "in")
            value = IN_PROCESS[body](path, token, wait)
            note(path, "returns")
            return value
        finally:
            note(path, "out")
    finally:
        note(path, "out")


async def in_async_process(body: str, path: str, token: str, wait: float) -> Any:
    try:
        try:
            note(path, "in")
            value = await IN_ASYNC_PROCESS[body](token, wait)
            note(path, "returns")
            return value
        finally:
            note(path, "out")
    finally:
        note(path, "out")


def _returns(path: str, token: str, wait: float) -> str:
    time.sleep(wait)
    return token


def _raises(path: str, token: str, wait: float) -> str:
    time.sleep(wait)
    raise ValueError(token)


def _blocks(path: str, token: str, wait: float) -> None:
    time.sleep(LONG)


def _waits_for_a_lock(path: str, token: str, wait: float) -> None:
    lock = threading.Lock()
    lock.acquire()
    lock.acquire()


def _swallows(path: str, token: str, wait: float) -> None:
    while True:
        try:
            while True:
                time.sleep(0.05)
        except asyncio.CancelledError:
            pass


def _catches_everything(path: str, token: str, wait: float) -> None:
    while True:
        try:
            while True:
                time.sleep(LONG)
        except BaseException:
            pass


def _swallows_once(path: str, token: str, wait: float) -> str:
    try:
        time.sleep(LONG)
    except asyncio.CancelledError:
        time.sleep(wait)
    return token


def _runs_in_c(path: str, token: str, wait: float) -> int:
    return sum(range(10**13))


def _segfaults(path: str, token: str, wait: float) -> None:
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    time.sleep(wait)
    note(path, "dies")
    ctypes.string_at(0)


def _exits(path: str, token: str, wait: float) -> None:
    time.sleep(wait)
    note(path, "dies")
    os._exit(7)


def _ignores_signals(path: str, token: str, wait: float) -> None:
    for number in signal.valid_signals() - {signal.SIGKILL, signal.SIGSTOP, signal.SIGCHLD}:
        signal.signal(number, signal.SIG_IGN)
    _catches_everything(path, token, wait)


def _stops_itself(path: str, token: str, wait: float) -> None:
    time.sleep(wait)
    os.kill(os.getpid(), signal.SIGSTOP)
    time.sleep(LONG)


def _exhausts_memory(path: str, token: str, wait: float) -> None:
    """As the system does it: whoever takes too much is killed."""
    with open("/proc/self/statm") as file:
        used = int(file.read().split()[0]) * resource.getpagesize()
    before = resource.getrlimit(resource.RLIMIT_AS)
    taken = []
    try:
        try:
            resource.setrlimit(resource.RLIMIT_AS, (used + (96 << 20), before[1]))
            while True:
                taken.append(bytearray(4 << 20))
                time.sleep(wait / 30)
        except MemoryError:
            taken.clear()
            note(path, "dies")
            os.kill(os.getpid(), signal.SIGKILL)
        finally:
            resource.setrlimit(resource.RLIMIT_AS, before)
    finally:
        resource.setrlimit(resource.RLIMIT_AS, before)


def _setsid_child(path: str, token: str, wait: float) -> str:
    code = "import signal,time\nfor n in (1,2,15): signal.signal(n, signal.SIG_IGN)\ntime.sleep(1000)"
    argv = [sys.executable, "-I", "-S", "-c", code]
    child = subprocess.Popen(argv, env={"CALLOFF_CHAOS": token}, start_new_session=True)
    child.returncode = 0  # nobody waits for it
    time.sleep(wait)
    return token


def _forks(path: str, then: Callable[[], None]) -> None:
    """Run `then` in a daemon: a process that has left its session and lost its parent."""
    pid = os.fork()
    if not pid:
        try:
            os.setsid()
            if not os.fork():
                for number in signal.valid_signals() - {signal.SIGKILL, signal.SIGSTOP}:
                    signal.signal(number, signal.SIG_IGN)
                note(path, "daemon")
                then()
        finally:
            os._exit(0)
    os.waitpid(pid, 0)


def _forked_daemon(path: str, token: str, wait: float) -> str:
    _forks(path, lambda: time.sleep(LONG))
    time.sleep(wait)
    return token


def _named_daemons(path: str, token: str, wait: float) -> None:
    for _ in range(3):
        _forks(path, lambda: os.execve("/bin/sh", ["sh", "-c", "sleep 1000; :", token], {}))
    _catches_everything(path, token, wait)


def _wanders(path: str, token: str, wait: float) -> str:
    """A process that is never the same for long: it forks and ends, over and over."""

    def wander() -> None:
        while True:
            note(path, "wanders")
            time.sleep(0.01)
            if os.fork():
                os._exit(0)

    _forks(path, wander)
    time.sleep(wait)
    return token


_TREE = (
    """for i in 1 2 3 4 5 6 7; do setsid sh -c 'for j in 1 2 3 4 5 6; do sleep 1000 & done; wait' x $0 & done; wait"""
)


def _tree(path: str, token: str, wait: float) -> None:
    subprocess.Popen(["/bin/sh", "-c", _TREE, token], env={"CALLOFF_CHAOS": token}).returncode = 0
    _swallows(path, token, wait)


def _leaves_a_tree(path: str, token: str, wait: float) -> str:
    subprocess.Popen(["/bin/sh", "-c", _TREE, token], env={"CALLOFF_CHAOS": token}).returncode = 0
    time.sleep(wait)
    return token


IN_PROCESS: dict[str, Callable[[str, str, float], Any]] = {
    "returns": _returns,
    "raises": _raises,
    "blocks": _blocks,
    "waits for a lock": _waits_for_a_lock,
    "swallows": _swallows,
    "catches everything": _catches_everything,
    "swallows once": _swallows_once,
    "runs in C": _runs_in_c,
    "segfaults": _segfaults,
    "os._exit": _exits,
    "exhausts memory": _exhausts_memory,
    "ignores signals": _ignores_signals,
    "stops itself": _stops_itself,
    "setsid child": _setsid_child,
    "forked daemon": _forked_daemon,
    "exec'ed daemons": _named_daemons,
    "wanders": _wanders,
    "tree of 50": _tree,
    "leaves a tree of 50": _leaves_a_tree,
}


async def _async_returns(token: str, wait: float) -> str:
    await asyncio.sleep(wait)
    return token


async def _async_sleeps(token: str, wait: float) -> None:
    await asyncio.sleep(LONG)


async def _async_swallows(token: str, wait: float) -> None:
    while True:
        try:
            await asyncio.sleep(LONG)
        except asyncio.CancelledError:
            pass


async def _async_blocks(token: str, wait: float) -> None:
    time.sleep(LONG)


IN_ASYNC_PROCESS: dict[str, Callable[[str, float], Any]] = {
    "async returns": _async_returns,
    "async sleeps": _async_sleeps,
    "async swallows": _async_swallows,
    "async blocks": _async_blocks,
}

# --- commands: lines for the shell, which get the token as $0, and the time to wait as $1

_IGNORE = "trap '' TERM INT HUP QUIT"
_EAT = "x = []\nwhile True: x.append(bytearray(1 << 20))"
COMMANDS: dict[str, str] = {
    "returns": "sleep $1; echo $0",
    "raises": "sleep $1; exit 3",
    "blocks": "exec sleep 1000",
    "swallows": f"{_IGNORE}; while :; do sleep 1000; done",
    "spins": f"{_IGNORE}; while :; do :; done",
    "obeys late": "trap 'sleep 0.1; exit 0' TERM; while :; do sleep 1000 & wait; done",
    "segfaults": "ulimit -c 0; sleep $1; kill -SEGV $$; sleep 1000",
    "stops itself": f"{_IGNORE}; sleep $1; kill -STOP $$; sleep 1000",
    "exhausts memory": f"ulimit -v 300000; exec {sys.executable} -I -S -c '{_EAT}' $0",
    "setsid child": f"{_IGNORE}; setsid sleep 1000 & sleep $1; echo $0",
    "leaves daemons": "for i in 1 2 3; do (setsid sh -c 'sleep 1000 & sleep 1000' x $0 &); done; sleep $1; echo $0",
    "wanders": "w() { sleep 0.02; w & }; (w &) ; sleep $1; echo $0",
    "tree of 50": f"{_IGNORE}; {_TREE}",
    "no environment": "env -i setsid sh -c 'sleep 1000; :' $0 & sleep 1000; :",
}

#: the exit status of the commands that fail by themselves
STATUS = {"raises": 3, "segfaults": -signal.SIGSEGV, "exhausts memory": 1}

# --- in a thread


def in_thread(body: str, record: Record) -> Any:
    record.inside = True
    try:
        try:
            return IN_THREAD[body](record)
        finally:
            record.leave()
    finally:
        record.leave()


def _thread_returns(record: Record) -> str:
    time.sleep(record.wait)
    return record.token


def _thread_raises(record: Record) -> str:
    time.sleep(record.wait)
    raise ValueError(record.token)


def _thread_checks(record: Record) -> None:
    calloff.checkpoint(LONG)


def _thread_computes(record: Record) -> None:
    while not record.release.is_set():
        time.sleep(0.001)


def _thread_swallows(record: Record) -> None:
    while not record.release.is_set():
        try:
            calloff.checkpoint(0.05)
        except asyncio.CancelledError:
            time.sleep(0.005)


def _thread_swallows_once(record: Record) -> str:
    try:
        calloff.checkpoint(LONG)
    except asyncio.CancelledError:
        pass
    return record.token


def _thread_catches_everything(record: Record) -> None:
    while not record.release.is_set():
        try:
            while not record.release.is_set():
                time.sleep(0.005)
        except BaseException:
            pass


def _thread_blocks(record: Record) -> None:
    record.release.wait(60)


def _thread_in_c(record: Record) -> str:
    hashlib.pbkdf2_hmac("sha256", b"", b"", 200_000)
    return record.token


IN_THREAD: dict[str, Callable[[Record], Any]] = {
    "returns": _thread_returns,
    "raises": _thread_raises,
    "checkpoint": _thread_checks,
    "computes": _thread_computes,
    "swallows": _thread_swallows,
    "swallows once": _thread_swallows_once,
    "catches everything": _thread_catches_everything,
    "blocks": _thread_blocks,
    "runs in C": _thread_in_c,
}

# --- in a task


async def in_task(body: str, record: Record) -> Any:
    record.inside = True
    try:
        try:
            return await IN_TASK[body](record)
        finally:
            record.leave()
    finally:
        record.leave()


async def _task_returns(record: Record) -> str:
    await asyncio.sleep(record.wait)
    return record.token


async def _task_raises(record: Record) -> None:
    await asyncio.sleep(record.wait)
    raise ValueError(record.token)


async def _task_sleeps(record: Record) -> None:
    await asyncio.sleep(LONG)


async def _task_swallows(record: Record) -> None:
    while not record.release.is_set():
        try:
            await asyncio.sleep(LONG)
        except asyncio.CancelledError:
            pass


async def _task_swallows_once(record: Record) -> str:
    try:
        await asyncio.sleep(LONG)
    except asyncio.CancelledError:
        await asyncio.sleep(0)
    return record.token


async def _task_catches_everything(record: Record) -> None:
    while not record.release.is_set():
        try:
            while not record.release.is_set():
                await asyncio.sleep(0.02)
        except BaseException:
            pass


async def _task_cleans_up(record: Record) -> None:
    try:
        await asyncio.sleep(LONG)
    finally:
        await asyncio.sleep(record.wait)


async def _task_blocks(record: Record) -> None:
    time.sleep(LONG)


async def _task_in_c(record: Record) -> None:
    while True:
        sum(range(100_000))


# --- child tasks and threads of executors, which belong to the body that waits for them


async def _child(record: Record, work: Callable[[Record], Any]) -> Any:
    record.part(1)
    try:
        try:
            return await work(record)
        finally:
            await asyncio.sleep(0)
    finally:
        record.part(-1)


def _call(record: Record, seconds: float) -> None:
    record.part(1)
    try:
        record.release.wait(seconds)
    finally:
        record.part(-1)


async def _group(record: Record) -> None:
    async with asyncio.TaskGroup() as group:
        group.create_task(_child(record, _task_sleeps))
        group.create_task(_child(record, _task_swallows))
        group.create_task(_child(record, _task_cleans_up))


async def _gathers(record: Record) -> None:
    await asyncio.gather(_child(record, _task_swallows_once), _child(record, _task_swallows))


async def _nested_groups(record: Record) -> None:
    async def inner(record: Record) -> None:
        async with calloff.TaskGroup() as group:
            group.create_task(_child(record, _task_swallows))

    async with asyncio.TaskGroup() as group:
        group.create_task(_child(record, inner))


async def _waits_for_a_task(record: Record) -> None:
    await asyncio.ensure_future(_child(record, _task_swallows))


async def _short_call(record: Record) -> None:
    while True:
        await asyncio.to_thread(_call, record, 0.02)


async def _long_call(record: Record) -> None:
    await asyncio.get_running_loop().run_in_executor(None, _call, record, LONG)


async def _children_with_calls(record: Record) -> None:
    async with asyncio.TaskGroup() as group:
        group.create_task(_child(record, _short_call))
        group.create_task(_child(record, _long_call))


IN_TASK: dict[str, Callable[[Record], Any]] = {
    "returns": _task_returns,
    "raises": _task_raises,
    "sleeps": _task_sleeps,
    "swallows": _task_swallows,
    "swallows once": _task_swallows_once,
    "catches everything": _task_catches_everything,
    "cleans up": _task_cleans_up,
    "blocks": _task_blocks,
    "runs in C": _task_in_c,
    "group": _group,
    "gathers": _gathers,
    "nested groups": _nested_groups,
    "waits for a task": _waits_for_a_task,
    "short calls": _short_call,
    "long call": _long_call,
    "children with calls": _children_with_calls,
}
#: those that hold up everybody: only a limit of their own can end them, and it comes soon
BLOCKING = frozenset({"blocks", "runs in C"})
