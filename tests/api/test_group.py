"""`group`: operations that end together."""

import asyncio
import contextlib
import gc
import pickle
import sys
import weakref
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

import calloff


class Mine(Exception):
    pass


async def value(result, turns=1):
    for _ in range(turns):
        await asyncio.sleep(0)
    return result


async def fails(error=None, turns=1):
    for _ in range(turns):
        await asyncio.sleep(0)
    raise error or Mine("mine")


async def waits():
    await asyncio.sleep(3600)


def complaints_of_the_loop():
    complaints: list[str] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: complaints.append(context["message"]))
    return complaints


async def cleans_up_badly():
    try:
        await waits()
    finally:
        raise Mine("the clean-up failed")


async def test_it_is_left_when_all_have_ended():
    async with calloff.group() as g:
        first = g.start(value(1))
        second = g.start(value(2, turns=20), name="second")
        assert g.operations == (first, second)
        assert second.name == "second"
    assert (first.result(), second.result()) == (1, 2)
    async with calloff.group():
        pass


async def test_a_failure_stops_the_others():
    with pytest.raises(ExceptionGroup) as caught:
        async with calloff.group() as g:
            waiting = [g.start(waits()) for _ in range(3)]
            g.start(fails(), name="broken")
            await asyncio.sleep(3600)
    assert [type(error) for error in caught.value.exceptions] == [Mine]
    for op in waiting:
        outcome = await op.outcome()
        assert isinstance(outcome, calloff.Cancelled)
        assert outcome.reason.kind == "sibling"
        assert outcome.reason.text == "'broken' failed: Mine('mine')"
        assert "'broken'" in (outcome.reason.by or "")
    assert asyncio.current_task().cancelling() == 0


async def test_all_failures_are_in_the_group_of_errors():
    async def fails_in_clean_up():
        try:
            await waits()
        finally:
            raise ValueError("clean-up")

    with pytest.raises(ExceptionGroup) as caught:
        async with calloff.group() as g:
            g.start(fails_in_clean_up())
            await asyncio.sleep(0)
            g.start(fails())
    assert sorted(type(error).__name__ for error in caught.value.exceptions) == ["Mine", "ValueError"]


async def test_an_error_of_the_body_stops_the_children_and_is_first():
    with pytest.raises(ExceptionGroup) as caught:
        async with calloff.group() as g:
            op = g.start(waits())
            raise Mine("body")
    assert [str(error) for error in caught.value.exceptions] == ["body"]
    assert op.cancelled()
    assert "the body of the group raised Mine('body')" in op.reason.text


@pytest.mark.parametrize("error", [KeyboardInterrupt, SystemExit, calloff.StopForced])
def test_more_than_an_error_goes_through_as_it_is(error):
    async def main():
        ops = []
        try:
            async with calloff.group() as g:
                ops.append(g.start(waits()))
                raise error
        finally:
            assert ops[0].done()

    with pytest.raises(error):
        asyncio.run(main())


async def test_a_cancelled_child_is_no_failure():
    async with calloff.group() as g:
        op = g.start(waits())
        other = g.start(value(2, turns=5))
        await asyncio.sleep(0)
        op.cancel()
    assert op.cancelled()
    assert other.result() == 2


async def test_a_child_that_times_out_by_itself_is_a_failure():
    with pytest.raises(ExceptionGroup) as caught:
        async with calloff.group() as g:
            g.start(waits(), timeout=0.01)
    assert isinstance(caught.value.exceptions[0], calloff.TimedOut)


# --- collect


async def test_collecting_failures_stops_nobody():
    async with calloff.group(on_error="collect") as g:
        bad = g.start(fails())
        good = g.start(value(2, turns=10))
    assert isinstance((await bad.outcome()).error, Mine)
    assert good.result() == 2


async def test_collecting_an_error_of_the_body_is_raised_as_it_is():
    with pytest.raises(Mine):
        async with calloff.group(on_error="collect") as g:
            op = g.start(waits())
            raise Mine
    assert op.cancelled()


@pytest.mark.parametrize("bad", ["ignore", "", None, True])
def test_an_unknown_on_error(bad):
    with pytest.raises(ValueError, match="^on_error must be 'cancel' or 'collect', not"):
        calloff.group(on_error=bad)


# --- called off


async def test_called_off_by_hand_it_is_left_without_an_error():
    async with calloff.group() as g:
        op = g.start(waits())
        asyncio.get_running_loop().call_soon(g.cancel, "enough")
        await asyncio.sleep(3600)
        raise AssertionError("went on")
    assert op.cancelled()
    assert (op.reason.kind, op.reason.text) == ("requested", "enough")
    assert asyncio.current_task().cancelling() == 0


async def test_called_off_from_another_thread():
    asyncio.get_running_loop().set_debug(True)  # it complains of what only its own thread may do
    async with calloff.group() as g:
        op = g.start(waits())
        with ThreadPoolExecutor(1) as pool:
            pool.submit(g.cancel, "enough").result(30)
        await asyncio.sleep(3600)
        raise AssertionError("went on")
    assert (op.reason.kind, op.reason.text) == ("requested", "enough")


def test_called_off_when_its_loop_is_closed():
    async def main():
        async with calloff.group() as g:
            return g

    asyncio.run(main()).cancel()


async def test_called_off_by_its_own_body_which_goes_on_or_leaves():
    for leaves in (True, False):
        went_on = False
        async with calloff.group() as g:
            op = g.start(waits())
            g.cancel("enough")
            if not leaves:
                await asyncio.sleep(3600)
                went_on = True
        assert op.cancelled()
        assert not went_on
        assert asyncio.current_task().cancelling() == 0
        for _ in range(3):
            await asyncio.sleep(0)  # nothing is left to arrive


async def test_called_off_in_the_clean_up_of_a_cancelled_task():
    """The group's own request is taken back, nobody else's, and nothing arrives later."""
    counts = []

    async def host():
        try:
            await asyncio.sleep(3600)
        finally:
            async with calloff.group() as g:
                g.start(waits())
                g.cancel("enough")
            counts.append(asyncio.current_task().cancelling())
            for _ in range(3):
                await asyncio.sleep(0)
            counts.append("quiet")

    task = asyncio.create_task(host())
    await asyncio.sleep(0)
    task.cancel("mine")
    with pytest.raises(asyncio.CancelledError, match="mine"):
        await task
    assert counts == [1, "quiet"]


async def test_called_off_from_an_eager_child():
    async with calloff.group() as g:

        async def child():
            g.cancel("by a child")
            await asyncio.sleep(3600)

        g.start(child())
    for _ in range(3):
        await asyncio.sleep(0)
    assert asyncio.current_task().cancelling() == 0


async def test_called_off_while_it_waits_for_its_children():
    async with calloff.group() as g:
        op = g.start(waits())
        asyncio.get_running_loop().call_later(0.01, g.cancel)
    assert op.cancelled()


@pytest.mark.usefixtures("begins_first")
async def test_its_deadline_stops_everything_and_is_told():
    async def body():
        async with calloff.group(timeout=0.02) as g:
            ops.append(g.start(waits()))
            await asyncio.sleep(3600)

    ops: list[Any] = []
    op = calloff.start(body(), name="host")
    told = r"^the group did not end within 0.02 s, as 'waits' still ran: at waits \(.*test_group.py:\d+\): await .*$"
    with pytest.raises(calloff.TimedOut, match=told) as caught:
        await op
    assert caught.value.where[0].function == "waits"
    assert caught.value.operation == op.ref
    assert caught.value.reason.kind == "deadline"
    assert ops[0].reason.kind == "deadline"
    assert isinstance(ops[0].exception(), calloff.TimedOut)


@pytest.mark.usefixtures("begins_first")
async def test_its_deadline_tells_where_the_block_was_when_nothing_else_ran():
    with pytest.raises(calloff.TimedOut, match=r"^the group did not end within 0.02 s: at test_its_dead.*: await "):
        async with calloff.group(timeout=0.02):
            await asyncio.sleep(3600)


@pytest.mark.usefixtures("begins_first")
async def test_its_deadline_names_the_child_that_could_not_be_stopped():
    async def refuses():
        while not over:
            with contextlib.suppress(BaseException):
                await asyncio.sleep(3600)

    over: list[Any] = []
    with pytest.raises(calloff.TimedOut) as caught:
        async with calloff.group(timeout=0.02, grace=0.02) as g:
            g.start(waits())
            op = g.start(refuses())
    assert str(caught.value).startswith(
        "the group did not end within 0.02 s, as 'refuses' and 1 more still ran, and 'refuses' could not be stopped: "
        "at refuses ("
    )
    assert str(pickle.loads(pickle.dumps(caught.value))) == str(caught.value)
    over.append(1)
    assert op.body is not None
    op.body.task.cancel()


@pytest.mark.usefixtures("begins_first")
async def test_its_deadline_tells_where_one_is_that_cleans_up_since_longer():
    cleans = asyncio.Event()

    async def job():
        try:
            await waits()
        finally:
            cleans.set()
            await asyncio.sleep(3600)

    with pytest.raises(calloff.TimedOut, match=r"as 'job' still ran: at job \(.*\): await asyncio.sleep\(3600\)$"):
        async with calloff.group(timeout=0.05, grace=60) as g:
            op = g.start(job())
            await asyncio.sleep(0)
            op.cancel()
            await cleans.wait()
            asyncio.get_running_loop().call_later(0.1, lambda: op.cancel(grace=0))


@pytest.mark.usefixtures("begins_first")
async def test_its_deadline_names_none_that_waits_for_its_turn():
    with pytest.raises(
        calloff.TimedOut, match=r"^the group did not end within 0.02 s, as 'waits' still ran: at waits "
    ):
        async with calloff.group(timeout=0.02, jobs=1) as g:
            g.start(waits())
            g.start(waits())


@pytest.mark.usefixtures("begins_first")
async def test_the_deadline_of_a_race_names_a_contender():
    with pytest.raises(
        calloff.TimedOut, match=r"^the race did not end within 0.02 s, as 'waits' and 1 more still ran: "
    ):
        await calloff.race(waits(), waits(), timeout=0.02)


async def test_a_deadline_with_failures_tells_both():
    async def fails_when_stopped():
        try:
            await waits()
        except asyncio.CancelledError:
            raise Mine from None

    with pytest.raises(calloff.TimedOut) as caught:
        async with calloff.group(timeout=0.5) as g:  # within which it surely begins, on a busy uvloop, too
            g.start(fails_when_stopped())
    assert isinstance(caught.value.__cause__, ExceptionGroup)
    assert isinstance(caught.value.__cause__.exceptions[0], Mine)


async def test_a_cancel_of_the_host_with_failures_raises_the_cancel():
    async def fails_when_stopped():
        try:
            await waits()
        except asyncio.CancelledError:
            raise Mine from None

    async def host():
        async with calloff.group() as g:
            g.start(fails_when_stopped())

    task = asyncio.create_task(host())
    for _ in range(3):
        await asyncio.sleep(0)
    task.cancel("home time")
    with pytest.raises(asyncio.CancelledError, match="home time") as caught:
        await task
    assert isinstance(caught.value.__cause__, ExceptionGroup)


async def test_what_has_failed_in_it_is_raised_where_a_scope_swallows_the_cancel():
    cleaning = asyncio.Event()

    async def cleans_up():
        try:
            await waits()
        finally:
            cleaning.set()
            await value(1, turns=5)

    with pytest.raises(ExceptionGroup) as caught:
        with calloff.CancelScope() as scope:
            async with calloff.group() as g:
                g.start(cleans_up())
                g.start(fails(turns=2))
                try:
                    await waits()
                finally:
                    await cleaning.wait()
                    scope.cancel()
    assert scope.cancelled_caught
    assert [type(error) for error in caught.value.exceptions] == [Mine]
    assert asyncio.current_task().cancelling() == 0


async def test_a_limit_that_strikes_in_the_clean_up_of_a_child_is_a_failure():
    begun = asyncio.Event()

    async def cleans_up():
        begun.set()
        try:
            await waits()
        finally:
            async with calloff.timeout(0):
                await waits()

    with pytest.raises(ExceptionGroup) as caught:
        async with calloff.group() as g:
            g.start(cleans_up())
            await begun.wait()
            g.cancel()
    assert [type(error) for error in caught.value.exceptions] == [calloff.TimedOut]


async def test_the_limit_of_a_child_that_passes_while_the_group_is_stopped_is_none():
    limited, called_off = asyncio.Event(), asyncio.Event()

    async def holds_on():
        try:
            await waits()
        finally:
            limited.set()
            await called_off.wait()

    async with calloff.group() as g:
        child = g.start(holds_on(), timeout=0.05, grace=60)
        await limited.wait()
        g.cancel()
        called_off.set()
    assert isinstance(await child.outcome(), calloff.Cancelled)


async def test_collected_failures_are_not_raised_by_a_cancel_of_the_group():
    async def rolls_back():
        asyncio.get_running_loop().call_soon(g.cancel)
        try:
            await waits()
        finally:
            raise Mine("the rollback failed")

    async with calloff.group(on_error="collect") as g:
        op = g.start(rolls_back())
        await op
    assert isinstance(op.exception(), Mine)


@pytest.mark.parametrize("timeout", [None, 50])
async def test_one_that_is_called_off_before_it_is_entered(timeout):
    group = calloff.group(timeout=timeout)
    group.cancel("too late")
    async with group as g:
        op = g.start(value(1))
        await waits()
    assert op.cancelled()
    assert asyncio.current_task().cancelling() == 0
    assert g.timer_at == -1.0


async def test_one_that_another_thread_calls_off_while_it_is_entered_is_called_off(monkeypatch):
    """The thread has seen that it was not entered, and the entry that it was not called off."""
    group = calloff.group()
    entered = type(group).__aenter__

    class Slow:
        """What is no host when it is first looked at."""

        looks = 0

        def __get__(self, owner, kind):
            self.looks += 1
            return None if self.looks == 1 else owner.__dict__["_host"]

        def __set__(self, owner, host):
            owner.__dict__["_host"] = host

    await entered(group)
    op = group.start(waits())
    monkeypatch.setattr(type(group), "_host", Slow(), raising=False)
    with pytest.raises(asyncio.CancelledError):
        await asyncio.to_thread(group.cancel)
        await waits()
    await group.__aexit__(asyncio.CancelledError, asyncio.CancelledError(), None)
    assert op.cancelled()
    assert asyncio.current_task().cancelling() == 0


def test_one_is_called_off_without_a_loop():
    group = calloff.group()
    group.cancel()

    async def main():
        async with group:
            await waits()

    asyncio.run(main())


async def test_an_ended_group_has_dropped_its_timer():
    async with calloff.group(timeout=0.02) as g:
        pass
    assert g.timer_at == -1.0
    await asyncio.sleep(0.04)
    assert asyncio.current_task().cancelling() == 0


# --- starting in it


async def test_the_childrens_grace_is_the_groups_unless_they_have_their_own():
    async def cleans_up_for_ever():
        try:
            await waits()
        finally:
            await waits()

    went_on = []

    def first_ended(_):
        went_on.append(not second.done())
        second.cancel(grace=0.1)

    async with calloff.group(grace=0.02) as g:
        first = g.start(cleans_up_for_ever())
        second = g.start(cleans_up_for_ever(), grace=30)
        await asyncio.sleep(0)
        first.add_done_callback(first_ended)
        g.cancel()
    assert went_on == [True]
    assert first.report.seconds >= 0.02 - 0.003
    assert second.report.seconds >= 0.1 - 0.003


@pytest.mark.parametrize("when", ["before", "stopping", "after"])
async def test_nothing_can_be_started_outside_its_time(when, recwarn):
    g = calloff.group()
    match when:
        case "before":
            with pytest.raises(RuntimeError, match="^the group was not entered: nothing can be started"):
                g.start(value(1))
        case "stopping":
            async with g:
                g.cancel()
                with pytest.raises(RuntimeError, match="^the group is over"):
                    g.start(value(1))
        case "after":
            async with g:
                pass
            with pytest.raises(RuntimeError, match="^the group is over"):
                g.start(value(1))
    assert g.operations == ()
    gc.collect()
    assert not [warning for warning in recwarn if "never awaited" in str(warning.message)]


async def test_children_may_start_siblings_while_it_waits():
    started = []
    async with calloff.group() as g:

        async def breeds(depth):
            await asyncio.sleep(0)
            if depth:
                started.append(g.start(breeds(depth - 1)))

        started.append(g.start(breeds(5)))
    assert len(started) == 6
    assert all(op.done() for op in started)


@pytest.mark.parametrize("on_error", ["cancel", "collect"])
async def test_a_group_that_nobody_leaves_holds_nothing_that_has_ended(on_error):
    async with calloff.group(on_error=on_error) as g:
        waiting = g.start(waits())
        ended = []
        for _ in range(20):
            op = g.start(value(1))
            await op
            ended.append(weakref.ref(op))
        del op
        await asyncio.sleep(0)
        gc.collect()
        assert [op() for op in ended] == [None] * 20
        assert g.operations == (waiting,)
        g.cancel()


@pytest.mark.parametrize("is_read", [True, False])
async def test_python_complains_of_a_collected_failure_that_nobody_reads(is_read):
    complaints = complaints_of_the_loop()
    async with calloff.group(on_error="collect") as g:
        op = g.start(fails())
    if is_read:
        assert isinstance(await op.outcome(), calloff.Failed)
    del op
    await value(None, turns=3)  # the loop lets go of it, too
    gc.collect()
    assert complaints == ([] if is_read else ["Operation exception was never retrieved"])


@pytest.mark.parametrize("wins", [True, False])
async def test_nobody_complains_of_contenders_that_failed(wins):
    complaints = complaints_of_the_loop()
    if wins:
        assert await calloff.race(fails(), value(1, turns=20)) == 1
    else:
        with pytest.raises(calloff.TimedOut):
            await calloff.race(fails(), cleans_up_badly(), timeout=0.01)
    await value(None, turns=3)  # the loop lets go of it, too
    gc.collect()
    assert complaints == []


async def test_nobody_complains_of_what_the_deadline_of_a_group_has_ended():
    complaints = complaints_of_the_loop()
    with pytest.raises(calloff.TimedOut):
        async with calloff.group(on_error="collect", timeout=0.01) as g:
            g.start(waits())
            g.start(waits(), timeout=0.005)
    await value(None, turns=3)  # the loop lets go of it, too
    gc.collect()
    assert complaints == []


@pytest.mark.parametrize("order", ["one starts the next", "the first ends last"])
async def test_what_has_ended_is_not_gone_through_again(order):
    """Counted are the questions whether one has ended."""
    many, asked, begun = 300, 0, 0

    def count(frame: Any, event: str, what: Any) -> None:
        nonlocal asked
        asked += event == "c_call" and getattr(what, "__name__", "") == "done"

    sys.setprofile(count)
    try:
        async with calloff.group() as g:

            async def breeds(depth):
                nonlocal begun
                begun += 1
                await asyncio.sleep(0)
                if depth:
                    g.start(breeds(depth - 1))

            if order == "one starts the next":
                g.start(breeds(many - 1))
            else:
                for turns in range(many, 0, -1):
                    g.start(value(turns, turns))
    finally:
        sys.setprofile(None)
    assert begun == (many if order == "one starts the next" else 0)
    assert asked < 20 * many


async def test_it_is_entered_once():
    async with calloff.group() as g:
        pass
    with pytest.raises(RuntimeError, match="^a group can be entered only once$"):
        async with g:
            pass


def test_it_is_entered_inside_a_task():
    with pytest.raises(RuntimeError, match=r"inside a task|no running event loop"):
        calloff.group().__aenter__().send(None)


async def test_groups_in_groups():
    ops = []
    with pytest.raises(ExceptionGroup) as caught:
        async with calloff.group() as outer:
            ops.append(outer.start(waits()))
            async with calloff.group() as inner:
                ops.append(inner.start(waits()))
                inner.start(fails())
    assert caught.group_contains(Mine, depth=2)
    assert all(op.cancelled() for op in ops)
    assert asyncio.current_task().cancelling() == 0


async def test_no_error_is_left_unretrieved():
    told = []
    asyncio.get_running_loop().set_exception_handler(lambda loop, context: told.append(context))
    with pytest.raises(ExceptionGroup):
        async with calloff.group() as g:
            g.start(fails())
            g.start(fails())
    with pytest.raises(calloff.TimedOut):
        async with calloff.group(timeout=0.01) as g:
            g.start(waits())
    async with calloff.group(on_error="collect") as g:
        g.start(fails())
    del g
    gc.collect()
    assert told == []
