"""A program that is nothing but a worker, beside an owner that sends it jobs: for `counted`, which runs it under callgrind.

The folder of calloff is the one that is on the path of Python, as with the programs of `counted`.
"""

import os
import socket
import subprocess
import sys
import time
from importlib import import_module
from types import ModuleType
from typing import Any

#: in the place of the number of a job; marshal writes it as these five bytes
NUMBER, WRITTEN = 2**31 - 1, b"i\xff\xff\xff\x7f"


def own(file: int, job: bytes, times: int) -> None:
    """Send jobs; what comes back is of no interest."""
    if os.fork():
        os._exit(0)  # the worker has no children
    data = socket.socket(fileno=file)
    for number in range(1, times + 1):
        data.sendall(job.replace(WRITTEN, b"i" + number.to_bytes(4, "little")))
        data.recv(1 << 16)


def work(times: int) -> None:
    """Be a worker until the owner ends."""
    package = ModuleType("_calloff")
    package.__path__ = [os.path.dirname(str(import_module("calloff").__file__))]
    for name in [name for name in sys.modules if name.partition(".")[0] == "calloff"]:
        del sys.modules[name]
    sys.modules["_calloff"] = package
    wire, short, page, inside, home, worker = (
        import_module(f"_calloff._child.{name}") for name in ("wire", "short", "page", "inside", "home", "worker")
    )
    clock: Any = lambda: time.monotonic() / 60  # noqa: E731
    clock.monotonic = clock
    for module in (inside, home, worker):
        vars(module).update(time=clock, monotonic=clock)
    parts = getattr(wire, "parts_of", wire.frame)(
        (NUMBER, "1", "abs", None, None, None), short.short_call(abs, (-1,), {})
    )
    ours, theirs = socket.socketpair()
    line = [sys.executable, __file__, str(theirs.fileno()), b"".join(parts).hex(), str(times)]
    subprocess.run(line, pass_fds=[theirs.fileno()], check=True)
    theirs.close()
    sys.stdout = open(os.devnull, "w")  # noqa: SIM115
    at_home = home.Home({"env": dict(os.environ), "cwd": os.getcwd(), "path": sys.path[:], "argv": sys.argv[:]})
    shared = inside.operation.page = page.Page()
    sys.modules.pop("resource", None)
    at_home.note()
    worker.Worker(ours, shared, os.open(os.devnull, os.O_WRONLY), at_home).serve()


if __name__ == "__main__":
    if len(sys.argv) > 3:
        own(int(sys.argv[1]), bytes.fromhex(sys.argv[2]), int(sys.argv[3]))
    else:
        work(int(sys.argv[2]))
