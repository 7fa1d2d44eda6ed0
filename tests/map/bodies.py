"""What items do in tests of a map: functions that a worker process can import."""

import ctypes
import os
import signal
import subprocess
import sys
import threading
import time


def fine(item):
    return item


def short(item):
    time.sleep(0.002)
    return item


def fails(item):
    raise ValueError(f"item {item}")


def loops_in_c():
    (1 << 40_000_000) // 3**20_000_000


def refuses():
    while True:
        try:
            time.sleep(3600)
        except BaseException:
            pass


def bad(item, kind, at=23):
    """One bad item among many."""
    if item != at:
        return short(item)
    match kind:
        case "hang":
            time.sleep(3600)
        case "C loop":
            loops_in_c()
        case "crash":
            ctypes.string_at(0)
        case "refuse":
            refuses()
        case "os._exit":
            os._exit(3)
        case "kill":
            os.kill(os.getpid(), signal.SIGKILL)
        case "raise":
            raise ValueError("bad")
        case "sys.exit":
            sys.exit(4)
        case "unpicklable":
            return threading.Lock()
        case "unpicklable error":
            raise type("Local", (Exception,), {})("bad")
        case "leaves a child":
            subprocess.Popen(["sleep", "3600"], start_new_session=True)
            return item
    return None


def naps(item):
    time.sleep(0.06)


def kills_its_parent(item):
    if item == 13:
        os.kill(os.getppid(), signal.SIGKILL)
        time.sleep(3600)
    return item


class Trap:
    """Raises when it is unpickled."""

    def __init__(self, error):
        self.error = error

    def __reduce__(self):
        return spring, (self.error,)


def spring(error):
    raise error


def sets_a_trap(item):
    return Trap({1: SystemExit(3), 2: ValueError("sprung"), 3: GeneratorExit()}[item]) if item in (1, 2, 3) else item


class Slow:
    """Takes for ever to be unpickled."""

    def __reduce__(self):
        return time.sleep, (3600,)


def slow_to_unpickle(item):
    return Slow() if item == 2 else item


class Baited:
    """An item whose own code does something when it is unpickled in the worker."""

    def __init__(self, kind):
        self.kind = kind

    def __reduce__(self):
        return bites, (self.kind,)


def bites(kind):
    match kind:
        case "hangs":
            time.sleep(3600)
        case "ends the process":
            os._exit(3)
        case "crashes":
            os.kill(os.getpid(), signal.SIGSEGV)
        case "raises":
            raise ValueError("bitten")
        case "raises StopIteration":
            raise StopIteration
        case "exits":
            sys.exit(4)


def told_of(item):
    return type(item).__name__


class Bait:
    """A result, the same way, here."""

    def __init__(self, error):
        self.error = error

    def __reduce__(self):
        return spring, (self.error,)


def lays_bait(item):
    return Bait(item) if isinstance(item, BaseException) else item


def exits(item):
    if item == 2:
        sys.exit(4)
    if item == 4:
        raise KeyboardInterrupt
    return item


def forks(item):
    """The child comes back from the function, too."""
    if item % 4 == 1 and os.fork() == 0 and item == 5:
        raise ValueError("in the child")
    return item


class Unready:
    """A function that hangs while it is unpickled."""

    def __call__(self, item):
        return item

    def __reduce__(self):
        return bites, ("hangs",)
