"""What is done where the kernel of a notebook is loaded; tests/borders/test_notebook.py runs a real one."""

import asyncio
import os
import signal
import sys
import threading
import time
from types import ModuleType

import pytest

import calloff

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="there a loop reads no sockets")


@pytest.fixture
def heard_by_the_loop():
    """Whether a handler that does not wake the loop gets something done while the loop sleeps."""

    async def main():
        loop, heard = asyncio.get_running_loop(), asyncio.Event()
        former = signal.signal(signal.SIGUSR1, lambda *_: loop.call_soon(heard.set))
        try:
            await calloff.call(asyncio.sleep(0))
            threading.Thread(target=lambda: (time.sleep(0.1), os.kill(os.getpid(), signal.SIGUSR1))).start()  # type: ignore[func-returns-value]
            await asyncio.wait_for(heard.wait(), 30)
        finally:
            signal.signal(signal.SIGUSR1, former)

    return main


def test_a_signal_wakes_a_loop_that_sleeps(heard_by_the_loop, monkeypatch):
    monkeypatch.setitem(sys.modules, "ipykernel.kernelapp", ModuleType("ipykernel.kernelapp"))
    asyncio.run(heard_by_the_loop())
    assert signal.set_wakeup_fd(-1) == -1, "undone at the end of the loop"


def test_what_wakes_it_already_stays(heard_by_the_loop, monkeypatch):
    monkeypatch.setitem(sys.modules, "ipykernel.kernelapp", ModuleType("ipykernel.kernelapp"))

    async def main():
        asyncio.get_running_loop().add_signal_handler(signal.SIGUSR2, print)
        found = signal.set_wakeup_fd(-1)
        signal.set_wakeup_fd(found)
        await heard_by_the_loop()
        assert signal.set_wakeup_fd(found) == found

    asyncio.run(main())
