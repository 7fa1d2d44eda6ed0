"""One client, one process or one operation that is trouble never hides or locks out the others."""

import asyncio
import contextlib
import json
import os
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from control.programs import Program, cli, eventually, running
from control.raw import Raw
from hypothesis import given
from hypothesis import strategies as st
from places.process_table import until

import calloff
from calloff.control import Client, ControlError, expose
from calloff.control._ids import Index, best
from calloff.control._links import _Link, expect
from calloff.control._records import Refused
from calloff.control._rows import Registry

SLEEPER = """
async def main():
    await calloff.start(asyncio.sleep(3600), name="sleeper")
"""


def watcher(sockets: Path, pid: int, id: str) -> Raw:
    raw = Raw(sockets, pid)
    raw.hear()
    assert raw.ask(verb="watch", id=id, every=1000)["answer"] == "listing"
    return raw


def test_watchers_that_stay_do_not_lock_out_a_cancel(sockets: Path, tmp_path: Path) -> None:
    with Program(tmp_path, SLEEPER) as program:
        sleeper = eventually(running(2)).rows[1].id
        watchers = [watcher(sockets, program.pid, sleeper) for _ in range(80)]
        try:
            with Raw(sockets, program.pid) as raw:
                assert raw.hear()["answer"] == "hello"
                assert raw.ask(verb="list")["total"] == 2
            let_go = watchers[0].hear()
            assert (let_go["answer"], let_go["code"], watchers[0].hear()) == ("refused", "busy", None)
            assert cli("cancel", sleeper).returncode == 0
        finally:
            for raw in watchers:
                raw.socket.close()


def test_a_cancel_under_way_is_kept_when_watchers_can_go(sockets: Path, tmp_path: Path) -> None:
    source = """
    async def stubborn():
        while True:
            try:
                await asyncio.sleep(3600)
            except asyncio.CancelledError:
                pass
    async def main():
        await calloff.start(stubborn(), name="stubborn", grace=3600)
    """
    with Program(tmp_path, source) as program:
        stubborn = eventually(running(2)).rows[1].id
        with Raw(sockets, program.pid) as raw:
            raw.hear()
            assert raw.ask(verb="cancel", query={"ids": [stubborn]}, wait=3600)["answer"] == "accepted"
            watchers = [watcher(sockets, program.pid, stubborn) for _ in range(80)]
            raw.socket.settimeout(0.2)
            with pytest.raises(TimeoutError):  # neither told nor hung up on
                raw.hear()
            for one in watchers:
                one.socket.close()


def test_thousands_of_ids_are_looked_up_at_once(sockets: Path, tmp_path: Path) -> None:
    source = """
    async def main():
        for n in range(2000):
            calloff.start(asyncio.sleep(3600), name=f"op{n}")
        await asyncio.sleep(3600)
    """
    with Program(tmp_path, source) as program:
        eventually(running(2001))
        with Raw(sockets, program.pid) as raw:
            raw.hear()
            for ids in (
                [f"{n}." for n in range(7000)],
                [f"{program.pid}"] * 3000,
                [f"{program.pid}.1", "7", *"abcdefgh"],
            ):
                began = time.monotonic()
                answer = raw.ask(verb="list", query={"ids": ids, "where": False, "limit": 0})
                assert answer["answer"] == "listing"
                assert time.monotonic() - began < 5  # one by one it is a minute


def test_a_crowd_that_comes_at_once_is_answered_one_and_all(sockets: Path, tmp_path: Path) -> None:
    def ask(_: int) -> str:
        together.wait(30)
        with Raw(sockets, program.pid) as raw:
            raw.hear()
            answer: str = raw.ask(verb="list")["answer"]
            return answer

    def open_sockets() -> int:
        count = 0
        for file in os.listdir(f"/proc/{program.pid}/fd"):
            with contextlib.suppress(OSError):  # closed meanwhile
                count += os.readlink(f"/proc/{program.pid}/fd/{file}").startswith("socket:")
        return count

    together = threading.Barrier(100)
    # on a busy machine a hundred threads take longer than a quarter of a second to ask
    patient = "import calloff.control._service\ncalloff.control._service._FRESH = 5.0\n"
    with Program(tmp_path, patient + SLEEPER) as program, ThreadPoolExecutor(100) as threads:
        eventually(running(2))
        before = open_sockets()
        assert list(threads.map(ask, range(100))) == ["listing"] * 100
        assert until(lambda: open_sockets() <= before), "each is closed as soon as its client is gone"


async def test_one_that_is_let_go_before_it_could_ask_is_told_so(
    sockets: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Who was merely hung up on took the process for one that has ended, and left it out of its list."""

    async def held_up(path: str) -> object:
        link = await opened(path)
        crowd.extend(Raw(sockets, program.pid) for _ in range(64 + 1))
        for raw in crowd:
            await asyncio.to_thread(raw.hear)
        return link

    opened = _Link.open
    crowd: list[Raw] = []
    hasty = "import calloff.control._service\ncalloff.control._service._FRESH = 0.0\n"
    with Program(tmp_path, hasty + SLEEPER) as program:
        await asyncio.to_thread(eventually, running(2))
        monkeypatch.setattr(_Link, "open", held_up)
        async with Client() as client:
            overview = await client.list()
        assert [each.pid for each in overview.processes] == [program.pid]
        assert "too many clients" in overview.failed[program.pid]
        for raw in crowd:
            raw.socket.close()


@given(st.lists(st.text("12.t", max_size=4), max_size=12), st.text("12.t", max_size=4))
def test_the_index_finds_what_looking_one_by_one_does(ids: list[str], text: str) -> None:
    known = [(id, place) for place, id in enumerate(dict.fromkeys(ids))]
    assert Index(known).best(text) == best(known, text)


def test_an_operation_that_cannot_be_looked_at_does_not_hide_the_others(monkeypatch: pytest.MonkeyPatch) -> None:
    whole = Registry.row

    def row(self: Registry, each: "calloff.Operation[None]", *, where: bool = True) -> object:
        if each.name == "glass":
            raise KeyError("no")
        return whole(self, each, where=where)

    async def main() -> None:
        works = [calloff.start(asyncio.sleep(3600), name=name) for name in ("one", "glass", "two")]
        with expose():
            async with Client() as client:
                rows = {row.name: row for row in (await client.list()).rows}
        assert set(rows) == {"one", "glass", "two"}
        assert rows["glass"].error == "it can't be looked at: KeyError: 'no'"
        assert rows["glass"].state == "running"
        for work in works:
            await work.stop()

    monkeypatch.setattr(Registry, "row", row)
    asyncio.run(main())


@pytest.mark.parametrize(
    "answer", [{"answer": "refused", "text": "it failed", "code": "failed"}, {"answer": "songs"}, []]
)
def test_a_process_that_fails_does_not_hide_the_others(sockets: Path, tmp_path: Path, answer: object) -> None:
    """A stand-in for a process with another version, or with a fault: it greets, and answers with something else."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            writer.write(b'{"answer":"hello"}\n')
            while await reader.readline():
                writer.write(json.dumps(answer).encode() + b"\n")
        finally:
            writer.close()

    async def main() -> None:
        async with await asyncio.start_unix_server(serve, sockets / "1.sock"), Client() as client:
            overview = await client.list()
            assert overview.counts == {"running": 2}
            assert list(overview.failed) == [1]
            told = await asyncio.to_thread(cli, "ps")
            assert told.returncode == 3
            assert "sleeper" in told.stdout
            assert "process 1 can't be listed: " in told.stderr

    with Program(tmp_path, SLEEPER):
        eventually(running(2))
        asyncio.run(main())


async def test_no_question_outlives_the_client(sockets: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The one to a process that does not answer, too: at the end of a loop it would be told as never awaited."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b'{"answer":"hello","last":false}\n')
        await reader.read()
        writer.close()

    sockets.mkdir(mode=0o700)
    monkeypatch.setattr("calloff.control._client.PATIENCE", 0.05)
    async with await asyncio.start_unix_server(serve, sockets / "1.sock"):
        async with Client() as client:
            overview = await client.list()
            assert [process.pid for process in overview.silent] == [1]
            assert [task for task in asyncio.all_tasks() if "Server.ask" in repr(task)]
        assert not [task for task in asyncio.all_tasks() if "Server.ask" in repr(task)]


def test_a_code_of_a_later_version_is_an_error_with_its_sentence() -> None:
    for code in ("busy", "of tomorrow", ""):
        with pytest.raises(ControlError, match="^words$"):
            expect(Refused(text="words", code=code), Refused)


def test_what_is_not_understood_is_told_with_the_version(sockets: Path) -> None:
    with expose(), Raw(sockets) as raw:
        raw.hear()
        answer = raw.ask(verb="of tomorrow", version=99)
        assert (answer["code"], "version 2 of the protocol" in answer["text"]) == ("invalid", True)


@pytest.mark.parametrize(
    ("request_", "code"),
    [
        ({"verb": "show", "id": f"{os.getpid()}.{'9' * 5000}"}, "not_found"),
        ({"verb": "list", "query": {"offset": 10**18}}, "invalid"),
        ({"verb": "list", "query": {"offset": 10**23}}, "invalid"),
        ({"verb": "list", "query": {"limit": 10**18, "offset": 1}}, "invalid"),
    ],
    ids=["id", "offset", "huge offset", "limit"],
)
def test_a_number_that_is_too_large_is_refused_and_not_logged(
    sockets: Path, caplog: pytest.LogCaptureFixture, request_: dict[str, object], code: str
) -> None:
    with expose(), Raw(sockets) as raw:
        raw.hear()
        assert raw.ask(**request_)["code"] == code
    assert not caplog.records
