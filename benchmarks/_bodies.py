"""What the worker processes of `processes` and `killing` run. Those that never end say first who has to be dead."""

import os
import signal
import subprocess
import time
from typing import Any

__all__ = ["busy", "c_looping", "daemons", "ignoring", "nothing", "ready", "same", "sleeping", "who"]


def nothing() -> None: ...


def same(payload: bytes) -> bytes:
    return payload


def busy(payload: int) -> int:
    """Compute for a millisecond of this process's processor time."""
    end = time.process_time() + 0.001
    while time.process_time() < end:
        pass
    return payload


def who() -> int:
    return os.getpid()


def ready(path: str, *pids: int) -> None:
    """Write the processes to `path`, all at once."""
    with open(path + "~", "w", encoding="ascii") as file:
        file.write(" ".join(map(str, (os.getpid(), *pids))))
    os.rename(path + "~", path)


def sleeping(path: str) -> None:
    ready(path)
    time.sleep(60)


def c_looping(path: str) -> Any:
    ready(path)
    return sum(range(10**10))


def ignoring(path: str) -> None:
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    ready(path)
    while True:
        try:
            time.sleep(60)
        except BaseException:
            pass


def daemons(path: str) -> None:
    """Three processes below this one, two of which have left its session."""
    below = [
        subprocess.Popen(["sleep", "60"], start_new_session=new_session, stdout=subprocess.DEVNULL)
        for new_session in (False, True, True)
    ]
    ready(path, *(each.pid for each in below))
    time.sleep(60)
