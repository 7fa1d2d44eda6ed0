"""Whether another process waits for something, where /proc tells that."""

import time
from pathlib import Path

__all__ = ["wait_until_it_waits"]


def wait_until_it_waits(pid: int, seconds: float = 20) -> None:
    """Wait until the main thread of a process sleeps: then it has handled what has come to it.

    A signal that comes between the interpreter's last look for signals and a call of the system that waits is handled
    after that call, in any program of Python.
    """
    stat = Path(f"/proc/{pid}/stat")
    until = time.monotonic() + seconds
    while stat.exists() and stat.read_text().rpartition(")")[2].split()[0] != "S":
        assert time.monotonic() < until, f"process {pid} never came to rest"
        time.sleep(0.001)
