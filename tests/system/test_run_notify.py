"""What a service manager hears of a program: ready, stopping, and signs of life of a loop that turns."""

import asyncio
import os
import signal
import socket
import subprocess
import sys
import time
from typing import Any

import pytest

import calloff
import calloff.service

pytestmark = pytest.mark.skipif(not hasattr(socket, "AF_UNIX"), reason="no such sockets here")


@pytest.fixture(params=["path", "abstract"])
def manager(request, tmp_path, monkeypatch):
    """The socket of a service manager; what it has been told is in `heard`."""
    if request.param == "abstract" and sys.platform != "linux":
        pytest.skip("abstract names are Linux's")
    shown = (
        str(tmp_path / "notify") if request.param == "path" else f"@calloff-test-{os.getpid()}-{time.monotonic_ns()}"
    )
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as receiver:
        receiver.bind(shown.replace("@", "\0"))
        receiver.setblocking(False)
        monkeypatch.setenv("NOTIFY_SOCKET", shown)
        monkeypatch.delenv("WATCHDOG_USEC", raising=False)
        monkeypatch.delenv("WATCHDOG_PID", raising=False)
        yield receiver


def heard(receiver):
    """All that has been told, in order."""
    lines = []
    while True:
        try:
            lines += receiver.recv(4096).decode().splitlines()
        except BlockingIOError:
            return [line for line in lines if not line.startswith("MAINPID=")]


def test_ready_as_soon_as_it_has_begun_and_stopping_at_its_end(manager):
    async def main():
        await asyncio.sleep(0)
        return heard(manager)

    assert calloff.run(main, notify="auto") == ["READY=1"]
    assert heard(manager) == ["STOPPING=1"]


def test_ready_when_the_program_says_so(manager):
    async def main():
        await asyncio.sleep(0.01)
        before = heard(manager)
        calloff.service.status("loading\nREADY=1")
        calloff.service.ready()
        calloff.service.ready()
        return before, heard(manager)

    assert calloff.run(main, notify="later") == ([], ["STATUS=loading", "READY=1"])


def test_nothing_is_said_where_it_was_not_asked_for(manager):
    async def main():
        calloff.service.ready()

    calloff.run(main)
    assert heard(manager) == []


def test_who_told_the_manager_which_process_is_the_main_one(manager):
    calloff.run(asyncio.sleep(0), notify="auto")
    lines = manager.recv(4096).decode().splitlines()
    assert lines == ["READY=1", f"MAINPID={os.getpid()}"]


def test_signs_of_life_from_a_loop_that_turns_and_none_while_it_is_blocked(manager, monkeypatch):
    monkeypatch.setenv("WATCHDOG_USEC", "20000")
    monkeypatch.setenv("WATCHDOG_PID", str(os.getpid()))

    async def main():
        counts: list[Any] = []
        async with asyncio.timeout(60):
            while len(counts) < 4:  # however slow the machine is, they go on coming
                await asyncio.sleep(0.005)
                counts += [line for line in heard(manager) if line == "WATCHDOG=1"]
        time.sleep(0.3)
        return heard(manager)

    assert calloff.run(main, notify="auto") == []
    lines = [line for line in heard(manager) if line != "WATCHDOG=1"]  # also while it ends, the loop turns
    assert lines == ["STOPPING=1"]


@pytest.mark.parametrize(("usec", "pid"), [("0", ""), ("soon", ""), ("10000", "1")])
def test_no_signs_of_life_for_somebody_else(manager, monkeypatch, usec, pid):
    monkeypatch.setenv("WATCHDOG_USEC", usec)
    monkeypatch.setenv("WATCHDOG_PID", pid)

    async def main():
        await asyncio.sleep(0.1)

    calloff.run(main, notify="auto")
    assert heard(manager) == ["READY=1", "STOPPING=1"]


@pytest.mark.parametrize("address", ["", "/nobody/is/here", "nonsense", "@nobody-is-here-" + "x" * 200])
def test_a_manager_that_is_not_there_is_no_error(monkeypatch, address):
    monkeypatch.setenv("NOTIFY_SOCKET", address)
    monkeypatch.setenv("WATCHDOG_USEC", "10000")
    assert calloff.run(asyncio.sleep(0.05, "done"), notify="auto") == "done"


def test_an_unknown_word():
    work = asyncio.sleep(0)
    with pytest.raises(ValueError, match='notify must be "auto", "later" or None, not True'):
        calloff.run(work, notify=True)  # type: ignore[arg-type]  # on purpose


def test_a_signal_is_told_as_stopping_before_the_clean_up(manager):
    code = (
        "import asyncio, calloff, time\n"
        "async def main():\n"
        "    asyncio.get_running_loop().call_soon(lambda: print('open', flush=True))\n"
        "    try: await asyncio.sleep(3600)\n"
        "    finally:\n"
        "        print('cleaning', flush=True); await asyncio.sleep(3600)\n"
        "calloff.run(main, notify='auto', grace=3600)\n"
    )
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True) as program:
        assert program.stdout.readline() == "open\n"
        program.send_signal(signal.SIGTERM)
        assert program.stdout.readline() == "cleaning\n"
        said = heard(manager)
        program.kill()
    assert said == ["READY=1", "STOPPING=1"]


def test_a_server_is_ready_when_it_listens_and_tells_how_long_its_end_takes(manager):
    code = (
        "import calloff.asgi\n"
        "async def app(scope, receive, send):\n"
        "    await receive()\n"
        "    await send({'type': 'lifespan.startup.complete'}); await receive()\n"
        "    await send({'type': 'lifespan.shutdown.complete'})\n"
        "calloff.asgi.serve(app, port=0, log_level='critical', drain=1, grace=2, closing=3)\n"
    )
    with subprocess.Popen([sys.executable, "-c", code]) as program:
        said = []
        deadline = time.monotonic() + 60
        while "READY=1" not in said and time.monotonic() < deadline:
            said += heard(manager)
            time.sleep(0.01)
        program.send_signal(signal.SIGTERM)
        assert program.wait(60) == 143
    assert said + heard(manager) == ["READY=1", "STOPPING=1", "EXTEND_TIMEOUT_USEC=9000000"]
