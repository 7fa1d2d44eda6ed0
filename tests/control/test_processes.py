"""Several processes and several clients, which come, go, stop and die as they please."""

import asyncio
import os
import signal
import socket
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path

import pytest
from control.programs import Program, eventually, running
from places.process_table import state, until

import calloff.control
from calloff.control import Ambiguous, Client, NotFound, Overview, Query, Row, Unreachable, processes

SLEEPER = """
async def main():
    calloff.progress((1, 4))
    await asyncio.sleep(3600)
"""


@asynccontextmanager
async def clients(count: int) -> AsyncIterator[list[Client]]:
    async with AsyncExitStack() as stack:
        yield [await stack.enter_async_context(Client()) for _ in range(count)]


def test_two_processes_and_two_clients_at_once(tmp_path: Path) -> None:
    async def main(first: Program, second: Program) -> None:
        async with clients(2) as (one, two):
            overviews = await asyncio.gather(*(client.list() for client in (one, two) for _ in range(20)))
            assert {overview.total for overview in overviews} == {2}
            assert {process.pid for process in overviews[0].processes} == {first.pid, second.pid}
            with pytest.raises(Ambiguous, match="fits several"):
                await one.show("1")  # a number that both of them have
            details = await asyncio.gather(one.show(f"{first.pid}.1"), two.show(str(second.pid)))
            assert [detail.row.pid for detail in details] == [first.pid, second.pid]
            assert details[0].argv[-1] == f"{first.file}:main"
            assert [row.pid for row in (await one.list(Query(limit=1, offset=1))).rows] == [max(first.pid, second.pid)]
            ages = [row.age for row in (await one.list(Query(sort="age"))).rows]
            assert ages == sorted(ages, reverse=True)

            seen: list[list[Row]] = [[], []]

            async def watched(client: Client, rows: list[Row]) -> list[Row]:
                async for row in client.watch(f"{first.pid}.1", 0.05):
                    rows.append(row)
                return rows

            watches = [asyncio.create_task(watched(*each)) for each in zip((one, two), seen, strict=True)]
            async with asyncio.timeout(30):
                while not all(seen):
                    await asyncio.sleep(0.01)
            stops = [
                [stopped async for stopped in client.cancel(Query(name="main", ids=(f"{first.pid}.1",)))]
                for client in (one, two)
                if client is one
            ]
            assert [stopped.outcome for stopped in stops[0]] == ["cancelled"]
            for rows in await asyncio.gather(*watches):
                assert len(rows) >= 2
                assert rows[0].progress == [1, 4]
                assert [row.outcome for row in rows[:-1]] == [None] * (len(rows) - 1)
                assert (rows[-1].outcome, rows[-1].rung) == ("cancelled", "ASKED")
            await asyncio.to_thread(first.end)
            assert [row.pid for row in (await two.list()).rows] == [second.pid]
            assert [row.pid for row in (await one.list()).rows] == [second.pid]
            with pytest.raises(NotFound):
                await one.show(f"{first.pid}.1")

    with Program(tmp_path, SLEEPER, name="a.py") as first, Program(tmp_path, SLEEPER, name="b.py") as second:
        eventually(running(2))
        asyncio.run(main(first, second))


HEAVY = """
import subprocess

def hold():
    child = subprocess.Popen(["sleep", "3600"])
    held = b"x" * 50_000_000
    calloff.progress("held")
    child.wait()

async def main():
    await asyncio.gather(calloff.start(calloff.process(hold)), calloff.start(asyncio.sleep(3600), name="light"))
"""


def test_what_the_process_of_an_operation_uses(tmp_path: Path) -> None:
    async def main(id: str, light: str) -> None:
        async with Client() as client:
            used = (await client.show(id)).usage
            assert used is not None
            assert used.processes == 2
            assert 50e6 < used.memory < 500e6
            assert 0 <= used.cpu < 60
            assert (await client.show(light)).usage is None, "it shares the process of its program"

    with Program(tmp_path, HEAVY, name="heavy.py"):
        (heavy,) = eventually(lambda seen: any(row.progress == "held" for row in seen.rows), Query(name="hold")).rows
        (light,) = eventually(running(1), Query(name="light")).rows
        asyncio.run(main(heavy.id, light.id))


BARE = """
import calloff.control._server

async def main():
    while not hasattr(sys.modules.get("calloff.control._service"), "Connection"):
        await asyncio.sleep(0.01)
    sys.meta_path.clear()
    print("ready", flush=True)
    await asyncio.sleep(3600)

calloff.control._server._SECOND = 0.05
calloff.run(main(), expose=True)
"""


def test_one_that_can_load_nothing_any_more(tmp_path: Path) -> None:
    with Program(tmp_path, BARE, plain=True) as program:
        until(lambda: program.said == "ready\n")
        assert eventually(running(1)).rows[0].where is not None


def test_one_that_does_not_answer_is_named_and_not_waited_for_twice(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def main(deaf: Program) -> None:
        async with Client() as client:
            assert (await client.list()).total == 2
            os.kill(deaf.pid, signal.SIGSTOP)
            assert until(lambda: state(deaf.pid) == "T")
            monkeypatch.setattr("calloff.control._client.PATIENCE", 0.5)
            monkeypatch.setattr("calloff.control._stops.PATIENCE", 4.0)
            overview = await client.list()
            async with asyncio.timeout(30):  # on a busy machine the other one may be late, too
                while overview.total != 1:
                    await asyncio.sleep(0.01)
                    overview = await client.list()
            assert [process.pid for process in overview.silent] == [deaf.pid]
            assert overview.total == 1
            with pytest.raises(Unreachable, match=f"process {deaf.pid} .* does not answer"):
                await client.show(f"{deaf.pid}.1")
            stops = []
            with pytest.raises(Unreachable):
                async for stopped in client.cancel(Query(name="main"), dry_run=True):
                    stops.append(stopped)
            assert len(stops) == 1  # the others are told first
            os.kill(deaf.pid, signal.SIGCONT)
            monkeypatch.setattr("calloff.control._client.PATIENCE", 60.0)
            async with asyncio.timeout(30):
                while (await client.list()).silent:
                    await asyncio.sleep(0.01)
            assert (await client.list()).total == 2

    with Program(tmp_path, SLEEPER, name="a.py") as deaf, Program(tmp_path, SLEEPER, name="b.py"):
        eventually(running(2))
        asyncio.run(main(deaf))


def test_processes_that_come_and_go_while_a_client_looks(tmp_path: Path) -> None:
    async def main() -> None:
        async with Client() as client:
            for number in range(3):
                with Program(tmp_path, SLEEPER, name=f"{number}.py") as program:
                    await seen(client, lambda overview, pid=program.pid: [r.pid for r in overview.rows] == [pid])
                    if number == 1:  # the one way to leave a socket behind
                        program.process.kill()
                        program.process.wait()
                    else:
                        assert [one.outcome async for one in client.cancel(Query(name="*"))] == ["cancelled"]
                        await asyncio.to_thread(program.end)
                await seen(client, lambda overview: overview.processes == ())

    async def seen(client: Client, condition: object) -> Overview:
        async with asyncio.timeout(30):
            while not condition(overview := await client.list()):  # type: ignore[operator]
                await asyncio.sleep(0.02)
        return overview

    asyncio.run(main())


def test_sockets_of_the_dead_are_removed(sockets: Path, tmp_path: Path) -> None:
    sockets.mkdir(mode=0o700)
    stale = socket.socket(socket.AF_UNIX)
    stale.bind(str(sockets / "99999.sock")) if len(str(sockets)) < 90 else os.mknod(sockets / "99999.sock")
    stale.close()
    with Program(tmp_path, SLEEPER) as program:
        eventually(running(1))
        assert [process.pid for process in processes()] == [program.pid]
        (process,) = processes()
        assert process.argv[-1] == f"{program.file}:main"
        assert process.socket == str(sockets / f"{program.pid}.sock")
        program.process.kill()
        program.process.wait()
        assert processes() == []
    assert list(sockets.iterdir()) == []


def test_a_client_of_one_directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with Program(tmp_path, SLEEPER) as program:
        eventually(running(1))
        here = os.environ["CALLOFF_SOCKETS"]
        monkeypatch.setenv("CALLOFF_SOCKETS", str(tmp_path / "elsewhere"))
        assert processes() == []
        assert [process.pid for process in processes(here)] == [program.pid]
        assert eventually(running(1), directory=here).rows[0].pid == program.pid


def test_the_door_is_pinned() -> None:
    names = calloff.control.__all__  # type: ignore[attr-defined]  # made as it is first used
    assert names == sorted(names)
    assert set(names) == {
        "Ambiguous", "Cause", "Client", "ControlError", "Detail", "Frame", "NotFound", "Overview", "Process", "Query",
        "Row", "Step", "Stopped", "Unreachable", "Usage", "VERSION", "expose", "processes",
    }  # fmt: skip
    for name in names:
        assert getattr(calloff.control, name) is not None
    with pytest.raises(AttributeError, match="has no attribute 'nothing'"):
        calloff.control.nothing  # type: ignore[attr-defined]  # noqa: B018
