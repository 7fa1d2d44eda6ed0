"""Tells of calls in calloff's own code that block an event loop.

Our own detector, and not blockbuster: that one refuses such calls wherever they are made, and half of these tests block
their loop on purpose, since they show what calloff does about it. What counts here is the code that blocks: of the frames
above the call, the first that is neither the standard library's nor a test's. Calls are seen by Python's audit events
(`time.sleep`, sockets, processes) and by the few methods through which its threads wait for each other.
"""

import asyncio
import os
import sys
import sysconfig
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any

import calloff

OURS = os.path.dirname(calloff.__file__) + os.sep
STDLIB = sysconfig.get_path("stdlib") + os.sep
#: events of calls that wait for something outside (Python tells of `time.sleep` from 3.13 on)
EVENTS = frozenset({"time.sleep", "socket.connect", "socket.getaddrinfo", "subprocess.Popen", "os.system"})
TESTS = os.path.join("testing", "_conformance")
START = threading.Thread.start.__code__
#: what may wait, by file and function, and why
ALLOWED = {
    ("_operation/checkpoint.py", "checkpoint"): "called by blocking code in the place of a wait of its own",
    ("_operation/on_stop.py", "__exit__"): "the plain form of a block: whoever uses it in a coroutine asks for that",
}
found: list[str] = []


def watch_for_blocking_calls() -> None:
    """Begin, once for the whole process: an audit hook can't be taken away again."""
    sys.addaudithook(_heard)
    for owner, name, waits in (
        (threading.Condition, "wait", lambda self, timeout=None: timeout != 0),
        (threading.Thread, "join", lambda self, timeout=None: timeout != 0 and self.is_alive()),
    ):
        setattr(owner, name, _told(getattr(owner, name), f"{owner.__name__}.{name}", waits))


def _told(method: Callable[..., Any], name: str, waits: Callable[..., bool]) -> Callable[..., Any]:
    def call(self: Any, *args: Any, **options: Any) -> Any:
        if waits(self, *args, **options):
            _look(name, sys._getframe(1))
        return method(self, *args, **options)

    return call


def _heard(event: str, arguments: tuple[Any, ...]) -> None:
    if event in EVENTS and not (event == "time.sleep" and arguments[0] == 0):
        _look(event, sys._getframe(1))


def _look(call: str, frame: FrameType | None) -> None:
    if asyncio._get_running_loop() is None:
        return
    while frame is not None and frame.f_code.co_filename.startswith(STDLIB):
        if frame.f_code is START:  # waits until the new thread has begun, as every start of a thread does
            return
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
