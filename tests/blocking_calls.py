"""Tells of calls in calloff's own code that block an event loop.

Our own detector, and not blockbuster: that one refuses such calls wherever they are made, and half of these tests block
their loop on purpose, since they show what calloff does about it. What counts here is the code that blocks: of the frames
above the call, the first that is not the standard library's. Calls are seen by Python's audit events: `time.sleep`,
sockets, processes. Waits for locks have none, and wrapping them would show in every stack that these tests look at.
"""

import asyncio
import os
import sys
import sysconfig
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any

import calloff

OURS = os.path.dirname(calloff.__file__) + os.sep
STDLIB = sysconfig.get_path("stdlib") + os.sep
#: events of calls that wait for something outside (Python tells of `time.sleep` from 3.13 on)
EVENTS = frozenset({"time.sleep", "socket.connect", "socket.getaddrinfo", "subprocess.Popen", "os.system"})
TESTS = (os.path.join("testing", "_conformance"), os.path.join("testing", "_glass"))
#: what may be called, by file and function, and why
ALLOWED = {
    (os.path.join("control", "_links.py"), "_connect"): "a socket of Unix, which does not block",
    (
        os.path.join("testing", "_sweep", "quiet.py"),
        "select",
    ): "a millisecond in place of a loop that spins, in a sweep",
    (os.path.join("_places", "looking.py"), "_look_from_outside"): "milliseconds, where a person looks",
}
found: list[str] = []


def watch_for_blocking_calls() -> None:
    """Begin, once for the whole process: an audit hook can't be taken away again."""
    sys.addaudithook(_heard)


def _heard(event: str, arguments: tuple[Any, ...]) -> None:
    if event in EVENTS and not (event == "time.sleep" and arguments[0] == 0):
        _look(event, sys._getframe(1))


def _look(call: str, frame: FrameType | None) -> None:
    if asyncio._get_running_loop() is None:
        return
    while frame is not None and frame.f_code.co_filename.startswith(STDLIB):
        frame = frame.f_back
    if frame is None or not frame.f_code.co_filename.startswith(OURS):
        return
    file = frame.f_code.co_filename[len(OURS) :]
    if not file.startswith(TESTS) and (file, frame.f_code.co_name) not in ALLOWED:
        found.append(f"{call} in {frame.f_code.co_qualname} ({file}:{frame.f_lineno})")


@contextmanager
def nothing_blocks() -> Iterator[None]:
    """Fail at the end when code of ours has blocked an event loop."""
    found.clear()
    yield
    blocked, found[:] = sorted(set(found)), []
    assert not blocked, f"blocks the event loop: {'; '.join(blocked)}"
