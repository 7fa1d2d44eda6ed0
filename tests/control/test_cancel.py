"""Calling off from outside: every operation gets one answer, and `/proc` agrees with it."""

import asyncio
import itertools
import os
import signal
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from control.programs import Program, eventually, running
from control.raw import Raw
from places.process_table import below, gone, until

import calloff
from calloff.control import Client, NotFound, Query, Row, Stopped, expose
from calloff.control._rows import Registry
from calloff.control._verdict import verdict

Run = Callable[..., Any]


async def waits() -> None:
    await asyncio.sleep(3600)


def call_off(query: Query, **options: Any) -> list[Stopped]:
    async def all_of_them() -> list[Stopped]:
        async with Client() as client:
            return [stopped async for stopped in client.cancel(query, **options)]

    return asyncio.run(all_of_them())


async def test_who_asked_and_why_arrive() -> None:
    with expose():
        async with Client() as client:
            op = calloff.start(waits())
            (stopped,) = [one async for one in client.cancel(Query(ids=(op.id,)), reason="too slow")]
            assert stopped.outcome == "cancelled"
            assert stopped.row is not None
            assert stopped.row.rung == "ASKED"
            outcome = await op.outcome()
            assert isinstance(outcome, calloff.Cancelled)
            assert (outcome.reason.kind, outcome.reason.text) == ("requested", "too slow")
            assert outcome.reason.by is not None
            assert outcome.reason.by.startswith("root (pid " if os.geteuid() == 0 else "")
            assert f"(pid {os.getpid()}, " in outcome.reason.by


async def test_every_ending() -> None:
    async def returns() -> int:
        try:
            await asyncio.sleep(3600)
        except asyncio.CancelledError:
            return 3
        return 4

    async def fails() -> None:
        try:
            await asyncio.sleep(3600)
        finally:
            raise ValueError("broken")

    async def swallows() -> None:
        while True:
            try:
                await asyncio.sleep(3600)
            except asyncio.CancelledError:
                pass

    async def deaf() -> None:
        while not over:
            try:
                await asyncio.sleep(0.2)
            except BaseException:
                pass

    over: list[bool] = []
    with expose():
        async with Client() as client:
            for work in (waits, returns, fails, swallows, deaf):
                calloff.start(work(), grace=0.2, name=work.__name__)
            await asyncio.sleep(0.05)
            told = {one.row.name: one async for one in client.cancel(Query(name="*")) if one.row is not None}
            assert {name: one.outcome for name, one in told.items()} == {
                "waits": "cancelled",
                "returns": "completed",
                "fails": "failed",
                "swallows": "cancelled",
                "deaf": "abandoned",
            }
            rows = {name: one.row for name, one in told.items() if one.row is not None}
            assert rows["fails"].error == "ValueError: broken"
            assert rows["swallows"].rung == "FORCED"
            assert rows["swallows"].refusals >= 1
            assert {step.rung for step in rows["swallows"].steps} == {"ASKED", "INSISTED", "FORCED"}
            assert rows["deaf"].where is not None
            assert rows["deaf"].where.source == "await asyncio.sleep(0.2)"
            assert told["deaf"].seconds >= 1.2
            (again,) = [one async for one in client.cancel(Query(name="deaf"))]  # it is no news
            assert again.outcome == "abandoned"
            over.append(True)
            while calloff.operations():
                await asyncio.sleep(0.01)
            assert [one async for one in client.cancel(Query(name="deaf"))] == []


async def test_when_the_wait_is_over_the_line_is_told() -> None:
    async def slow() -> None:
        try:
            await asyncio.sleep(3600)
        finally:
            await asyncio.sleep(1800)

    with expose():
        async with Client() as client:
            op = calloff.start(slow(), grace=600)
            await asyncio.sleep(0)
            (stopped,) = [one async for one in client.cancel(Query(ids=(op.id,)), wait=1.0)]
            assert stopped.outcome is None
            assert stopped.row is not None
            assert (stopped.row.state, stopped.row.outcome) == ("stopping", None)
            assert stopped.row.where is not None
            assert stopped.row.where.source == "await asyncio.sleep(1800)"
            (stopped,) = [one async for one in client.cancel(Query(ids=(op.id,)), grace=0)]
            assert stopped.outcome == "cancelled"
            assert stopped.row is not None
            assert stopped.row.rung == "FORCED"
            assert [step.rung for step in stopped.row.steps] == ["ASKED", "FORCED"], "its clean-up was let alone"


async def test_a_dry_run_calls_nothing_off() -> None:
    with expose():
        async with Client() as client:
            op = calloff.start(waits())
            (one,) = [one async for one in client.cancel(Query(name="*"), dry_run=True)]
            assert (one.outcome, one.row and one.row.id) == (None, f"{os.getpid()}.{op.id}")
            assert op.reason is None
            await op.stop()
            (one,) = [one async for one in client.cancel(Query(ids=(op.id,)))]  # it has ended already
            assert one.outcome == "cancelled"


async def test_one_of_very_many_is_heard_before_all_are_told(sockets: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A client takes a process that says nothing for 2 s for deaf, and lines of thousands may take longer."""
    heard, made, row = threading.Event(), itertools.count(), Registry.row

    def held_up(registry: Registry, each: Any, **options: Any) -> Row:
        if next(made) == 250:
            heard.wait(10)
        return row(registry, each, **options)

    monkeypatch.setattr(Registry, "row", held_up)
    with expose():
        operations = [calloff.start(waits()) for _ in range(300)]
        with Raw(sockets) as raw:
            raw.hear()
            first = raw.ask(verb="cancel", version=2, query={"name": "waits"}, dry_run=True)
            assert not heard.is_set()
            assert (first["answer"], first["more"], first["last"]) == ("accepted", True, False)
            heard.set()
            second = raw.hear()
            assert (second["answer"], second.get("more", False), second.get("last", True)) == ("accepted", False, True)
            assert len(first["rows"]) + len(second["rows"]) == 300
        async with Client() as client:
            met = [one.row.id async for one in client.cancel(Query(name="waits"), dry_run=True) if one.row]
            assert sorted(met) == sorted(f"{os.getpid()}.{each.id}" for each in operations)
            stopped = [one.row.id async for one in client.cancel(Query(ids=tuple(met))) if one.outcome == "cancelled"]
            assert sorted(stopped) == sorted(met)
    await asyncio.wait(operations)


async def test_nothing_matches() -> None:
    with expose():
        async with Client() as client:
            assert [one async for one in client.cancel(Query(name="nothing"))] == []
            with pytest.raises(NotFound):
                _ = [one async for one in client.cancel(Query(ids=("7.7",)))]


def test_ten_thousand(tmp_path: Path) -> None:
    source = """
    async def waits():
        await asyncio.sleep(3600)

    async def main():
        async with calloff.group() as group:
            for number in range(10_000):
                group.start(waits(), name=f"waits-{number}")
        while not os.path.exists(TOLD):  # its end waits a second for clients, which all of them may take longer to tell
            await asyncio.sleep(0.1)
    """
    told = tmp_path / "told"
    with Program(tmp_path, source.replace("TOLD", repr(str(told)))) as program:
        eventually(running(10_001), Query(limit=0), seconds=120)  # the counts; not ten thousand rows each time
        page = eventually(lambda _: True, Query(limit=10, offset=9_000))
        assert [row.name for row in page.rows] == [f"waits-{number}" for number in range(8_999, 9_009)]
        stops = call_off(Query(name="waits-*"), wait=120)
        assert len({stopped.row.id for stopped in stops if stopped.row}) == len(stops) == 10_000
        assert {stopped.outcome for stopped in stops} == {"cancelled"}
        told.touch()
        assert program.end() == 0, program.said


def test_a_process_that_dies_meanwhile(tmp_path: Path) -> None:
    source = """
    async def main():
        try:
            await asyncio.sleep(3600)
        finally:
            os.kill(os.getpid(), signal.SIGKILL)
    """
    with Program(tmp_path, source) as program:
        eventually(running(1))
        (stopped,) = call_off(Query(ids=(str(program.pid),)))
        assert stopped.outcome == "gone"
        assert program.end() == -signal.SIGKILL
        eventually(lambda overview: overview.processes == ())


FOUR = """
import itertools

async def swallows():
    while True:
        try:
            await asyncio.sleep(3600)
        except asyncio.CancelledError:
            pass

async def blocks():
    time.sleep(3600)

def in_c():
    return sum(itertools.repeat(1, 10**13))

async def main():
    operations = [
        calloff.start(swallows(), grace=0.3),
        calloff.start(calloff.process(in_c), grace=0.3),
        calloff.start(calloff.command("sh", "-c", "setsid sleep 3600 & sleep 3600"), grace=30),
    ]
    while any(str(operation.state) != "running" for operation in operations):
        await asyncio.sleep(0.01)
    operations.append(calloff.start(blocks(), grace=0.3))
    await asyncio.wait(operations)
    for operation in operations:
        print(operation.name, type(await operation.outcome()).__name__, operation.report.rung, flush=True)
"""


def test_the_four_that_are_hard_to_stop(tmp_path: Path) -> None:
    """Listed with their lines while the loop is blocked, called off for sure, and nothing of them is left."""
    with Program(tmp_path, FOUR) as program:
        lines = {
            "swallows": "await asyncio.sleep(3600)",
            "in_c": "return sum(itertools.repeat(1, 10**13))",
            "sh": "sh -c 'setsid sleep 3600 & sleep 3600'",
            "blocks": "time.sleep(3600)",
        }

        def told(overview: Any) -> bool:
            rows = {row.name: row for row in overview.rows}
            found = {name: rows[name].where and rows[name].where.source for name in lines if name in rows}
            return bool(found == lines and rows["in_c"].worker and rows["sh"].worker)

        overview = eventually(told)
        rows = {row.name: row for row in overview.rows}
        worker, shell = rows["in_c"].worker, rows["sh"].worker
        assert worker is not None
        assert shell is not None
        assert until(lambda: len(below(shell)) == 2)
        family = below(program.pid)
        assert {worker, shell, *below(shell)} <= set(family)

        async def show() -> None:
            async with Client() as client:
                blocked = await client.show(rows["blocks"].id)
                assert blocked.stack[-1].source == "time.sleep(3600)"
                assert (await client.show(rows["swallows"].id)).stack[0].function == "swallows"
                assert (await client.show(rows["in_c"].id)).stack[-1].function == "in_c"

        asyncio.run(show())
        # first the one that blocks the loop: the others are reached through the loop
        for name, rung in (("blocks", "INTERRUPTED"), ("swallows", "FORCED"), ("in_c", "KILLED"), ("sh", "TERMINATED")):
            daemons = below(shell) if name == "sh" else []
            (stopped,) = call_off(Query(ids=(rows[name].id,)), reason=f"enough of {name}")
            assert stopped.row is not None
            assert (stopped.outcome, stopped.row.rung) == ("cancelled", rung)
            assert stopped.seconds < 10
            if name == "in_c":
                assert gone(worker)
            if name == "sh":
                assert gone(shell)
                assert all(map(gone, daemons))
        assert program.end() == 0, program.said
        assert program.said.split("\n")[:4] == [
            "swallows Cancelled FORCED",
            "in_c Cancelled KILLED",
            "sh Cancelled TERMINATED",
            "blocks Cancelled INTERRUPTED",
        ]
        assert until(lambda: all(map(gone, family)))


def test_all_four_at_once_while_the_loop_is_blocked(tmp_path: Path) -> None:
    with Program(tmp_path, FOUR) as program:
        eventually(running(5))
        blocked = eventually(lambda o: any(row.where and row.where.source == "time.sleep(3600)" for row in o.rows))
        family = below(program.pid)
        stops = call_off(Query(name="*"), reason="all of it")
        assert {one.outcome for one in stops} == {"cancelled"}
        assert {one.row.id for one in stops if one.row} == {row.id for row in blocked.rows}
        assert program.end() == 1, program.said
        assert until(lambda: all(map(gone, family)))


def test_a_loop_that_nothing_reaches(tmp_path: Path) -> None:
    """A loop in another thread can't be interrupted: the answer is that it still runs, and where."""
    source = """
    import threading

    async def blocks():
        time.sleep(3600)

    def other():
        asyncio.run(run())

    async def run():
        await calloff.start(blocks())

    with calloff.control.expose():
        threading.Thread(target=other, daemon=True).start()
        time.sleep(3600)
    """
    with Program(tmp_path, "import calloff.control\n" + source.replace("\n    ", "\n"), plain=True):
        eventually(running(1))
        before = time.monotonic()
        (stopped,) = call_off(Query(name="*"), wait=0.3)
        assert time.monotonic() - before < 10
        assert stopped.outcome is None
        assert stopped.row is not None
        assert stopped.row.where is not None
        assert stopped.row.where.source == "time.sleep(3600)"


def test_a_lost_connection_is_not_told_as_a_wait_that_is_over() -> None:
    row = Row(id="1.1", pid=1, name="x", place="task", state="running", started_at=0.0, age=1.0)
    assert str(verdict(Stopped(row=row))) == "the connection to its process was lost: it may still run"
    assert str(verdict(Stopped(row=row, seconds=2.0))) == "still runs after 2.0 s"
