"""The code of items that runs when they are pickled: it has their limit and their stop, and holds up nobody else."""

import asyncio
import threading
from collections import Counter, OrderedDict, namedtuple
from contextlib import asynccontextmanager
from copyreg import dispatch_table
from dataclasses import dataclass
from enum import Enum
from fractions import Fraction
from pathlib import Path
from typing import Any

import pytest
from map import bodies

import calloff
from calloff import Abandoned, Cancelled, Completed, Failed, Kind
from calloff._places.process import codeless
from calloff._places.process.packing import by_value
from calloff._words.state import State

ONE_BY_ONE_AND_TOGETHER = pytest.mark.parametrize("batch", [1, 6, "auto"])


class Telling:
    """Does something when it is pickled."""

    def __init__(self, does: Any = None) -> None:
        self.does = does

    def __reduce__(self):
        if self.does is not None:
            self.does()
        return str, ()  # for which a worker has nothing to import


class Withholding(Telling):
    """The same, in what it says of its state."""

    __reduce__ = object.__reduce__

    def __getstate__(self):
        self.does()
        return {}


def loops():
    while True:
        pass


def mapped(items, **options):
    return calloff.map(bodies.told_of, items, place=calloff.process, jobs=2, **options)


@ONE_BY_ONE_AND_TOGETHER
@pytest.mark.parametrize("kind", [Telling, Withholding])
async def test_an_item_that_blocks_while_it_is_pickled_has_the_limit_of_an_item(kind, batch):
    release, reached = threading.Event(), threading.Event()

    def blocks():
        reached.set()
        release.wait()

    try:
        async with mapped([kind(blocks)], batch=batch, timeout=0.2, grace=0.1) as results:
            while not any(operation.state is State.RUNNING for operation in results.running()):
                await asyncio.sleep(0)
            # no timer is called before the thread is there, which on a busy machine takes longer than the limit
            assert reached.wait(30)
            ((_, bitten),) = [told async for told in results]
    finally:
        release.set()
    assert isinstance(bitten, (Cancelled, Abandoned))
    assert bitten.report.reason.kind is Kind.DEADLINE
    assert any(frame.function in {"__reduce__", "__getstate__"} for frame in bitten.report.where)


@ONE_BY_ONE_AND_TOGETHER
async def test_one_that_loops_there_is_forced(batch, patient):
    (outcome,) = await mapped([Telling(loops)], batch=batch, timeout=0.2, grace=0.1)
    assert isinstance(outcome, Cancelled)


@ONE_BY_ONE_AND_TOGETHER
async def test_the_stop_of_the_map_reaches_it(batch):
    release, reached = threading.Event(), threading.Event()

    def blocks():
        reached.set()
        release.wait()

    async with mapped([Telling(blocks), *range(50)], batch=batch, grace=0.1) as results:
        async for _, outcome in results:
            assert outcome == Completed("int")
            if results.counts.completed == 50:
                break
        # a result may be told before the end of its batch
        while not reached.is_set() or len(results.running()) > 1:
            await asyncio.sleep(0)
        (stuck,) = results.running()
        assert stuck.name == "pickle items of told_of"
    assert stuck.done()
    release.set()


@ONE_BY_ONE_AND_TOGETHER
async def test_the_loop_goes_on_meanwhile_and_so_do_those_behind_a_slow_one(batch):
    release, items = threading.Event(), [Telling() for _ in range(30)]
    items[3] = Telling(release.wait)
    seen = []
    async with mapped(items, batch=batch) as results:
        async for item, outcome in results:
            assert outcome == Completed("str")
            seen.append(item)
            if len(seen) == 29:  # only the slow one is left
                assert items[3] not in seen
                release.set()
    assert len(seen) == 30


@ONE_BY_ONE_AND_TOGETHER
@pytest.mark.parametrize("error", [ValueError, StopIteration, SystemExit, KeyboardInterrupt, GeneratorExit])
async def test_what_is_raised_there_fails_that_item(error, batch):
    def raises():
        raise error("no")

    outcomes = await mapped([1, Telling(raises), Telling(), 4], batch=batch)
    assert [type(outcome) for outcome in outcomes] == [Completed, Failed, Completed, Completed]


@ONE_BY_ONE_AND_TOGETHER
async def test_an_item_is_pickled_anew_for_its_next_attempt(batch):
    times: Counter[Any] = Counter()
    item = Telling(lambda: times.update("x"))
    async with calloff.map(
        bodies.fails,
        [item],
        place=calloff.process,
        batch=batch,
        retry=lambda outcome, attempt: 0 if attempt < 3 else None,
    ) as results:
        async for _, outcome in results:
            assert isinstance(outcome, Failed)
    assert times["x"] == 3


async def test_an_item_that_was_not_let_in_is_pickled_anew_for_its_next_attempt():
    times: Counter[Any] = Counter()
    tries = iter((False, True))

    @asynccontextmanager
    async def within(_):
        if not next(tries):
            raise ValueError("no room")
        yield

    outcomes = await calloff.map(
        bodies.told_of,
        [Telling(lambda: times.update("x"))],
        place=calloff.process,
        batch=1,
        within=within,
        retry=lambda outcome, attempt: 0,
    )
    assert (outcomes, times["x"]) == ([Completed("str")], 2)


async def test_many_that_block_for_ever_let_the_others_go_on():
    release = threading.Event()
    items = [Telling(release.wait) if number % 2 else number for number in range(20)]
    async with calloff.map(bodies.told_of, items, place=calloff.process, jobs=11, grace=0) as results:
        async for _, outcome in results:
            assert outcome == Completed("int")
            if results.counts.completed == 10:
                break
    release.set()


@dataclass(frozen=True, slots=True)
class Slotted:
    value: int


class Colour(Enum):
    RED = 1


class Growing(list):
    def __iter__(self):
        raise AssertionError("this is code of the program")


class Posing:
    @property  # type: ignore[misc]  # it poses
    def __class__(self):
        raise AssertionError("this is code of the program")


class Registered:
    pass


class Meta(type):
    pass


Point = namedtuple("Point", "x y")


@pytest.mark.parametrize(
    "value",
    [Slotted(3), Colour.RED, Point(1, 2), Fraction(1, 3), Path("a"), Counter("aab"), OrderedDict(a=1), {1: (2, {3})},
     ValueError("x"), bytearray(3), Slotted, len, {"a": [Slotted(1)]}],
)  # fmt: skip
def test_what_runs_no_code_of_the_program_is_pickled_at_once(value):
    assert codeless.dumps(value)


@pytest.mark.parametrize(
    "make",
    [lambda: Telling(loops), lambda: [Withholding(loops)], lambda: Growing([1]), Posing, Registered, Meta("x", (), {})],
)
def test_what_runs_some_is_found_before_it_runs(make, monkeypatch):
    monkeypatch.setitem(dispatch_table, Registered, lambda value: pytest.fail("this is code of the program"))
    with pytest.raises(codeless.RunsCode):
        codeless.dumps(make())


def test_a_module_is_pickled_by_value_until_the_last_who_needs_it_has_done_so():
    import cloudpickle

    inside, go_on = threading.Event(), threading.Event()

    def waits():
        inside.set()
        go_on.wait()

    thread = threading.Thread(target=by_value, args=(Telling(waits), [], [bodies]))
    thread.start()
    inside.wait()
    by_value(1, [], [bodies])
    assert bodies.__name__ in cloudpickle.list_registry_pickle_by_value()
    go_on.set()
    thread.join()
    assert bodies.__name__ not in cloudpickle.list_registry_pickle_by_value()
