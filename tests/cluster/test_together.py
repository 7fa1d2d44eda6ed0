"""A cluster under what goes over several operations, and as it is seen from outside."""

import asyncio
import time
from pathlib import Path

import pytest
from cluster import bodies
from cluster.nodes import Wires, opened, run, until

import calloff
import calloff.cluster
from calloff._child.wire import frame
from calloff._operation.snapshot import History
from calloff.cluster import _engine
from calloff.control._records import Query, Row
from calloff.control._rows import Registry


def odd(number: int) -> int:
    if number % 2 == 0:
        raise ValueError(f"{number} is even")
    return number


def test_map_group_and_race() -> None:
    async def main() -> None:
        async with calloff.cluster.local(2, slots=4) as cluster:
            outcomes = await calloff.map(odd, range(200), place=cluster, jobs=50)
            assert [isinstance(outcome, calloff.Completed) for outcome in outcomes] == [False, True] * 100
            stuck = await calloff.map(time.sleep, [0, 600, 0], place=cluster, timeout=3, grace=0.1)
            assert [type(outcome) for outcome in stuck] == [calloff.Completed, calloff.Cancelled, calloff.Completed]
            async with calloff.group() as group:
                ops = [group.start(cluster.process(bodies.add, n, 1)) for n in range(20)]
            assert [op.result() for op in ops] == list(range(1, 21))
            slow = calloff.start(cluster.process(time.sleep, 600))
            assert await calloff.race(slow, cluster.process(bodies.add, 1, 1)) == 2
            assert slow.cancelled()
            assert [node.busy for node in cluster.nodes()] == [0, 0]

    run(main())


def test_a_slot_is_free_exactly_at_the_end(tmp_path: Path) -> None:
    async def main() -> None:
        async with calloff.cluster.local(1, slots=1) as cluster:
            first = calloff.start(cluster.process(bodies.sleeper, tmp_path / "first"), grace=0)
            await until(lambda: (tmp_path / "first").exists(), "the first runs")
            second = calloff.start(cluster.process(bodies.sleeper, tmp_path / "second"), timeout=600)
            assert str(second.state) == "pending"
            outcome = await first.stop()
            if isinstance(outcome, calloff.Abandoned):  # the node is so busy that it has not answered yet
                await until(lambda: first not in calloff.operations(), "it has ended, too")
            assert outcome.report is not None
            if outcome.report.rung is not calloff.Rung.ASKED:  # who obeys leaves its worker to the next
                assert not bodies.alive(int((tmp_path / "first").read_text())), str(outcome)
            await until(lambda: (tmp_path / "second").exists(), "the second runs")
            await second.stop(grace=0)

    run(main())


def test_it_is_seen_with_its_node(tmp_path: Path) -> None:
    async def main() -> None:
        async with calloff.cluster.local(2, slots=1) as cluster:
            ops = [
                calloff.start(cluster.process(bodies.sleeper, tmp_path / name), name=name, grace=0)
                for name in ("a", "b")
            ]
            await until(lambda: all((tmp_path / op.name).exists() for op in ops), "both run")
            history = History(10)
            history.open()
            registry = Registry(history, lambda: ())
            rows = await asyncio.to_thread(registry.listing, Query())
            assert {row.place for row in rows.rows if row.name in "ab"} == {"cluster local-0", "cluster local-1"}
            assert all(row.where is not None and "sleep" in row.where.source for row in rows.rows if row.name in "ab")
            # a busy node may not answer at once: then it is told how long ago it was
            assert {op.where()[0].source.partition(",")[0] for op in ops} == {"node local-0", "node local-1"}
            await asyncio.gather(*(op.stop() for op in ops))
            for name in ("local-0", "local-1"):  # also when it has ended
                found = registry.listing(Query(places=(f"cluster {name}",), ended=True))
                assert [(row.place, row.outcome) for row in found.rows] == [(f"cluster {name}", "cancelled")]
            history.close()

    run(main())


def test_a_look_ends_with_the_answer(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("calloff.cluster._body._PATIENCE", 20.0)

    async def main() -> None:
        async with calloff.cluster.local(1, lease=60) as cluster:
            op = calloff.start(cluster.process(bodies.sleeper, tmp_path / "mark"), grace=0)
            await until(lambda: (tmp_path / "mark").exists(), "it runs")
            for _ in range(2):
                began = time.monotonic()
                assert any("sleep" in frame.source for frame in await asyncio.to_thread(op.where))
                assert time.monotonic() - began < 15, "it has waited to the end of its patience"
            await op.stop()

    run(main())


def test_a_node_that_is_out_of_reach_is_a_row() -> None:
    async def main() -> None:
        registry = Registry(History(10), lambda: ())

        async def rows() -> list[Row]:
            listing = await asyncio.to_thread(registry.listing, Query(name="node * is out of reach"))
            return [row for row in listing.rows if row.state == "running"]

        wires = Wires("a", "b")
        async with opened(wires) as cluster:
            assert await rows() == []
            wires.cut.add("a")
            await until(lambda: cluster.nodes()[0].state == "lost", "it is lost")
            await until(lambda: calloff.operations(), "it is told of")
            while not (await rows())[0].progress:
                await asyncio.sleep(0.01)
            (row,) = await rows()
            assert row.name == "node a is out of reach"
            assert "no way there" in row.progress or "nothing came from it for" in row.progress
            wires.cut.clear()
            await until(lambda: not calloff.operations(), "it is reached again, and the row is gone")
            wires.cut.add("b")
            await until(lambda: calloff.operations(), "the other one is told of")
            calloff.operations()[0].cancel("switched off for good")
            await until(lambda: cluster.nodes()[1].why.startswith("given up"), "it is not tried any more")
            assert await calloff.call(cluster.process(bodies.add, 1, 2)) == 3

    run(main())


def test_a_worker_of_an_engine_lets_go_of_an_agent_whose_owner_is_gone(monkeypatch: pytest.MonkeyPatch) -> None:
    """It has ended with its lease, and nobody comes for its last words."""
    monkeypatch.setattr(_engine, "_LEFT", 0.0)
    monkeypatch.setattr(_engine, "_agents", {})

    async def main() -> None:
        await _engine.open("first")
        assert await _engine.read("first"), "it says hello"
        reading = asyncio.ensure_future(_engine.read("first"))
        await _engine.open("second")
        assert list(_engine._agents) == ["first", "second"], "it lives"
        await _engine.write("first", b"".join(map(bytes, frame(("bye",), b""))))
        await reading
        while await _engine.read("first"):
            pass
        await _engine.open("third")
        assert list(_engine._agents) == ["second", "third"]
        for name in ("second", "third"):
            await _engine.close(name)

    run(main())
