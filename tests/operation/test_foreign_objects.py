"""Objects of the program that fail wherever they are touched: no stop, no group and no list suffers from them."""

import asyncio
import logging
from typing import Any

import pytest

import calloff
from calloff._operation.snapshot import History
from calloff._words.text import in_words, plain, short, text_of

ERRORS = [ValueError, asyncio.CancelledError, SystemExit, KeyboardInterrupt, calloff.StopForced]


def hostile(error):
    def fail(self, *args):
        raise error("no text")

    return type("Hostile", (Exception,), {"__repr__": fail, "__str__": fail, "__eq__": fail, "__bool__": fail})


@pytest.fixture(params=ERRORS, ids=lambda kind: kind.__name__)
def Hostile(request):
    return hostile(request.param)


async def waits():
    await asyncio.sleep(3600)


def test_words_for_it(Hostile):
    assert short(Hostile()) == text_of(Hostile()) == "<Hostile>"
    assert plain(Hostile()) == "<Hostile>"
    assert plain([Hostile(), 1, {"a": Hostile()}]) == "[<Hostile>, 1, {'a': <Hostile>}]"
    assert in_words(Hostile()) == "Hostile"


def test_plain_data_of_a_program_never_runs_its_code():
    class Text(str):
        def __getitem__(self, part):
            raise AssertionError("run")

        __repr__ = __str__ = __getitem__  # type: ignore[assignment]  # they raise

    assert plain(Text("x")) == "<Text>"
    assert plain({"done": 3, "name": "x"}) == "{'done': 3, 'name': 'x'}"


async def test_a_value_whose_class_fails_wherever_it_is_touched():
    def fail(*args):
        raise KeyboardInterrupt

    kind = type("Kind", (type,), {"__hash__": fail, "__eq__": fail, "__instancecheck__": fail, "__repr__": fail})
    value = kind("Value", (), {})()
    assert await calloff.call(calloff.thread(lambda: value)) is value


async def test_a_group_whose_child_fails_with_it_stops_the_others(Hostile):
    async def fails():
        raise Hostile

    with pytest.raises(BaseExceptionGroup):
        async with calloff.group() as group:
            other = group.start(waits())
            await asyncio.sleep(0)
            group.start(fails())
    assert isinstance(await other.outcome(), calloff.Cancelled)


async def test_a_group_whose_block_fails_with_it_stops_its_children(Hostile):
    with pytest.raises(BaseExceptionGroup):
        async with calloff.group() as group:
            child = group.start(waits())
            await asyncio.sleep(0)
            raise Hostile
    assert isinstance(await child.outcome(), calloff.Cancelled)


async def test_an_operation_that_fails_with_it_ends_also_when_a_history_is_kept(Hostile):
    async def fails():
        calloff.progress(Hostile())
        raise Hostile

    kept = History(10)
    kept.open()
    try:
        operation = calloff.start(fails())
        outcome = await operation.outcome()
    finally:
        kept.close()
    assert isinstance(outcome, calloff.Failed)
    assert operation not in calloff.operations()
    (facts,) = kept.facts()
    assert (facts.error, facts.progress) == ("Hostile", "<Hostile>")


async def test_an_abandoned_one_that_returns_it_leaves_the_list(Hostile, short_last, caplog):
    release = asyncio.Event()

    async def refuses():
        while not release.is_set():
            try:
                await release.wait()
            except BaseException:
                pass
        return Hostile()

    operation = calloff.start(refuses())
    await asyncio.sleep(0)
    assert isinstance(await operation.stop(grace=0), calloff.Abandoned)
    release.set()
    while operation in calloff.operations():
        await asyncio.sleep(0)
    assert "ended: it returned <Hostile>" in caplog.text


async def test_a_reason_that_is_one(Hostile):
    class Reason(str):
        def __str__(self):
            raise ValueError

    operation = calloff.start(waits())
    await asyncio.sleep(0)
    assert operation.cancel(Reason("x"))
    outcome = await operation.outcome()
    assert outcome.reason.text == "<Reason>"
    task = asyncio.ensure_future(calloff.call(waits()))
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    task.cancel(Reason("x"))
    with pytest.raises(asyncio.CancelledError):
        await task


@pytest.mark.parametrize("name", [7, b"x", ["a"], object()], ids=["number", "bytes", "list", "object"])
def test_a_name_is_a_text(name):
    async def main():
        with pytest.raises(TypeError, match="name must be a text, not"):
            calloff.start(waits(), name=name)
        operation = calloff.start(waits(), name="first")
        with pytest.raises(TypeError, match="name must be a text"):
            operation.name = name
        operation.name = "GET /items"
        assert operation.name == operation.ref.name == "GET /items"
        await operation.stop()
        assert "GET /items" in str(operation)

    asyncio.run(main())


def test_a_long_name_is_cut():
    async def main():
        operation = calloff.start(waits(), name="x" * 1_000_000)
        assert len(operation.name) == 200
        assert operation.name.endswith("…")
        await operation.stop()

    asyncio.run(main())


def test_a_timer_that_fails_harms_no_other(caplog):
    """Of the three kinds of timer: that of limits, that of asking again, that of scopes."""
    from calloff._scopes.timers import timers_of

    class Bad:
        timer_at = -1.0
        timer_bucket = None

        def timer_due(self, now):
            raise ValueError("bad timer")

        def __repr__(self):
            raise ValueError("bad text")

    async def stubborn():
        while True:
            try:
                await asyncio.sleep(3600)
            except asyncio.CancelledError:
                pass

    async def main():
        timers = timers_of(asyncio.get_running_loop())
        timers.add(Bad(), timers.now() + 0.01)
        others = [calloff.start(stubborn(), grace=0.5) for _ in range(3)]
        await asyncio.sleep(0)
        stops = [asyncio.ensure_future(others[0].stop())]
        await asyncio.sleep(0)
        timers.insisting.add(Bad(), timers.now() + 0.01)  # between two that wait for the same pause
        stops += [asyncio.ensure_future(other.stop()) for other in others[1:]]
        outcomes = await asyncio.gather(*stops)
        assert {outcome.report.rung for outcome in outcomes} == {calloff.Rung.FORCED}
        assert all(outcome.report.refusals > 1 for outcome in outcomes)
        with pytest.raises(TimeoutError):
            async with calloff.timeout(0.01):
                await asyncio.sleep(3600)

    caplog.set_level(logging.ERROR)
    asyncio.run(main())
    assert caplog.text.count("bad timer") >= 2


def test_a_timer_that_is_always_due_leaves_the_loop_its_turns():
    """Such an entry waits for the next turn; the others, and the loop, go on."""
    from calloff._scopes.timers import timers_of

    class Always:
        timer_at = -1.0
        timer_bucket = None
        calls = 0

        def timer_due(self, now):
            self.calls += 1
            timers.add(self, now - 1)

    timers: Any = None

    async def main():
        nonlocal timers
        timers = timers_of(asyncio.get_running_loop())
        entry = Always()
        timers.add(entry, timers.now())
        with pytest.raises(TimeoutError):
            await calloff.call(waits(), timeout=0.02)
        assert entry.calls > 1
        timers.remove(entry)

    asyncio.run(main())


async def test_a_stall_that_passes_before_the_body_has_begun():
    """A command takes a while to be born; a thread that waits for its turn is not expected to get on."""
    command = calloff.start(calloff.command("sleep", "60"), stall=0.0)
    outcome = await command.outcome()
    assert outcome.reason.kind == "stalled"


async def test_a_callback_like_one_of_asyncio_with_nothing_in_its_closure(caplog):
    """Who looks for the call of an executor there can't tell; the body is asked all the same."""

    def outside(inner):
        def _outer_done_callback(_):
            return lambda: inner

        (cell,) = _outer_done_callback.__closure__ or ()
        del cell.cell_contents
        return _outer_done_callback

    async def body():
        future = asyncio.get_running_loop().create_future()
        future.add_done_callback(outside(None))
        await future

    op = calloff.start(body(), grace=20)
    await asyncio.sleep(0)
    outcome = await op.stop()
    assert isinstance(outcome, calloff.Cancelled)
    assert outcome.report.rung is calloff.Rung.ASKED
    assert "what 'body' waits for could not be found out" in caplog.text.replace(body.__qualname__, "body")


def _asks(self: Any) -> Any:
    return self.anything


class Unbound:
    """A proxy for something that is not there: whatever is asked of it raises."""

    def __getattribute__(self, name):
        raise RuntimeError("there is nothing behind it")

    __bool__ = __repr__ = __hash__ = _asks
    __eq__ = _asks  # type: ignore[assignment]  # whatever it takes, it raises


class Closed(Exception):
    """The same as an error."""

    def __getattribute__(self, name):
        raise RuntimeError("there is nothing behind it")

    __bool__ = __repr__ = __str__ = _asks


def returns(_=None):
    return Unbound()


def raises(_=None):
    raise Closed


async def returns_later(_=None):
    await asyncio.sleep(0)
    return Unbound()


async def raises_later(_=None):
    await asyncio.sleep(0)
    raise Closed


@pytest.mark.parametrize("place", ["task", "thread"])
async def test_one_that_returns_or_raises_an_object_without_a_class_has_ended(place):
    for function, kind in ((returns, calloff.Completed), (raises, calloff.Failed)):
        later = returns_later if function is returns else raises_later
        operation = calloff.start(calloff.thread(function) if place == "thread" else later())
        outcome = await asyncio.wait_for(operation.outcome(), 20)
        assert type(outcome) is kind
        assert operation not in calloff.operations()
    assert await calloff.call(calloff.thread(abs, -1)) == 1  # the threads are alive


@pytest.mark.parametrize("place", [None, calloff.thread], ids=["task", "thread"])
async def test_a_map_over_such_objects_ends(place, tmp_path):
    for number, (blocking, later) in enumerate(((returns, returns_later), (raises, raises_later))):
        function = later if place is None else blocking
        for output in (None, tmp_path / f"{number}.jsonl"):
            kind = calloff.Failed if number else calloff.Completed
            async with asyncio.timeout(20):
                outcomes = await calloff.map(function, range(3), place=place, output=output)
            assert [type(outcome) for outcome in outcomes] == [kind] * 3


@pytest.mark.parametrize("make", [calloff.group, calloff.TaskGroup])
async def test_such_an_error_of_a_child_stops_the_others(make):
    with pytest.raises(BaseExceptionGroup):
        async with make() as group:
            start = group.start if make is calloff.group else group.create_task
            other = start(waits())
            await asyncio.sleep(0)
            start(raises_later())
    assert other.cancelled()


async def test_such_an_error_in_a_block_with_a_limit_leaves_it():
    for scope in (calloff.timeout(60), calloff.move_on_after(60), calloff.CancelScope()):
        try:
            with scope:
                raise Closed
        except BaseException as error:
            assert type(error) is Closed
    task = asyncio.current_task()
    assert task is not None
    assert task.cancelling() == 0
