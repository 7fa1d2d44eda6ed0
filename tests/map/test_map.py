"""`map` over coroutines: the window, the results, leaving it."""

import asyncio
import collections
import contextvars
import gc
import itertools
import signal
import subprocess
import sys
import time
import warnings
from typing import Any

import pytest
from operation import virtual_time

import calloff
from calloff import Cancelled, Completed, Failed
from calloff._map.blocking import Blocking


async def same(item):
    await asyncio.sleep(0)
    return item


async def waits(item):
    await asyncio.sleep(3600)


async def values(results):
    return [(item, outcome.unwrap()) async for item, outcome in results]


def running():
    return [op for op in calloff.operations() if not op.done()]


async def test_each_item_has_its_outcome():
    async def one(item):
        await asyncio.sleep(0)
        if item % 3 == 0:
            raise ValueError(item)
        return item * 10

    found = {}
    async with calloff.map(one, range(20)) as results:
        async for item, outcome in results:
            found[item] = outcome
    for item in range(20):
        if item % 3:
            assert found[item] == Completed(item * 10)
        else:
            assert isinstance(found[item], Failed)
            assert found[item].error.args == (item,)
    assert results.counts == (13, 7, 0, 0, 0, 0)


async def test_awaiting_it_gives_all_in_order():
    async def one(item):
        await asyncio.sleep(0.02 * (item % 3))
        return item

    outcomes = await calloff.map(one, range(30), jobs=7)
    assert [outcome.unwrap() for outcome in outcomes] == list(range(30))
    assert await calloff.map(one, []) == []


def test_a_program_that_is_not_asynchronous():
    assert [o.unwrap() for o in calloff.run(calloff.map(same, "abc"))] == ["a", "b", "c"]


async def test_never_more_than_jobs_at_a_time():
    now = most = 0

    async def one(item):
        nonlocal now, most
        now += 1
        most = max(most, now)
        await asyncio.sleep(0)
        now -= 1

    async with calloff.map(one, range(100), jobs=7) as results:
        async for _ in results:
            pass
    assert most == 7


async def test_jobs_can_be_set_meanwhile():
    now = most = 0

    async def one(item):
        nonlocal now, most
        now += 1
        most = max(most, now)
        await asyncio.sleep(0.001)
        now -= 1

    async with calloff.map(one, itertools.count(), jobs=2) as results:
        assert results.jobs == 2
        taken = 0
        async for _ in results:
            taken += 1
            if taken == 20:
                assert most == 2
                results.jobs = 9
            if taken == 100:
                assert most == 9
                results.jobs = 3
            if taken == 150:
                most = 0
            if taken == 200:
                assert most == 3
                break
        with pytest.raises(ValueError, match="jobs must be 1 or more"):
            results.jobs = 0


@pytest.mark.usefixtures("begins_first")
async def test_the_limit_of_an_item_ends_only_that_item():
    async def one(item):
        await asyncio.sleep(3600 if item % 10 == 0 else 0)
        return item

    ends: collections.Counter[Any] = collections.Counter()
    async with calloff.map(one, range(100), jobs=20, timeout=0.1) as results:
        async for item, outcome in results:
            ends[type(outcome)] += 1
            if isinstance(outcome, Cancelled):
                assert item % 10 == 0
                assert outcome.reason.kind == "deadline"
                assert outcome.report.started
    assert ends == {Completed: 90, Cancelled: 10}


@pytest.mark.usefixtures("begins_first")
async def test_one_that_refuses_is_forced_and_the_others_go_on():
    async def one(item):
        while item == 3:
            try:
                await asyncio.sleep(3600)
            except asyncio.CancelledError:
                pass
        return item

    outcomes = await calloff.map(one, range(50), jobs=5, timeout=0.05, grace=0.1)
    assert [type(outcome) for outcome in outcomes] == [Cancelled if i == 3 else Completed for i in range(50)]
    assert outcomes[3].report.rung == calloff.Rung.FORCED
    assert outcomes[3].report.refusals >= 1


@pytest.mark.parametrize("how", ["break", "return", "raise", "cancel"])
async def test_leaving_the_block_stops_what_is_in_flight_before_the_next_line_runs(how):
    begun, ended = set(), set()

    async def one(item):
        begun.add(item)
        try:
            if item:
                await asyncio.sleep(3600)
        finally:
            await asyncio.sleep(0.01)
            ended.add(item)

    async def body():
        async with calloff.map(one, itertools.count(), jobs=10) as results:
            async for _ in results:
                if how == "break":
                    break
                if how == "return":
                    return
                if how == "raise":
                    raise KeyError("mine")
                asyncio.current_task().cancel()
                await asyncio.sleep(1)

    try:
        await body()
    except KeyError:
        assert how == "raise"
    except asyncio.CancelledError:
        assert how == "cancel"
        asyncio.current_task().uncancel()
    assert begun == ended
    assert len(begun) >= 10
    assert not running()


async def test_without_its_block_it_is_refused():
    with pytest.raises(RuntimeError, match="write `async with calloff.map"):
        async for _ in calloff.map(same, [1]):
            pass
    results = calloff.map(same, [1])
    async with results:
        assert await values(results) == [(1, 1)]
    with pytest.raises(RuntimeError, match="only once"):
        async with results:
            pass
    with pytest.raises(RuntimeError, match="write `with calloff.map"):
        list(calloff.map(same, [1]))


async def test_items_are_drawn_as_there_is_room():
    drawn = 0

    def source():
        nonlocal drawn
        while True:
            drawn += 1
            yield drawn

    async with calloff.map(same, source(), jobs=5) as results:
        async for item, _ in results:
            assert drawn <= item + 3 * 5
            if item >= 300:
                break


async def test_an_asynchronous_source_is_held_back_and_closed():
    drawn, closed = 0, False

    async def source():
        nonlocal drawn, closed
        try:
            for drawn in itertools.count(1):
                await asyncio.sleep(0)
                yield drawn
        finally:
            closed = True

    async def slow_letters():
        for letter in "abc":
            await asyncio.sleep(0.01)
            yield letter

    async with calloff.map(same, source(), jobs=5) as results:
        seen = 0
        async for _ in results:
            seen += 1
            if seen == 50:
                await asyncio.sleep(0.05)
                assert drawn <= 50 + 3 * 5
            if seen == 100:
                break
    assert closed
    assert [o.unwrap() for o in await calloff.map(same, slow_letters())] == ["a", "b", "c"]


async def test_an_error_of_the_source_comes_after_what_was_in_flight():
    def source():
        yield 1
        yield 2
        raise KeyError("source")

    async def asource():
        for item in source():
            yield item

    for make in (source, asource):
        seen = []
        with pytest.raises(KeyError, match="source"):
            async with calloff.map(same, make()) as results:
                async for _, outcome in results:
                    seen.append(outcome.unwrap())
        assert sorted(seen) == [1, 2]
        with pytest.raises(KeyError, match="source"):
            await calloff.map(same, make())


async def test_in_order_and_no_further_ahead_of_a_slow_head_than_memory_allows():
    begun = 0
    gate = asyncio.Event()

    async def one(item):
        nonlocal begun
        begun += 1
        if item == 0:
            await gate.wait()
        return item

    async with calloff.map(one, itertools.count(), jobs=4, ordered=True) as results:
        before = -1
        while begun != before or begun < 4:  # a busy uvloop wakes us before the first of them has begun
            before = begun
            await asyncio.sleep(0.02)
        assert 4 <= begun <= 4 * 20
        gate.set()
        seen = []
        async for item, _ in results:
            seen.append(item)
            if len(seen) == 500:
                break
    assert seen == list(range(500))


async def test_a_consumer_that_is_slow_is_waited_for():
    begun = 0

    async def one(item):
        nonlocal begun
        begun += 1

    async with calloff.map(one, itertools.count(), jobs=4) as results:
        taken = 0
        async for _ in results:
            taken += 1
            await asyncio.sleep(0.005)
            assert begun <= taken + 2 * 4
            if taken == 20:
                break


async def test_retry():
    tries: collections.Counter[Any] = collections.Counter()

    async def one(item):
        tries[item] += 1
        if tries[item] <= item:
            raise ValueError(tries[item])
        return item

    def retry(outcome, attempt):
        assert isinstance(outcome, Failed)
        assert outcome.error.args == (attempt,)
        return 0.001 if attempt < 3 else None

    outcomes = await calloff.map(one, range(5), jobs=2, retry=retry)
    assert [type(outcome) for outcome in outcomes] == [Completed] * 3 + [Failed] * 2
    assert tries == {0: 1, 1: 2, 2: 3, 3: 3, 4: 3}


def test_a_retry_that_waits_takes_nobodys_turn():
    async def main():
        async def one(item):
            if item == 0 and not failed:
                failed.append(item)
                raise ValueError
            return item

        failed = []
        order = []
        async with calloff.map(one, range(20), jobs=1, retry=lambda outcome, attempt: 0.1) as results:
            async for item, _ in results:
                order.append(item)
        assert order == [*range(1, 20), 0]

    virtual_time.run(main)


@pytest.mark.usefixtures("begins_first")
async def test_within_is_held_from_before_the_start_to_the_confirmed_end():
    held: set[Any] = set()
    most, left = 0, list[Any]()

    class Slot:
        def __init__(self, item):
            self.item = item

        async def __aenter__(self):
            nonlocal most
            while len(held) >= 3:
                await asyncio.sleep(0.001)
            held.add(self.item)
            most = max(most, len(held))

        async def __aexit__(self, *_):
            held.discard(self.item)
            left.append(self.item)

    async def one(item):
        assert item in held
        try:
            await asyncio.sleep(3600 if item == 2 else 0)
        except asyncio.CancelledError:
            await asyncio.sleep(0.01)
            assert item in held
            raise

    outcomes = await calloff.map(one, range(12), jobs=8, timeout=0.1, within=Slot)
    assert [type(o) for o in outcomes] == [Cancelled if i == 2 else Completed for i in range(12)]
    assert not held
    assert sorted(left) == list(range(12))
    async with calloff.map(waits, itertools.count(), jobs=8, within=Slot) as results:
        await asyncio.sleep(0.02)
    assert not held
    assert results.counts.running == 0
    assert most == 3


def test_the_limit_does_not_count_the_wait_for_what_is_held():
    async def main():
        async def one(item):
            await asyncio.sleep(0.03)
            return item

        lock = asyncio.Lock()
        outcomes = await calloff.map(one, range(8), timeout=0.1, within=lambda item: lock)
        assert [o.unwrap() for o in outcomes] == list(range(8))
        assert virtual_time.now() > 0.2, "all of them take longer than the limit of one"

    virtual_time.run(main)


@pytest.mark.parametrize(("most", "ended"), [(0, 1), (3, 4), (0.1, 20)])
async def test_after_too_many_failures_it_stops(most, ended):
    async def one(item):
        await asyncio.sleep(0)
        raise ValueError(item)

    seen = 0
    with pytest.raises(calloff.CalloffError, match="max_failures=") as caught:
        async with calloff.map(one, itertools.count(), jobs=1, max_failures=most) as results:
            async for _ in results:
                seen += 1
    assert seen == ended
    assert isinstance(caught.value.__cause__, ValueError)


async def test_in_order_and_stopped_it_gives_what_has_ended_behind_one_that_never_will():
    async def one(item):
        if item > 2:
            await asyncio.Event().wait()
        if item != 1:
            raise ValueError(item)
        return item

    def retry(outcome, attempt):
        return None if outcome.error.args == (2,) else 3600

    seen = []
    with pytest.raises(calloff.CalloffError, match="max_failures="):
        async with calloff.map(one, range(9), jobs=1, ordered=True, retry=retry, max_failures=0) as results:
            async for item, outcome in results:
                seen.append((item, type(outcome)))
    assert seen[:2] == [(1, Completed), (2, Failed)]


async def test_it_is_one_operation_with_the_items_below_it():
    async with calloff.map(waits, range(100), jobs=3) as results:
        (row,) = [op for op in calloff.operations() if op.name == "map waits"]
        while not row.children:
            await asyncio.sleep(0)
        assert {op.name for op in row.children} == {"waits"}
        assert len(row.children) == 3
        assert row.parent is calloff.current()
        async for tick in row.watch(0.02):
            if tick.progress == "0 done, 0 failed, 3 running":
                break
        row.cancel("enough of it")
        with pytest.raises(calloff.OperationCancelled, match="enough of it"):
            async for _, outcome in results:
                assert outcome.reason.kind == "parent"
                assert outcome.reason.text == "enough of it"
    assert not row.children


async def test_the_cancel_of_who_awaits_the_whole_is_its_own():
    """`asyncio.timeout` of Python 3.11 knows only that."""
    with pytest.raises(TimeoutError) as caught:
        async with asyncio.timeout(0.01):
            await calloff.map(waits, range(3), grace=0.2)
    assert type(caught.value) is TimeoutError
    assert type(caught.value.__context__) is asyncio.CancelledError  # from 3.11.3 on its cause, too
    assert not asyncio.current_task().cancelling()
    task = asyncio.ensure_future(calloff.map(waits, range(3), grace=0.2))
    await asyncio.sleep(0.01)
    task.cancel()
    with pytest.raises(asyncio.CancelledError) as called_off:
        await task
    assert type(called_off.value) is asyncio.CancelledError


async def test_the_caller_is_cancelled_while_it_awaits_the_whole():
    async def run():
        return await calloff.map(waits, itertools.count(), jobs=3)

    task = asyncio.create_task(run())
    await asyncio.sleep(0.02)
    task.cancel("away")
    with pytest.raises(asyncio.CancelledError):
        await task
    assert not running()


async def test_a_context_variable_of_one_item_is_not_seen_by_the_next():
    var: contextvars.ContextVar[Any] = contextvars.ContextVar("var", default=None)

    async def one(item):
        before = var.get()
        var.set(item)
        return before

    var.set("outer")
    assert {o.unwrap() for o in await calloff.map(one, range(30), jobs=2)} == {"outer"}


@pytest.mark.parametrize(
    ("arguments", "error", "text"),
    [
        ({"fn": time.sleep}, TypeError, "blocking function: say where it is to run"),
        ({"fn": 3}, TypeError, "fn must be a function"),
        ({"items": 3}, TypeError, "items must be an iterable"),
        ({"jobs": 0}, ValueError, "jobs must be 1 or more"),
        ({"jobs": 1.5}, TypeError, "jobs must be a whole number"),
        ({"timeout": -1}, ValueError, "timeout must be 0 or more"),
        ({"timeout": "3"}, TypeError, "timeout must be a number"),
        ({"grace": float("nan")}, ValueError, "grace"),
        ({"place": "thread"}, TypeError, "place must be calloff.thread"),
        ({"place": calloff.thread}, TypeError, "async function"),
        ({"place": calloff.command}, TypeError, "needs a line"),
        ({"fn": "gzip"}, TypeError, "place=calloff.command"),
        ({"fn": "", "place": calloff.command}, ValueError, "name of a program"),
        ({"batch": 0}, ValueError, "batch must be 1 or more"),
        ({"batch": "big"}, TypeError, "batch must be a whole number or 'auto'"),
        ({"max_failures": 1.5}, ValueError, "max_failures"),
        ({"max_failures": -1}, ValueError, "max_failures"),
        ({"max_failures": "3"}, TypeError, "max_failures"),
        ({"retry": 3}, TypeError, "retry must be a function"),
        ({"within": 3}, TypeError, "within must be a function"),
        ({"resume": True}, ValueError, "need an output"),
        ({"key": str}, ValueError, "need an output"),
        ({"output": "x", "resume": "all"}, ValueError, "resume must be"),
    ],
)
def test_wrong_arguments(arguments, error, text):
    arguments = {"fn": same, "items": [1]} | arguments
    with pytest.raises(error, match=text):
        calloff.map(arguments.pop("fn"), arguments.pop("items"), **arguments)


async def test_a_lambda_that_gives_nothing_to_await_fails_and_says_so():
    (outcome,) = await calloff.map(lambda item: item, [1])
    assert isinstance(outcome, Failed)
    assert "must be a coroutine" in str(outcome.error)
    (outcome,) = await calloff.map(lambda item: calloff.thread(str, item), [1])
    assert outcome.unwrap() == "1"


def test_memory_does_not_grow_with_the_number_of_items():
    import tracemalloc

    async def one(item):
        return None

    async def main():
        async with calloff.map(one, itertools.count(), jobs=50, timeout=30) as results:
            async for item, _ in results:
                if item == 3000:
                    tracemalloc.start()
                if item == 9000:
                    size, _ = tracemalloc.get_traced_memory()
                    tracemalloc.stop()
                    break
        return size

    assert calloff.run(main()) < 1_000_000


# --- for code that is not asynchronous


def test_a_plain_block():
    with calloff.map(same, range(50), jobs=5) as results:
        assert sorted((item, outcome.unwrap()) for item, outcome in results) == [(i, i) for i in range(50)]
    assert results.counts.completed == 50


def test_leaving_a_plain_block_stops_what_is_in_flight():
    ended = []

    async def one(item):
        try:
            await asyncio.sleep(3600 if item else 0)
        finally:
            ended.append(item)

    with pytest.raises(KeyError):
        with calloff.map(one, itertools.count(), jobs=5) as results:
            for _ in results:
                raise KeyError
    assert len(ended) >= 5
    assert not running()


async def test_a_plain_block_in_a_loop_is_refused():
    with pytest.raises(RuntimeError, match="async with"):
        with calloff.map(same, [1]):
            pass


CTRL_C = """
import itertools, time, calloff

def work(item):
    time.sleep(3600 if item % 5 == 0 else 0.001)
    return item

with calloff.map(work, itertools.count(1), jobs=4, place=calloff.process, grace=1) as results:
    try:
        for item, outcome in results:
            if item == 4:
                print("ready", flush=True)
    except KeyboardInterrupt:
        print("interrupted", flush=True)
        raise
"""


def test_a_question_that_ctrl_c_breaks_off_on_its_way_leaves_no_coroutine(monkeypatch):
    with warnings.catch_warnings(record=True) as warned, calloff.map(same, [1, 2, 3]) as results:
        pairs = iter(results)
        with monkeypatch.context() as broken:
            broken.setattr(asyncio.BaseEventLoop, "call_soon_threadsafe", interrupted)
            with pytest.raises(KeyboardInterrupt):
                next(pairs)
        assert sorted(item for item, _ in results) == [1, 2, 3]
    gc.collect()
    assert not warned


def interrupted(*_: Any, **__: Any) -> None:
    raise KeyboardInterrupt


def test_a_plain_block_whose_loop_breaks_asks_no_more(monkeypatch, caplog):
    async def breaks(self: Blocking) -> None:
        self._left = asyncio.Event()
        self._entered.set_result(asyncio.get_running_loop())
        while self._asked is None:
            await asyncio.sleep(0.001)
        raise ValueError("broken")

    async def never(self: Blocking) -> list[Any]:
        return await asyncio.get_running_loop().create_future()

    monkeypatch.setattr(Blocking, "_serve", breaks)
    monkeypatch.setattr(Blocking, "_some", never)
    with pytest.raises(ValueError, match="broken"), calloff.map(same, [1, 2, 3]) as results:
        assert list(results) == []
    monkeypatch.setattr(Blocking, "_ask", lambda self, asked: None)
    with pytest.raises(ValueError, match="broken"), calloff.map(same, [1, 2, 3]) as results:
        assert list(results) == [], "what nobody has heard is answered at the end of the thread"
    assert not caplog.records


def test_ctrl_c_in_a_plain_block(tmp_path):
    (tmp_path / "script.py").write_text(CTRL_C)
    command = [sys.executable, str(tmp_path / "script.py")]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    assert process.stdout.readline() == "ready\n"
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=30)
    assert out == "interrupted\n", (process.returncode, err)
    assert err.rstrip().endswith("KeyboardInterrupt")
    assert process.returncode == -signal.SIGINT


async def test_who_looks_for_a_result_again_and_again_is_forgotten():
    gate = asyncio.Event()

    async def waits(item):
        await gate.wait()
        return item

    async with calloff.map(waits, [1]) as results:
        for _ in range(20):
            with pytest.raises(TimeoutError):
                await asyncio.wait_for(anext(results), 0.001)
        assert not results._window._waiters
        gate.set()
        assert (await anext(results))[1].unwrap() == 1
