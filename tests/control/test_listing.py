"""What is listed: which operations, in which order, and what is told of each. Server and client are in one process here."""

import asyncio
import contextlib
import gc
import re
import threading
import time
import weakref
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

import calloff
from calloff._operation.snapshot import History
from calloff._words.state import State
from calloff._words.text import plain
from calloff.cli.show import lines
from calloff.control import Ambiguous, Client, NotFound, Query, _fold, expose
from calloff.control._ids import Index, best, fits, numbers
from calloff.control._rows import Registry

Run = Callable[..., Any]


async def waits() -> None:
    await asyncio.sleep(3600)


@asynccontextmanager
async def looking() -> AsyncIterator[Client]:
    with expose(history=5):
        async with Client() as client:
            yield client


async def ids(client: Client, **query: Any) -> list[str]:
    """The numbers of what is listed."""
    return [row.id.rpartition(".")[2] for row in (await client.list(Query(**query))).rows]


async def test_everything_in_one_tree() -> None:
    let_go = threading.Event()

    async def parent() -> None:
        async with calloff.group() as group:
            group.start(calloff.thread(let_go.wait, 60), name="sleeper")
            group.start(calloff.command("sleep", "600"), name="program")
            group.start(waits(), timeout=100, name="limited")

    async with looking() as client:
        other = calloff.start(waits(), name="other")
        op = calloff.start(parent())
        await until(lambda: has_state(client, 5, "running"))
        overview = await client.list()
        rows = {row.name: row for row in overview.rows}
        assert [row.name for row in overview.rows] == ["other", "parent", "sleeper", "program", "limited"] or [
            row.name for row in overview.rows
        ] == ["other", "test_everything_in_one_tree.<locals>.parent", "sleeper", "program", "limited"]
        top = overview.rows[1]
        assert {rows[name].parent for name in ("sleeper", "program", "limited")} == {top.id}
        assert [row.depth for row in overview.rows] == [0, 0, 1, 1, 1]
        (last,) = (await client.list(Query(offset=4, limit=1))).rows
        assert (last.name, last.depth) == ("limited", 1), "without its parent on the page"
        assert {row.place for row in overview.rows} == {"task", "thread", "command"}
        assert (overview.total, overview.counts, overview.silent) == (5, {"running": 5}, ())
        limited = rows["limited"]
        assert limited.timeout == 100
        assert limited.remaining is not None
        assert 60 < limited.remaining < 100
        assert abs(limited.started_at + 100 - (limited.deadline_at or 0)) < 1
        assert abs(limited.started_at + limited.age - time.time()) < 30
        assert limited.where is not None
        assert limited.where.source == "await asyncio.sleep(3600)"
        assert rows["program"].where is not None
        assert rows["program"].where.source == "sleep 600"
        assert rows["program"].worker is not None
        assert Path(f"/proc/{rows['program'].worker}/cmdline").read_bytes() == b"sleep\x00600\x00"
        detail = await client.show(top.id)
        assert list(detail.children) == [rows[name].id for name in ("sleeper", "program", "limited")]
        assert detail.stack[0].source == "async with calloff.group() as group:"
        assert detail.grace == 5.0
        let_go.set()
        await asyncio.gather(op.stop(), other.stop())


async def until(condition: Callable[[], Awaitable[bool]]) -> None:
    async with asyncio.timeout(30):
        while not await condition():
            await asyncio.sleep(0.01)


async def has_state(client: Client, count: int, state: str) -> bool:
    return (await client.list()).counts == {state: count}


async def test_filters_order_and_pages() -> None:
    async with looking() as client:
        first = calloff.start(waits(), name="b-one", timeout=500)
        await asyncio.sleep(0.05)
        second = calloff.start(waits(), name="a-two", timeout=50)
        let_go = threading.Event()
        third = calloff.start(calloff.thread(let_go.wait, 60), name="b-three")
        await until(lambda: has_state(client, 3, "running"))
        number = {op.name: op.id for op in (first, second, third)}
        one, two, three = number["b-one"], number["a-two"], number["b-three"]
        assert await ids(client) == [one, two, three]
        assert await ids(client, name="b-*") == [one, three]
        assert await ids(client, name="b-on?") == [one]
        assert await ids(client, name="b") == []
        assert await ids(client, places=("thread",)) == [three]
        assert await ids(client, places=("thread", "task"), name="b*") == [one, three]
        assert await ids(client, states=("stopping",)) == []
        assert (await ids(client, older_than=0.045))[:1] == [one]
        assert await ids(client, older_than=3600) == []
        assert await ids(client, sort="age") == [one, two, three]
        assert await ids(client, sort="age", reverse=True) == [three, two, one]
        assert await ids(client, sort="name") == [two, one, three] or [two, three, one]
        assert await ids(client, sort="remaining") == [two, one, three]
        assert await ids(client, sort="place") == [one, two, three]
        assert await ids(client, sort="state")
        assert await ids(client, reverse=True) == [three, two, one]
        assert await ids(client, offset=1, limit=1) == [two]
        assert await ids(client, offset=1) == [two, three]
        assert await ids(client, limit=0) == []
        page = await client.list(Query(limit=1, where=False))
        assert (page.total, len(page.rows), page.rows[0].where) == (3, 1, None)
        let_go.set()
        for op in (first, second):
            op.cancel()
        await asyncio.wait([first, second, third])


async def test_what_is_asked_wrongly_is_refused_with_a_sentence() -> None:
    async with looking() as client:
        for query, words in (
            (Query(sort="size"), "sort must be one of tree, age"),
            (Query(limit=-1), "offset and limit"),
            (Query(offset=-1), "offset and limit"),
            (Query(name="x" * 1001), "at most 1000 characters"),
        ):
            with pytest.raises(ValueError, match=words):
                await client.list(query)
        op = calloff.start(waits())
        with pytest.raises(ValueError, match="grace must be seconds"):
            async for _ in client.cancel(Query(ids=(op.id,)), grace=-1):
                pass
        with pytest.raises(ValueError, match="a cancel must say of what"):
            async for _ in client.cancel(Query()):
                pass
        assert not op.done()
        await op.stop()


async def test_ended_ones_are_remembered_as_plain_data() -> None:
    class Value:
        pass

    async def returns() -> Value:
        calloff.progress((3, 4))
        return Value()

    async def fails() -> None:
        raise KeyError("no such thing")

    async with looking() as client:
        value = await calloff.start(returns())
        kept = weakref.ref(value)
        broken = calloff.start(fails())
        with pytest.raises(KeyError):
            await broken
        error = weakref.ref(broken)
        stopped = calloff.start(waits())
        await asyncio.sleep(0)
        await stopped.stop("not needed")
        rows = (await client.list(Query(ended=True))).rows
        assert [row.outcome for row in rows] == ["cancelled", "failed", "completed"]  # the newest first
        assert rows[0].reason is not None
        assert (rows[0].reason.kind, rows[0].reason.text, rows[0].rung) == ("requested", "not needed", "ASKED")
        assert rows[0].clean_up is not None
        assert rows[1].error == "KeyError: 'no such thing'"
        assert rows[2].progress == [3, 4]
        assert rows[2].ended_at is not None
        assert abs(rows[2].ended_at - time.time()) < 30
        detail = await client.show(rows[0].id)
        assert detail.stack[-1].function == "sleep"
        failed = await client.show(rows[1].id)
        assert [frame.source for frame in failed.stack] == ['raise KeyError("no such thing")'], "and none of ours"
        assert "  it raised at" in lines(failed)
        del value, broken, stopped
        gc.collect()
        assert kept() is None
        assert error() is None
        for _ in range(6):
            await calloff.start(asyncio.sleep(0))
        rows = (await client.list(Query(ended=True))).rows
        assert [row.outcome for row in rows] == ["completed"] * 5
        assert (await client.list()).rows == ()


def test_the_size_of_the_history(monkeypatch: pytest.MonkeyPatch) -> None:
    async def remembered() -> int:
        for _ in range(4):
            await calloff.start(asyncio.sleep(0))
        async with Client() as client:
            return (await client.list(Query(ended=True, states=("completed",)))).total

    monkeypatch.setenv("CALLOFF_HISTORY", "2")
    assert calloff.run(remembered(), expose=True) == 2
    monkeypatch.setenv("CALLOFF_HISTORY", "0")
    assert calloff.run(remembered(), expose=True) == 0
    with expose(history=3):
        assert calloff.run(remembered(), expose=True) == 3
        with expose(history=1):
            assert asyncio.run(remembered()) == 1
    for wrong, error in ((-1, ValueError), ("3", TypeError), (True, TypeError)):
        with pytest.raises(error, match="history must be"), expose(history=wrong):  # type: ignore[arg-type]
            pass


async def test_plain_tasks() -> None:
    async def inner() -> None:
        await asyncio.sleep(3600)

    async def parent() -> None:
        await asyncio.create_task(inner(), name="plain")

    async with looking() as client:
        op = calloff.start(parent())
        await asyncio.sleep(0.01)
        listed = await client.list(Query(tasks=True, name="plain*"))
        (row,) = listed.rows
        assert re.fullmatch(rf"{row.pid}\.t\d+", row.id)
        assert (row.place, row.state) == ("asyncio", "running")
        assert row.name.startswith("plain: ")
        assert row.where is not None
        assert row.where.source == "await asyncio.sleep(3600)"
        assert (row.parent, row.depth) in ((None, 0), (f"{row.pid}.{op.id}", 1))
        detail = await client.show(row.id.rpartition(".")[2])
        assert [frame.function for frame in detail.stack] == ["inner", "sleep"]
        async for stopped in client.cancel(Query(ids=(row.id,)), reason="enough"):
            assert stopped.row is not None
            assert (stopped.outcome, stopped.row.id) == ("cancelled", row.id)
            assert (stopped.row.rung, stopped.row.refusals) == ("ASKED", 0)
        assert isinstance(await op.outcome(), calloff.Cancelled)


async def test_a_plain_task_has_refused_what_it_went_on_after() -> None:
    async def refuses(times: int) -> None:
        for _ in range(times):
            with contextlib.suppress(asyncio.CancelledError):
                await asyncio.Event().wait()
        if times < 2:
            await asyncio.sleep(60)

    told = []
    async with looking() as client:
        beside = calloff.start(waits())
        for times in (1, 2):
            task = asyncio.create_task(refuses(times), name=f"plain {times}")
            await asyncio.sleep(0)
            (row,) = (await client.list(Query(tasks=True, name=f"plain {times}*"))).rows
            for wait in (1.0, 10.0):
                async for stopped in client.cancel(Query(ids=(row.id,)), wait=wait):
                    assert stopped.row is not None
                    told.append((stopped.outcome, stopped.row.rung, stopped.row.refusals))
            await asyncio.wait([task])
        await beside.stop()
    assert told == [(None, None, 1), ("cancelled", "INSISTED", 1), (None, None, 1), ("completed", None, 2)]


# --- ids


async def test_ids() -> None:
    async with looking() as client:
        ops = [calloff.start(waits()) for _ in range(3)]
        await asyncio.sleep(0)
        for op in ops:
            assert (await client.show(op.id)).row.id.endswith(f".{op.id}")
        pid = (await client.show(ops[0].id)).row.pid
        assert (await client.show(f"{pid}.{ops[1].id}")).row.id == f"{pid}.{ops[1].id}"
        with pytest.raises(Ambiguous, match="fits several operations") as several:
            await client.show(str(pid))
        assert len(several.value.candidates) == 3
        for wrong in ("0", "x", f"{pid}.x", "", "9" * 400):
            with pytest.raises(NotFound, match="there is no operation"):
                await client.show(wrong)
        with pytest.raises(NotFound):
            async for _ in client.cancel(Query(ids=(ops[0].id, "none"))):
                pass
        assert not ops[0].done()  # nothing was cancelled
        for op in ops:
            op.cancel()
        await asyncio.wait(ops)


ID = st.tuples(st.integers(1, 99), st.integers(1, 99)).map(lambda two: f"{two[0]}.{two[1]}")


@given(st.lists(ID, unique=True), st.text("0123456789.", max_size=5))
def test_an_exact_id_beats_a_number_a_number_a_process_and_that_a_prefix(known: list[str], text: str) -> None:
    found = best([(id, id) for id in known], text)
    if text in known:
        assert found == [text]
    elif any(id.partition(".")[2] == text for id in known):
        assert found == [id for id in known if id.partition(".")[2] == text]
    else:
        whole = [id for id in known if id.startswith(f"{text}.")]
        assert found == (whole or [id for id in known if id.startswith(text)] if text else [])
    assert Index((id, id) for id in known).best(text) == found
    assert all(fits(id, text) for id in found)


@given(
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.floats() | st.text(), lambda s: st.lists(s) | st.tuples(s, s)
    )
)
def test_progress_is_plain(value: Any) -> None:
    found = plain(value)
    if isinstance(found, str):
        assert len(found) <= 1000
    else:
        assert found == value or (isinstance(value, list) and found == tuple(value))
        assert isinstance(found, (bool, int, float, tuple, type(None)))


def test_progress_that_cannot_be_shown() -> None:
    class Broken:
        def __repr__(self) -> str:
            raise ValueError("no")

    assert "Broken" in plain(Broken())
    assert plain(1 << 60) == str(1 << 60)
    assert plain(range(3)) == "<range>", "the code of an object is not run to show it"
    assert len(plain([0] * 10**6)) < 100


def test_whole_ids_are_found_by_their_numbers() -> None:
    assert numbers(["4312.7", "4312.12", "4312.7"], 4312) == {7, 12}
    for other in ("7", "4312", "4312.", "4312.07", "4312.t3", "431.7", "4312.7.1", "4312.\u0663"):
        assert numbers(["4312.7", other], 4312) is None, other


# --- folded


async def test_what_is_alike_is_one_row_and_what_hangs_is_seen() -> None:
    async def fetch() -> None:
        await asyncio.sleep(3600)

    async def stuck() -> None:
        await asyncio.Event().wait()

    async def other_line() -> None:
        await waits()

    async def parent() -> None:
        async with calloff.group() as group:
            for number in range(30):
                group.start(fetch(), name=f"fetch-{number}")
            group.start(stuck(), name="fetch-30")
            group.start(other_line(), name="fetch-31")
            group.start(fetch(), name="other-7")

    async with looking() as client:
        op = calloff.start(parent(), name="parent-1")
        await until(lambda: has_state(client, 34, "running"))
        overview = await client.list(Query(fold=True))
        assert [(row.name, row.count, row.depth) for row in overview.rows] == [
            ("parent-1", 1, 0),
            ("fetch-*", 30, 1),
            ("fetch-30", 1, 1),
            ("fetch-31", 1, 1),
            ("other-7", 1, 1),
        ]
        assert overview.total == 5
        assert overview.counts == {"running": 34}
        oldest = min((row for row in (await client.list()).rows if row.name == "fetch-0"), key=lambda row: row.age)
        assert overview.rows[1].id == oldest.id
        page = await client.list(Query(fold=True, offset=1, limit=2))
        assert [row.name for row in page.rows] == ["fetch-*", "fetch-30"]
        assert (await client.show(overview.rows[1].id)).row.name == "fetch-0"
        await op.stop()


async def test_the_longest_without_progress_comes_first() -> None:
    async def report(go_on: asyncio.Event) -> None:
        calloff.progress(1)
        await go_on.wait()
        calloff.progress(2)
        await asyncio.sleep(3600)

    async with looking() as client:
        go_on = asyncio.Event()
        first = calloff.start(report(go_on), name="first")
        await until(lambda: has_state(client, 1, "running"))
        silent = calloff.start(report(asyncio.Event()), name="silent")
        quiet = calloff.start(waits(), name="never reported")
        await until(lambda: has_state(client, 3, "running"))
        await asyncio.sleep(0.05)  # of silence, which the other does not keep
        go_on.set()
        while first.progress != 2:
            await asyncio.sleep(0)
        rows = (await client.list(Query(sort="silent"))).rows
        assert [row.name for row in rows][:2] == ["silent", "first"]
        by_name = {row.name: row for row in rows}
        assert by_name["never reported"].silent is None
        longer, shorter = by_name["silent"].silent, by_name["first"].silent
        assert longer is not None
        assert shorter is not None
        assert longer >= shorter >= 0
        for op in (first, silent, quiet):
            await op.stop()


async def test_what_ends_while_it_is_looked_at_is_not_counted_among_what_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    runs, ended = calloff.start(waits()), calloff.start(asyncio.sleep(0))
    await ended
    monkeypatch.setattr("calloff.control._rows._alive", lambda: [runs, ended])  # as the thread of the server found them
    listing = Registry(History(10), lambda: ()).listing(Query(fold=True))
    assert (listing.counts, listing.total) == ({"running": 1}, 1)
    await runs.stop()


async def test_what_ends_while_it_is_folded_is_no_row(monkeypatch: pytest.MonkeyPatch) -> None:
    ops = [calloff.start(waits(), name=f"fetch-{number}") for number in range(3)]
    await asyncio.sleep(0)  # now they run, also where a task begins at once
    monkeypatch.setattr("calloff.control._rows._alive", lambda: list(ops))
    line = _fold._line  # reads where each stands, the last step of a kind

    def ends_meanwhile(operation: calloff.Operation[None]) -> Any:
        if operation is ops[0]:
            operation._phase = State.COMPLETED
        return line(operation)

    monkeypatch.setattr("calloff.control._fold._line", ends_meanwhile)
    listing = Registry(History(10), lambda: ()).listing(Query(fold=True))
    assert [(row.name, row.count, row.state) for row in listing.rows] == [("fetch-*", 2, "running")]
    ops[0]._phase = State.RUNNING
    for op in ops:
        await op.stop()
