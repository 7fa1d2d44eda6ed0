"""What a sweep of a suite takes from one await, and from one test, to the next."""

import asyncio
import json
import shutil
import socket
import subprocess
import tempfile
import threading
import uuid
from pathlib import Path

import pytest

from calloff.testing._suite.claims import Claims
from calloff.testing._sweep.plan import Plan
from calloff.testing._sweep.points import Point, Step
from calloff.testing._sweep.still import is_still

from .test_pytest_plugin import run_pytest

POOL = """
import asyncio
import warnings

class Base:
    open = False

    def __del__(self):
        if self.open:
            warnings.warn("unclosed base <Base>", ResourceWarning)

class Connection:
    def __init__(self):
        self.base = Base()

    async def __aenter__(self):
        self.base.open = True
        await asyncio.sleep(0)
        return self

    async def work(self):
        await asyncio.sleep(0)

    async def __aexit__(self, *_):
        self.base.open = False
"""
TOGETHER = """
import asyncio
import pool

async def one(turn):
    for _ in range(turn):
        await asyncio.sleep(0)
    async with pool.Connection() as connection:
        await connection.work()

async def test_many():
    await asyncio.gather(*map(one, range(4)))
"""


def project(folder: Path, module: str, tests: str, name: str = "pool") -> Path:
    (folder / "tests").mkdir()
    (folder / f"{name}.py").write_text(module)
    (folder / "tests" / f"test_{name}.py").write_text(tests)
    (folder / "pytest.ini").write_text("[pytest]\npythonpath = .\n")
    return folder


def faults(folder: Path, *options: str) -> list[tuple[str, str]]:
    done = run_pytest(folder, "--cancel-sweep", "--cancel-sweep-report=json", *options)
    assert (folder / "cancel-sweep.json").exists(), done.stdout
    document = json.loads((folder / "cancel-sweep.json").read_text())
    return [(fault["owner"], fault["function"]) for fault in document["faults"]]


def test_of_tasks_called_off_together_each_is_judged_by_what_it_leaves_itself(tmp_path: Path) -> None:
    assert faults(project(tmp_path, POOL, TOGETHER)) == [("project", "__aenter__")]


BOTH = """
import asyncio
import pool

lost = []

def lose():
    lost.append(pool.Base())
    if len(lost) == 2:
        lost[0].open = True
        lost.clear()

async def one():
    try:
        await asyncio.sleep(0)
    except asyncio.CancelledError:
        lose()
        raise

async def other():
    try:
        await asyncio.sleep(0)
    except asyncio.CancelledError:
        lose()
        raise
"""


def test_what_none_of_them_leaves_alone_is_held_against_where_all_were_called_off(tmp_path: Path) -> None:
    test = "import asyncio\nimport both\n\nasync def test_both():\n    await asyncio.gather(both.one(), both.other())\n"
    folder = project(tmp_path, BOTH, test, "both")
    (folder / "pool.py").write_text(POOL)
    assert faults(folder, "--cancel-sweep-phases=early") == [("tests", "test_both")]


RANDOM = """
import asyncio
import os

async def token():
    await asyncio.sleep(0)
    return os.urandom(8).hex()

class Tickets:
    def __init__(self):
        self.free = ["only"]

    async def take(self):
        ticket = self.free.pop() if self.free else None
        await asyncio.sleep(0)
        if ticket is not None:
            self.free.append(ticket)
        return ticket
"""
CALLS = """
import tokens

async def test_token():
    assert len(await tokens.token()) == 16

async def test_take():
    assert await tokens.Tickets().take() == "only"
"""


def test_a_call_that_returns_another_value_each_time_is_no_fault_and_one_that_returns_another_afterwards_is(
    tmp_path: Path,
) -> None:
    assert faults(project(tmp_path, RANDOM, CALLS, "tokens")) == [("project", "take")]


def plan(*lines: int, second: tuple[int, ...] = (), phase: str = "early", file: str = "/p/a.py") -> Plan:
    def point(way: tuple[int, ...]) -> Point:
        return Point("", tuple(Step(file, line, f"f{line // 10}") for line in way), 1)

    return Plan("double" if second else phase, point(lines), point(second) if second else None, phase if second else "")


def test_a_way_is_claimed_by_its_steps() -> None:
    claims = Claims(lambda file: "project" if file.startswith("/p/") else "tests")
    assert claims.take(plan(11, 21, 31), "one")
    assert not claims.is_free(plan(11, 21, 31), "two")
    assert claims.take(plan(12, 21, 31), "two")  # from another line
    assert claims.take(plan(12, 22, 32), "two")
    assert not claims.take(plan(11, 21, 31), "three")
    assert claims.take(plan(11, 22), "three")
    assert not claims.take(plan(11, 22, 32), "four")  # each of its steps was taken as part of another way
    assert claims.is_free(plan(11, 22, 32, phase="late"), "four")
    assert claims.take(plan(11, 21, second=(11, 25)), "four")
    assert not claims.is_free(plan(12, 21, second=(11, 25)), "five")  # the same clean-up, for the same function
    assert claims.is_free(plan(12, 31, second=(11, 25)), "five")
    own = plan(11, 21, file="/t/test_a.py")
    assert claims.take(own, "six[a]")
    assert not claims.take(own, "six[b]")
    assert claims.take(own, "seven")


def test_a_claim_holds_for_those_who_are_swept_on_the_same_terms() -> None:
    name = uuid.uuid4().hex
    first, second = Claims(lambda _: "project", name), Claims(lambda _: "project", name)
    try:
        assert first.take(plan(11, 21), "one", "5 seconds")
        assert not second.is_free(plan(11, 21), "two", "5 seconds")
        assert second.take(plan(11, 21), "two", "1 second")
        assert not first.is_free(plan(11, 21), "three", "1 second")
        second.give_back(plan(11, 21))
        assert first.is_free(plan(11, 21), "three", "1 second")
        assert not second.is_free(plan(11, 21), "three", "5 seconds")
    finally:
        shutil.rmtree(Path(tempfile.gettempdir(), f"calloff-sweep-{name}"))


def test_what_there_is_no_room_for_another_test_may_try() -> None:
    name = uuid.uuid4().hex
    first, second = Claims(lambda _: "project", name), Claims(lambda _: "project", name)
    try:
        assert first.take(plan(11, 21), "one")
        assert first.take(plan(12, 21), "one")
        assert not second.is_free(plan(12, 21), "two")
        first.give_back(plan(12, 21))
        assert second.is_free(plan(12, 21), "two")
        assert not second.is_free(plan(11, 21), "two")
        assert first.take(plan(12, 21), "three")
    finally:
        shutil.rmtree(Path(tempfile.gettempdir(), f"calloff-sweep-{name}"))


def test_nobody_waits_where_nothing_can_happen(monkeypatch: pytest.MonkeyPatch) -> None:
    others, of_all = set(threading.enumerate()) - {threading.current_thread()}, threading.enumerate
    monkeypatch.setattr(threading, "enumerate", lambda: [thread for thread in of_all() if thread not in others])

    async def look() -> None:
        loop = asyncio.get_running_loop()
        assert is_still(loop)
        timer = loop.call_later(1, str)
        assert not is_still(loop)
        timer.cancel()
        timer = loop.call_later(60, str)
        assert is_still(loop)
        timer.cancel()
        loop.call_soon(str)
        assert not is_still(loop)
        await asyncio.sleep(0)
        theirs: list[asyncio.StreamWriter] = []
        server = await asyncio.start_server(lambda _, writer: theirs.append(writer), "127.0.0.1", 0)
        assert is_still(loop)
        _, writer = await asyncio.open_connection(*server.sockets[0].getsockname())
        while not theirs or not is_still(loop):  # both ends are here
            await asyncio.sleep(0)
        own, other = socket.socketpair()
        loop.add_reader(own, print)
        assert not is_still(loop)  # whose the other end is can't be told
        loop.remove_reader(own)
        own.close()
        other.close()
        release = threading.Event()
        thread = threading.Thread(target=release.wait)
        thread.start()
        assert not is_still(loop)
        release.set()
        await loop.run_in_executor(None, thread.join)
        while not is_still(loop):  # the worker is idle in a moment
            await asyncio.sleep(0)
        child = subprocess.Popen(["sleep", "60"])
        assert not is_still(loop)
        child.kill()
        child.wait()
        server.close()
        for end in (writer, *theirs):
            end.close()
            await end.wait_closed()

    with asyncio.Runner(loop_factory=asyncio.SelectorEventLoop) as runner:
        runner.run(look())


def test_of_a_loop_that_shows_nothing_it_is_not_known_whether_it_is_still() -> None:
    assert not is_still(object())  # type: ignore[arg-type]
