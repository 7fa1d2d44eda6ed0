"""What the code of items and results does when it is unpickled, and how a function leaves: of that item alone."""

import pickle
import zlib
from typing import Any

import pytest
from map import bodies

import calloff
from calloff import CalloffError, Cancelled, Completed, Failed, WorkerDied
from calloff._child import batch
from calloff._map import batches
from calloff._map.spool import Spool
from calloff._places.process.unpickling import may_block

ONE_BY_ONE_AND_TOGETHER = pytest.mark.parametrize("batch", [1, 6])


def mapped(function, items, **options):
    return calloff.run(calloff.map(function, items, place=calloff.process, jobs=2, **options))


@ONE_BY_ONE_AND_TOGETHER
@pytest.mark.parametrize("kind", ["hangs", "ends the process", "crashes", "raises", "raises StopIteration", "exits"])
def test_what_the_code_of_an_item_does_when_it_arrives_is_of_that_item(kind, batch):
    items = [*range(4), bodies.Baited(kind), *range(4, 11)]
    outcomes = mapped(bodies.told_of, items, batch=batch, timeout=4 if kind == "hangs" else None, grace=0.2)
    bitten = outcomes.pop(4)
    assert outcomes == [Completed("int")] * 11
    assert isinstance(bitten, Cancelled if kind == "hangs" else Failed)
    if kind == "raises":
        assert "while the" in str(bitten.error.__notes__)


@ONE_BY_ONE_AND_TOGETHER
@pytest.mark.parametrize("error", [ValueError(), StopIteration(), SystemExit(3), KeyboardInterrupt(), GeneratorExit()])
def test_what_the_code_of_a_result_raises_fails_that_item(error, batch):
    outcomes = mapped(bodies.lays_bait, [1, 2, error, 4, 5, 6], batch=batch)
    assert [type(outcome) for outcome in outcomes] == [Completed, Completed, Failed, *[Completed] * 3]
    assert isinstance(outcomes[2].error, Exception)
    assert type(error).__name__ in repr(outcomes[2].error)


@ONE_BY_ONE_AND_TOGETHER
def test_one_that_leaves_its_process_fails_and_does_not_end_ours(batch):
    outcomes = mapped(bodies.exits, range(6), batch=batch)
    assert [type(outcome) for outcome in outcomes] == [Completed, Completed, Failed, Completed, Failed, Completed]
    died = outcomes[2].error
    assert isinstance(died, WorkerDied)
    assert died.status == 4
    assert "SystemExit(4)" in str(died)
    assert isinstance(outcomes[4].error, WorkerDied)


@ONE_BY_ONE_AND_TOGETHER
def test_a_forked_child_that_comes_back_says_nothing(batch):
    assert mapped(bodies.forks, range(30), batch=batch) == [Completed(item) for item in range(30)]


def test_items_that_are_large_or_of_the_main_script_arrive_whole():
    class Local:
        def __init__(self, value):
            self.value = value

    items = [Local(3), b"x" * 1_000_000, Local(b"y" * 1_000_000), bytearray(100_000), {"__main__": [1]}, "\udc80"]
    outcomes = mapped(size, items, batch=6)
    assert outcomes == [Completed(number) for number in (3, 1_000_000, 1_000_000, 100_000, 1, 1)]


def size(item):
    value = getattr(item, "value", item)
    return value if isinstance(value, int) else len(value)


def test_a_function_that_hangs_where_it_is_imported_is_no_longer_waited_for(monkeypatch):
    monkeypatch.setattr(batches, "READY", 0.2)
    outcomes = mapped(bodies.Unready(), range(2), timeout=0.2, grace=0.1)
    assert [type(outcome) for outcome in outcomes] == [Cancelled] * 2
    assert {str(outcome.reason.kind) for outcome in outcomes} == {"deadline"}


@pytest.mark.parametrize("value", [147, [147, 2.5], {"a": b"\x93"}, "\x93"])
def test_what_names_no_code_is_unpickled_at_once(value):
    assert not may_block(pickle.dumps(value, 5))
    assert may_block(pickle.dumps([value, bodies.fine], 5))


@pytest.mark.parametrize(
    "value",
    [
        None,
        True,
        147,
        -(1 << 70),
        2.5,
        1j,
        b"\x93",
        "\udc80\U0001f600",
        "x" * 5000,
        (1, [2]),
        {"a": {3}},
        bytearray(b"x"),
    ],
)
def test_values_come_back_as_what_they_were(value):
    (outcome,) = mapped(bodies.fine, [value], batch=6)
    assert outcome == Completed(value)
    assert type(outcome.value) is type(value)


def test_a_result_that_finds_no_room_is_handed_over_even_if_it_is_none(monkeypatch):
    spool = Spool()
    try:
        monkeypatch.setattr(batch, "SIZE", batch.FIRST + 8)  # a number has 5 bytes there, and None has one
        function = zlib.compress(pickle.dumps((bodies.fine, (), {})))
        assert batch.run(function, pickle.dumps([1, *[None] * 4, 2]), spool.path, None, "fine") == (None,)
        assert spool.read(all_of_it=True)[1] == [1, None, None, None]
    finally:
        spool.close()


def test_what_is_told_while_the_map_is_called_off_stands_beside_its_own_item():
    async def main():
        told = []
        with pytest.raises(CalloffError, match="max_failures"):
            options: dict[str, Any] = {"place": calloff.process, "jobs": 1, "batch": 100, "max_failures": 3}
            async with calloff.map(bodies.fails, range(400), **options) as results:
                async for item, outcome in results:
                    if isinstance(outcome, Failed):  # the one that ran then may have been stopped
                        told.append((item, str(outcome.error)))
        assert told == [(item, f"item {item}") for item in range(len(told))]
        assert len(told) >= 4

    calloff.run(main())
