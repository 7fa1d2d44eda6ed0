"""What the server makes of what it is sent, whole or half, sense or garbage; and who may send it anything."""

import json
import os
import random
import stat
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from control.programs import Program, eventually, running
from control.raw import Raw
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from places.process_table import until

from calloff.control import expose
from calloff.control._records import LONGEST, VERSION

#: how many messages the quick fuzzing sends; CALLOFF_FUZZ=100000 is the long run
FUZZ = int(os.environ.get("CALLOFF_FUZZ", "20000"))


@contextmanager
def connected(sockets: Path) -> Iterator[Raw]:
    with expose(), Raw(sockets) as raw:
        raw.hear()
        yield raw


def test_the_greeting_and_the_four_verbs(sockets: Path, tmp_path: Path) -> None:
    source = """
    async def main():
        await calloff.start(asyncio.sleep(3600), name="sleeper")
    """
    with Program(tmp_path, source) as program:
        eventually(running(2))
        with Raw(sockets, program.pid) as raw:
            hello = raw.hear()
            assert (hello["answer"], hello["version"], hello["pid"]) == ("hello", VERSION, program.pid)
            assert hello["argv"][-1].endswith("work.py:main")
            assert abs(hello["started_at"] - time.time()) < 100
            listing = raw.ask(verb="list")
            assert (listing["answer"], listing["total"], listing["counts"]) == ("listing", 2, {"running": 2})
            assert raw.ask(verb="list", query={"name": "sleep*", "unknown": [1, 2]}, more=3)["total"] == 1
            sleeper = listing["rows"][1]["id"]
            details = raw.ask(verb="show", id=sleeper)
            assert details["detail"]["row"]["name"] == "sleeper"
            assert raw.ask(verb="show", id="7")["text"] == "there is no operation '7'"
            first = raw.ask(verb="watch", id=sleeper, every=0.05)
            assert (first["answer"], first["last"]) == ("listing", False)
            assert raw.hear()["rows"][0]["age"] > first["rows"][0]["age"]
            with Raw(sockets, program.pid) as other:
                other.hear()
                other.send(
                    b'{"verb":"cancel","query":{"ids":["%s"]},"reason":"r"}\n{"verb":"list"}\n' % sleeper.encode()
                )
                assert (other.hear()["answer"], other.hear()["outcome"]) == ("accepted", "cancelled")
                assert other.hear() is None or True  # the program ends with it
            while (last := raw.hear()) is not None and not last.get("last", True):
                pass
            assert last is None or last["rows"][0]["outcome"] == "cancelled"


@pytest.mark.parametrize(
    "line",
    [
        b"", b"{", b"null", b"[]", b"3", b'"list"', b"\xff\xfe", b"{}", b'{"verb":"dance"}', b'{"verb":3}',
        b"GET / HTTP/1.1",
        b'{"verb":"list","query":3}', b'{"verb":"list","query":{"ids":"x"}}', b'{"verb":"list","query":{"limit":1e99}}',
        b'{"verb":"list","query":{"limit":-1}}', b'{"verb":"watch","id":"1","every":"x"}', b"[" * 60000,
        b'{"verb":"list","x":' + b"[" * 30000 + b"]" * 30000 + b"}", b'{"verb":"cancel"}', b'{"verb":"show"}',
        b'{"verb":"cancel","query":{"name":"*"},"wait":-1}', b'{"verb":"list","query":{"name":"' + b"*a" * 400 + b'"}}',
    ],
)  # fmt: skip
def test_nonsense_is_answered_with_a_sentence_and_the_connection_lives(sockets: Path, line: bytes) -> None:
    with connected(sockets) as raw:
        raw.send(line + b"\n")
        if line:
            answer = raw.hear()
            assert answer["answer"] in ("refused", "listing", "accepted"), answer
            assert answer["answer"] != "refused" or 5 < len(answer["text"]) < 500
        assert raw.ask(verb="list")["answer"] == "listing"


def test_halves_are_put_together_and_several_are_answered_in_order(sockets: Path) -> None:
    with connected(sockets) as raw:
        for byte in b'{"verb":"list"}\n':
            raw.send(bytes([byte]))
        assert raw.hear()["answer"] == "listing"
        raw.send(b'{"verb":"list"}\n{"verb":"show","id":"0"}\n\n{"verb":"list"}\n')
        assert [raw.hear()["answer"] for _ in range(3)] == ["listing", "refused", "listing"]


def test_a_line_that_is_too_long_ends_the_connection(sockets: Path) -> None:
    with connected(sockets) as raw:
        assert raw.ask(verb="list", x="x" * (LONGEST - 100))["answer"] == "listing"
        try:
            raw.send(b"x" * (LONGEST * 4))
        except (BrokenPipeError, ConnectionResetError):
            pass
        answers = [raw.hear(), raw.hear()]
        assert answers[-1] is None
        assert answers[0] is None or "not be longer" in answers[0]["text"]
        with Raw(sockets) as other:
            assert other.hear()["answer"] == "hello"


def test_who_does_not_read_is_not_written_to_without_end(sockets: Path) -> None:
    with connected(sockets) as raw, Raw(sockets) as other:
        other.hear()
        raw.socket.setblocking(False)
        sent = 0
        try:
            while sent < 50_000_000:
                sent += raw.socket.send(b'{"verb":"list"}\n' * 1000)
        except BlockingIOError:
            pass
        assert sent < 5_000_000
        assert other.ask(verb="list")["answer"] == "listing"


def test_there_is_a_limit_on_connections(sockets: Path) -> None:
    with connected(sockets) as first:
        many = [Raw(sockets) for _ in range(100)]
        try:
            assert many[-1].hear()["answer"] == "hello"
            assert (first.hear()["code"], first.hear()) == ("busy", None)  # the one that was idle for longest had to go
            assert many[-1].ask(verb="list")["answer"] == "listing"
        finally:
            for raw in many:
                raw.socket.close()
    with connected(sockets) as raw:
        assert raw.ask(verb="list")["answer"] == "listing"


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
    max_leaves=10,
)
FIELDS = st.dictionaries(
    st.sampled_from(["query", "id", "every", "wait", "grace", "reason", "dry_run", "version", "x"]), JSON, max_size=4
)
QUERIES = st.dictionaries(
    st.sampled_from(["ids", "name", "states", "places", "older_than", "tasks", "ended", "sort", "offset", "limit"]),
    JSON,
    max_size=4,
)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None, max_examples=100)
@given(
    st.lists(
        st.builds(
            lambda verb, fields, query: {**fields, "verb": verb, **({"query": query} if query else {})},
            st.sampled_from(["list", "show", "cancel", "dance"]),
            FIELDS,
            QUERIES,
        ),
        max_size=5,
    )
)
def test_any_shape_is_answered(sockets: Path, requests: list[dict[str, Any]]) -> None:
    with connected(sockets) as raw:
        for request in requests:
            answer = raw.ask(**request)
            while answer is not None and not answer.get("last", True):
                answer = raw.hear()
            assert answer is not None
        assert raw.ask(verb="list")["answer"] == "listing"


def message(dice: random.Random) -> bytes:
    """Garbage, a request, a broken one, half of one, or a huge one. None that a change of one byte makes a real cancel."""
    good = json.dumps(
        {
            "verb": dice.choice(["list", "show", "cancel", "watch", "dance"]),
            "id": dice.choice(["1", "0.1", "x" * dice.randrange(50)]),
            "query": {"ids": ["none"], "name": "zz*" + "*" * dice.randrange(30), "limit": dice.randrange(-1, 5)},
            "wait": dice.choice([0, 0.001, -1, 1e308]),
        }
    ).encode()
    kind = dice.randrange(6)
    if kind == 0:
        return dice.randbytes(dice.randrange(200)) + b"\n"
    if kind == 1:
        return good[: dice.randrange(len(good))] + b"\n"
    if kind == 2:
        spoiled = bytearray(good)
        spoiled[dice.randrange(len(spoiled))] = dice.randrange(256)
        return bytes(spoiled) + b"\n"
    if kind == 3 and dice.random() < 0.02:
        return b"x" * dice.choice([LONGEST - 1, LONGEST, LONGEST + 1, LONGEST * 3]) + b"\n"
    if kind == 4 and dice.random() < 0.2:
        return good[: dice.randrange(len(good))]
    return good + b"\n"


def test_a_flood_of_garbage(sockets: Path, tmp_path: Path) -> None:
    """No crash, no hang, no growth; and the program never notices."""
    source = """
    async def main():
        await asyncio.sleep(3600)
    """
    dice = random.Random(20260101)
    with Program(tmp_path, source) as program:
        eventually(running(1))
        sizes: list[int] = []
        raw, sent = Raw(sockets, program.pid), 0
        raw.socket.settimeout(30)
        for number in range(FUZZ):
            try:
                raw.send(message(dice))
                sent += 1
                if dice.random() < 0.2:
                    raw.socket.setblocking(False)
                    try:
                        while raw.socket.recv(1 << 20):
                            pass
                    except (BlockingIOError, ConnectionResetError):
                        pass
                    raw.socket.settimeout(30)
                if dice.random() < 0.02:
                    raise BrokenPipeError
            except (BrokenPipeError, ConnectionResetError):
                raw.socket.close()
                raw = Raw(sockets, program.pid)
            if number in (FUZZ // 2, FUZZ - 1):
                with Raw(sockets, program.pid) as probe:
                    probe.hear()
                    assert probe.ask(verb="list")["total"] == 1
                sizes.append(memory(program.pid))
        raw.socket.close()
        assert sent > FUZZ * 0.9
        assert sizes[1] < sizes[0] + 8000  # kB
        assert until(lambda: files(program.pid) < 40), "each is closed as soon as its client is gone"
        assert program.said == ""
        assert program.process.poll() is None


def memory(pid: int) -> int:
    """What it holds in memory, in kB."""
    status = Path(f"/proc/{pid}/status").read_text()
    return int(next(line.split()[1] for line in status.splitlines() if line.startswith("VmRSS")))


def files(pid: int) -> int:
    return len(os.listdir(f"/proc/{pid}/fd"))


def test_a_fork_does_not_hold_the_door_open(sockets: Path, tmp_path: Path) -> None:
    """The socket of a dead process is refused, though a child of it has inherited every file."""
    source = """
    import subprocess

    async def main():
        await asyncio.sleep(0.1)
        if os.fork() == 0:
            print("child", os.getpid(), flush=True)
            time.sleep(3600)
        await asyncio.sleep(3600)
    """
    with Program(tmp_path, source) as program:
        eventually(running(1))
        while "child" not in program.said:
            time.sleep(0.01)
        child = int(program.said.split()[1])
        try:
            links = [os.readlink(f"/proc/{child}/fd/{file}") for file in os.listdir(f"/proc/{child}/fd")]
            with Raw(sockets, program.pid) as raw:
                assert raw.hear()["answer"] == "hello"
                program.process.kill()
                program.process.wait()
                assert raw.hear() is None
            assert eventually(lambda overview: overview.processes == ())
            assert links
        finally:
            os.kill(child, 9)
    assert list(sockets.iterdir()) == []


@pytest.mark.skipif(os.geteuid() != 0, reason="a second user is only to be had by root")
def test_another_user_can_neither_list_nor_cancel(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # a folder of its own: in that of pytest each pytest that starts sets the rights again that are opened here
    with tempfile.TemporaryDirectory() as folder:
        monkeypatch.setenv("CALLOFF_SOCKETS", f"{folder}/sockets")
        _another_user(Path(folder) / "sockets", tmp_path)


def _another_user(sockets: Path, tmp_path: Path) -> None:
    source = """
    async def main():
        await asyncio.sleep(3600)
    """
    stranger = """if True:
        import os, socket, sys
        os.setgroups([]), os.setgid(65534), os.setuid(65534)
        s = socket.socket(socket.AF_UNIX)
        s.settimeout(30)
        try:
            s.connect(sys.argv[1])
            s.sendall(b'{"verb":"list"}\\n{"verb":"cancel","query":{"name":"*"}}\\n')
            print(s.recv(100000))
        except OSError as error:
            print(type(error).__name__)
    """

    def as_nobody(path: str) -> str:
        command = [sys.executable, "-I", "-c", stranger, path]
        done = subprocess.run(command, capture_output=True, text=True, timeout=60, cwd="/", check=False)
        return done.stdout.strip() + done.stderr

    with Program(tmp_path, source) as program:
        eventually(running(1))
        path = sockets / f"{program.pid}.sock"
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
        # by the rights of the directory and of the file nobody gets in
        assert as_nobody(str(path)) == "PermissionError"
        # and if somebody has opened all of them, the kernel's word counts
        opened = [path, sockets, *[folder for folder in sockets.parents if str(folder).startswith("/tmp/")]]
        before = {file: stat.S_IMODE(file.stat().st_mode) for file in opened}
        for file in opened:
            file.chmod(0o777)
        try:
            answer = as_nobody(str(path))
        finally:
            for file, mode in before.items():
                file.chmod(mode)
        assert answer in ("b''", "ConnectionResetError", "BrokenPipeError")
        assert eventually(running(1)).rows[0].reason is None
