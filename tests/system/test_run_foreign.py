"""Signals whose handlers a library takes while `calloff.run` runs: the end is bounded all the same."""

import signal
import socket
import time
from pathlib import Path

import pytest
from system.run_script import LATE, Program

INT, TERM = signal.SIGINT, signal.SIGTERM

#: ways to take a signal after `run` has; each sets `stop` when it comes
WAYS = {
    "signal": "signal.signal(number, lambda *_: (os.write(1, b'theirs\\n'), stop.set()))",
    "loop": "loop.add_signal_handler(number, lambda: (os.write(1, b'theirs\\n'), stop.set()))",
}
#: when it waits: a handler may not interrupt that
READY = '    loop.call_soon(say, "ready")\n'
every_way = pytest.mark.parametrize("way", WAYS)
every_number = pytest.mark.parametrize("number", [INT, TERM])


def library(way: str, number: int, rest: str) -> str:
    return f"""
number = signal.Signals({int(number)})

async def main():
    loop = asyncio.get_running_loop()
    stop = asyncio.Event()
    {WAYS[way]}
{READY}{rest}

"""


HANGS = """
    await stop.wait()
    try:
        await asyncio.sleep(60)
    finally:
        say("asked", calloff.current().reason)
"""
REFUSES = """
    while True:
        try:
            await asyncio.sleep(60)
        except asyncio.CancelledError:
            say("refused")
"""
OBEYS = """
    await stop.wait()
    await asyncio.sleep(0.1)
    return "gracefully"
"""


@every_way
@every_number
def test_a_library_that_hangs_is_asked_within_the_grace(tmp_path: Path, loop_kind: str, way: str, number: int) -> None:
    with Program(tmp_path, loop_kind, library(way, number, HANGS) + "run(main(), grace=1)") as program:
        program.wait_for("ready")
        since = program.signal(number)
        program.wait_for("theirs")
        took = program.end() - since
        name = signal.Signals(number).name
        assert program.out[2:] == [f"asked shutdown: {name} (by {name})"]
        assert program.status in ((-number, 130) if number == INT else (143,))
        assert 0.7 < took < 1 + 1 + LATE


@every_way
def test_what_refuses_is_forced_within_the_bound(tmp_path: Path, loop_kind: str, way: str) -> None:
    with Program(tmp_path, loop_kind, library(way, TERM, REFUSES) + "run(main(), grace=0.8)") as program:
        program.wait_for("ready")
        since = program.signal(TERM)
        program.wait_for("refused")
        took = program.end() - since
        assert program.status == 143
        assert took < 0.8 + 1 + LATE


@every_way
@every_number
def test_a_library_that_obeys_ends_the_program_itself(tmp_path: Path, loop_kind: str, way: str, number: int) -> None:
    with Program(tmp_path, loop_kind, library(way, number, OBEYS) + "say(run(main(), grace=20))") as program:
        program.wait_for("ready")
        program.signal(number)
        program.end(15)
        assert program.out[1:] == ["theirs", "gracefully"]
        assert program.status == 0


@every_way
def test_a_second_signal_forces(tmp_path: Path, loop_kind: str, way: str) -> None:
    with Program(tmp_path, loop_kind, library(way, TERM, HANGS) + "run(main(), grace=60)") as program:
        program.wait_for("ready")
        program.signal(TERM)
        program.wait_for("theirs")
        since = program.signal(TERM)
        took = program.end() - since
        assert program.status == 143
        assert took < 1 + LATE


@every_way
def test_a_loop_that_is_blocked_then_is_interrupted(tmp_path: Path, loop_kind: str, way: str) -> None:
    blocks = """
    await stop.wait()
    await asyncio.sleep(0.05)
    try:
        time.sleep(60)
    finally:
        say("interrupted")
"""
    with Program(tmp_path, loop_kind, library(way, TERM, blocks) + "run(main(), grace=1)") as program:
        program.wait_for("ready")
        since = program.signal(TERM)
        program.wait_for("interrupted")
        took = program.end() - since
        assert program.status == 143
        assert took < 1 + 1 + LATE


def test_a_handler_that_hands_on_is_heard_once(tmp_path: Path, loop_kind: str) -> None:
    rest = """
    former = signal.getsignal(number)
    signal.signal(number, lambda *args: (say("theirs too"), former(*args)))
    try:
        await asyncio.sleep(60)
    finally:
        await asyncio.sleep(0.1)
        say("cleaned up", calloff.current().report.rung)
"""
    source = library("signal", TERM, "").replace(WAYS["signal"], "pass") + ""
    source = source.replace(READY, rest.replace("    try:", READY + "    try:", 1))
    with Program(tmp_path, loop_kind, source + "run(main(), grace=20)") as program:
        program.wait_for("ready")
        program.signal(TERM)
        program.end(15)
        assert program.out[1:] == ["theirs too", "cleaned up ASKED"]
        assert program.status == 143


def test_a_signal_that_is_raised_anew_is_no_second_one(tmp_path: Path, loop_kind: str) -> None:
    rest = """
    await stop.wait()
    signal.signal(number, former)
    loop.call_soon(signal.raise_signal, number)
    try:
        await asyncio.sleep(60)
    finally:
        await asyncio.sleep(0.1)
        say("cleaned up", calloff.current().report.rung)
"""
    source = library("signal", TERM, rest).replace(
        "    signal.signal(number, lambda", "    former = signal.signal(number, lambda"
    )
    with Program(tmp_path, loop_kind, source + "run(main(), grace=20)") as program:
        program.wait_for("ready")
        program.signal(TERM)
        program.end(15)
        assert program.out[1:] == ["theirs", "cleaned up ASKED"]
        assert program.status == 143


def test_a_handler_that_is_given_back_to_the_loop_is_ours_again(tmp_path: Path, loop_kind: str) -> None:
    rest = """
    loop.remove_signal_handler(number)
    say("given back")
    try:
        await asyncio.sleep(60)
    finally:
        say("asked")
"""
    with Program(tmp_path, loop_kind, library("loop", TERM, rest) + "run(main(), grace=20)") as program:
        program.wait_for("ready")
        program.signal(TERM)
        program.end(15)
        assert program.out[2:] == ["asked"]
        assert program.status == 143


def test_other_signals_of_the_loop_are_heard(tmp_path: Path, loop_kind: str) -> None:
    source = """
    async def main():
        loop = asyncio.get_running_loop()
        heard = asyncio.Queue()
        loop.add_signal_handler(signal.SIGUSR1, heard.put_nowait, "one")
        loop.add_signal_handler(signal.SIGUSR2, heard.put_nowait, "two")
        say("ready")
        say(await heard.get())
        say(await heard.get())
        loop.remove_signal_handler(signal.SIGUSR1)
        loop.remove_signal_handler(signal.SIGUSR2)
        signal.raise_signal(signal.SIGTERM)
        await asyncio.sleep(60)

    run(main(), grace=20)
    """
    with Program(tmp_path, loop_kind, source) as program:
        program.wait_for("ready")
        program.signal(signal.SIGUSR1)
        program.wait_for("one")
        program.signal(signal.SIGUSR2)
        program.end(15)
        assert program.out[1:] == ["one", "two"]
        assert program.status == 143


def test_the_wakeup_file_of_the_program_is_its_own(tmp_path: Path, loop_kind: str) -> None:
    source = """
    mine, other = socket.socketpair()
    mine.setblocking(False)
    other.setblocking(False)
    signal.set_wakeup_fd(mine.fileno())

    async def main():
        await asyncio.sleep(0.1)

    run(main())
    say(signal.set_wakeup_fd(-1) == mine.fileno())
    """
    with Program(tmp_path, loop_kind, source) as program:
        program.end(15)
        assert program.out == ["True"]
        assert program.status == 0


def test_nothing_of_it_is_left(tmp_path: Path, loop_kind: str) -> None:
    source = """
    async def main():
        loop = asyncio.get_running_loop()
        loop.add_signal_handler(signal.SIGTERM, int)
        signal.signal(signal.SIGINT, signal.default_int_handler)
        await asyncio.sleep(0.01)
        loop.remove_signal_handler(signal.SIGTERM)

    run(main())
    before = set(os.listdir("/proc/self/fd"))  # libuv keeps two for good
    for _ in range(3):
        run(main())
    say(signal.set_wakeup_fd(-1), signal.getsignal(signal.SIGTERM) == signal.SIG_DFL)
    say(signal.getsignal(signal.SIGINT) is signal.default_int_handler)
    say(len(set(os.listdir("/proc/self/fd")) - before))
    """
    with Program(tmp_path, loop_kind, source) as program:
        program.end(15)
        assert program.out == ["-1 True", "True", "0"], program.err
        assert program.status == 0


def test_a_signal_for_a_forked_child_is_not_the_parents(tmp_path: Path, loop_kind: str) -> None:
    rest = """
    child = os.fork()
    if not child:
        signal.raise_signal(number)
        os._exit(0)
    os.waitpid(child, 0)
    await asyncio.sleep(0.5)
    return "not disturbed"
"""
    with Program(tmp_path, loop_kind, library("signal", TERM, rest) + "say(run(main(), grace=0.1))") as program:
        program.end(15)
        assert program.out[-1] == "not disturbed"
        assert program.status == 0


SERVER = """
import uvicorn

async def app(scope, receive, send):
    if scope["type"] != "http":
        raise RuntimeError(scope["type"])
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": b"first", "more_body": True})
    say("streaming")
    await asyncio.sleep(60)

async def main():
    listener = socket.create_server(("127.0.0.1", 0))
    say("port", listener.getsockname()[1])
    server = uvicorn.Server(uvicorn.Config(app, log_level="error", lifespan="off"))
    async def tell():
        while not server.started:  # it has taken the signals before
            await asyncio.sleep(0.01)
        say("started")

    telling = asyncio.create_task(tell())
    try:
        await server.serve([listener])
    finally:
        say("served")

run(main(), grace=2)
"""


@every_number
@pytest.mark.parametrize("stream", [True, False])
def test_a_web_server_with_an_open_stream(tmp_path: Path, loop_kind: str, number: int, stream: bool) -> None:
    pytest.importorskip("uvicorn")
    with Program(tmp_path, loop_kind, SERVER) as program:
        until = time.monotonic() + 60
        while not program.out:
            assert time.monotonic() < until, program.err
            time.sleep(0.01)
        with socket.create_connection(("127.0.0.1", int(program.out[0].split()[1])), timeout=20) as client:
            if stream:
                client.sendall(b"GET / HTTP/1.1\r\nHost: here\r\n\r\n")
                program.wait_for("streaming")
            else:
                program.wait_for("started")
            since = program.signal(number)
            program.wait_for("served")
            took = program.end() - since
        if stream:
            assert program.status in ((-number, 130) if number == INT else (143,))
        else:  # it has served to its end, and nothing was called off
            assert program.status == 0
        assert took < 2 + 1 + LATE
