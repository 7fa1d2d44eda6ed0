"""Items of a map in batches on nodes: each has its own limit, stop and ending, whatever happens to the others."""

import asyncio
import contextlib
import os
import signal
import threading
import time
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from cluster.nodes import Wires, agent, opened, run, until

import calloff
import calloff.cluster

LONG = 600.0


def does(item: Any) -> Any:
    """What its item says."""
    if not isinstance(item, tuple):
        return item
    what, *rest = item
    if what == "sleeps":
        time.sleep(LONG)
    elif what == "refuses":
        while True:
            with contextlib.suppress(asyncio.CancelledError):
                time.sleep(LONG)
    elif what == "dies":
        os._exit(3)
    elif what == "raises":
        raise ValueError(*rest)
    elif what == "locks":
        return threading.Lock()
    elif what == "large":
        return b"x" * (1 << 21)
    elif what == "notes":
        path, number = rest
        with open(path, "a") as file:
            file.write(f"{number}\n")
        if number == 70:
            time.sleep(LONG)
    return item


def test_each_has_its_own_ending() -> None:
    odd: dict[int, Any] = {
        20: ("sleeps",),
        50: ("raises", "no"),
        90: ("dies",),
        130: ("refuses",),
        131: ("locks",),
        170: ("large",),
    }
    items = [odd.get(number, number) for number in range(200)]

    async def main() -> None:
        async with calloff.cluster.local(2, slots=2) as cluster:
            # the limit of an item has to be longer than a busy machine may give a worker no turn
            options: Any = {"place": cluster, "jobs": 6, "timeout": 2, "grace": 0.2, "batch": 25}
            outcomes = await calloff.map(does, items, **options)
            assert [node.busy for node in cluster.nodes()] == [0, 0]
        for number, outcome in enumerate(outcomes):
            if number not in odd:
                assert isinstance(outcome, calloff.Completed), (number, outcome)
                assert outcome.value == number
        slept, refused = outcomes[20], outcomes[130]
        assert isinstance(slept, calloff.Cancelled)
        assert slept.report.reason.kind is calloff.Kind.DEADLINE
        assert isinstance(refused, calloff.Cancelled)
        assert refused.report.rung is calloff.Rung.KILLED
        assert isinstance(outcomes[50], calloff.Failed)
        assert isinstance(outcomes[50].error, ValueError)
        assert isinstance(outcomes[90], calloff.Failed)
        assert isinstance(outcomes[90].error, calloff.WorkerDied)
        assert isinstance(outcomes[131], calloff.Failed)
        assert isinstance(outcomes[170], calloff.Completed)
        assert len(outcomes[170].value) == 1 << 21

    run(main())


def test_those_behind_a_slow_one_go_elsewhere() -> None:
    async def main() -> None:
        items: list[Any] = [("sleeps",) if number == 3 else number for number in range(60)]
        async with calloff.cluster.local(2, slots=1) as cluster:
            found = []
            async with calloff.map(does, items, place=cluster, jobs=2, grace=0, batch=20) as results:
                async for _, outcome in results:
                    found.append(outcome.unwrap())
                    if len(found) == 59:
                        break
            assert sorted(found) == [number for number in range(60) if number != 3]
            assert [node.busy for node in cluster.nodes()] == [0, 0], "what is left has been stopped"

    run(main())


@pytest.mark.parametrize("how", ["agent killed", "wire cut"])
def test_with_a_node_all_are_lost_that_may_have_begun(tmp_path: Path, how: str) -> None:
    notes = tmp_path / "notes"

    async def main() -> None:
        wires = Wires("a", "b", slots=1)
        async with opened(wires) as cluster:
            items = [("notes", str(notes), number) for number in range(200)]

            async def all_of_them() -> Any:
                return await calloff.map(does, items, place=cluster, jobs=2, batch=100)

            work = asyncio.ensure_future(all_of_them())
            await until(lambda: notes.exists() and "70\n" in notes.read_text(), "the slow one runs")
            await until(lambda: sum(node.busy for node in cluster.nodes()) == 1, "the others are done")
            at = 0 if cluster.nodes()[0].busy else 1
            if how == "agent killed":
                os.kill(agent(cluster, at), signal.SIGKILL)
            else:
                wires.cut.add("ab"[at])
            outcomes = await work
            wires.cut.clear()
        ran = Counter(map(int, notes.read_text().split()))
        assert set(ran.values()) == {1}, "none has run twice"
        for number, outcome in enumerate(outcomes):
            if isinstance(outcome, calloff.Completed):
                assert number in ran
            else:
                assert isinstance(outcome, calloff.Failed)
                assert isinstance(outcome.error, calloff.cluster.NodeLost), outcome
        assert isinstance(outcomes[70], calloff.Failed)
        assert sum(isinstance(outcome, calloff.Completed) for outcome in outcomes) >= 100, "the other node goes on"

    run(main())
