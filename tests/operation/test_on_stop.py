"""`on_stop`: what a block has said about how it is asked is done, once, in time, and never late."""

import asyncio
import functools
import logging
import random
import socket
import threading
import time

import places.process_bodies as bodies
import pytest

import calloff
from calloff._operation.asking import Hook, handed


@pytest.fixture(autouse=True)
def nothing_is_left():
    yield
    assert not handed


class Plug:
    """Something of another program: whoever waits there hears of no exception, only of `pull`."""

    def __init__(self):
        self.waiting = threading.Event()
        self.pulled = threading.Event()
        self.calls = []

    def pull(self):
        self.calls.append(threading.current_thread())
        self.pulled.set()

    def wait(self):
        self.waiting.set()
        assert self.pulled.wait(30)
        raise ConnectionError("pulled")


async def until(event, *more):
    """Wait for events of threads."""
    for one in (event, *more):
        assert await asyncio.to_thread(one.wait, 30)


async def test_a_thread_that_waits_for_another_program_is_stopped():
    plug = Plug()

    def work():
        with calloff.on_stop(plug.pull):
            plug.wait()

    op = calloff.start(calloff.thread(work), grace=20)
    await until(plug.waiting)
    outcome = await op.stop("not needed")
    assert isinstance(outcome, calloff.Cancelled)
    assert outcome.report.rung is calloff.Rung.ASKED
    assert outcome.report.helped == ("Plug.pull",)
    assert "helped by Plug.pull" in str(outcome)
    assert len(plug.calls) == 1
    assert plug.calls[0] is not threading.main_thread()


@pytest.mark.parametrize("how", ["ask a function", "ask a task"])
async def test_a_coroutine_leaves_its_block_when_what_asks_has_ended(how):
    told: list[object] = []
    go, waiting = asyncio.Event(), asyncio.Event()
    loop = asyncio.get_running_loop()
    gone = threading.Event()

    async def tell():
        told.append(calloff.current())
        loop.call_soon(go.set)
        await asyncio.sleep(0)
        await go.wait()
        told.append("asked")

    def tell_in_a_thread():
        told.append(calloff.current())
        loop.call_soon_threadsafe(go.set)
        assert gone.wait(30)
        told.append("asked")

    async def work():
        try:
            async with calloff.on_stop(tell if how == "ask a task" else tell_in_a_thread):
                waiting.set()
                await asyncio.sleep(60)
        finally:
            told.append("left")

    op = calloff.start(work(), grace=20)
    await waiting.wait()
    op.cancel()
    await go.wait()
    for _ in range(5):
        await asyncio.sleep(0)
    if how == "ask a function":
        assert told == [None]
        gone.set()
    outcome = await op.outcome()
    assert isinstance(outcome, calloff.Cancelled)
    assert outcome.report.refusals == 0
    assert told == [None, "asked", "left"]


async def test_a_plain_with_in_a_coroutine():
    told = []
    waiting = asyncio.Event()

    async def tell_by_a_task():
        told.append("task")

    async def work():
        with calloff.on_stop(lambda: told.append("thread")), calloff.on_stop(tell_by_a_task):
            waiting.set()
            await asyncio.sleep(60)

    op = calloff.start(work(), grace=20)
    await waiting.wait()
    assert isinstance(await op.stop(), calloff.Cancelled)
    while len(told) < 2:
        await asyncio.sleep(0.001)
    assert sorted(told) == ["task", "thread"]


async def test_an_async_function_asks_for_a_thread_on_the_loop():
    plug = Plug()
    loop = asyncio.get_running_loop()

    async def pull():
        assert asyncio.get_running_loop() is loop
        plug.pull()

    def work(ask):
        with calloff.on_stop(ask):
            plug.wait()

    for ask in (pull, functools.partial(pull), lambda: pull()):
        plug.waiting.clear()
        plug.pulled.clear()
        op = calloff.start(calloff.thread(work, ask), grace=20)
        await until(plug.waiting)
        assert isinstance(await op.stop(), calloff.Cancelled)


async def test_the_innermost_is_asked_first_and_one_that_hangs_keeps_no_other_up(patient):
    order, plug, never = [], Plug(), threading.Event()

    def hang():
        order.append("innermost")
        never.wait(90)

    def work():
        with calloff.on_stop(plug.pull), calloff.on_stop(lambda: order.append("middle")), calloff.on_stop(hang):
            plug.wait()

    op = calloff.start(calloff.thread(work), grace=60)
    await until(plug.waiting)
    op.cancel()
    await until(plug.pulled)  # though the innermost hangs
    while len(order) < 2:
        await asyncio.sleep(0.001)
    outcome = await op.stop(grace=0)
    never.set()
    assert sorted(order) == ["innermost", "middle"]
    assert outcome.report.helped == ("hang", "<lambda>", "Plug.pull"), "in this order they were asked"
    assert isinstance(outcome, calloff.Cancelled)


async def test_what_asks_runs_once_however_often_the_stop_is_asked_for():
    plug, waits, calls = Plug(), threading.Event(), []

    def work():
        with calloff.on_stop(lambda: calls.append(1)):
            plug.waiting.set()
            assert waits.wait(30)

    op = calloff.start(calloff.thread(work), grace=20)
    await until(plug.waiting)
    for _ in range(3):
        op.cancel()
    op.cancel(grace=10)
    while not calls:
        await asyncio.sleep(0.001)
    waits.set()
    assert isinstance(await op.outcome(), calloff.Completed)
    assert calls == [1]


async def test_a_block_that_is_entered_after_the_request_is_asked_at_once():
    plug, started, go = Plug(), threading.Event(), threading.Event()

    def work():
        started.set()
        assert go.wait(30)
        with calloff.on_stop(plug.pull):
            plug.wait()

    op = calloff.start(calloff.thread(work), grace=20)
    await until(started)
    op.cancel()
    go.set()
    outcome = await op.outcome()
    assert isinstance(outcome, calloff.Cancelled)
    assert outcome.report.helped == ("Plug.pull",)


async def test_clean_up_is_not_asked_again_and_keeps_its_own_errors():
    calls = []

    def work():
        try:
            while True:
                calloff.checkpoint(0.01)
        finally:
            with calloff.on_stop(lambda: calls.append(1)):
                raise ValueError("the rollback failed")

    for _ in range(10):
        op = calloff.start(calloff.thread(work), grace=20)
        await asyncio.sleep(0)
        outcome = await op.stop()
        assert isinstance(outcome, calloff.Failed) or not outcome.report.started
        assert calls == []


async def test_an_error_of_the_block_after_it_was_asked_counts_as_obeying():
    plug, seen = Plug(), []

    def work():
        try:
            with calloff.on_stop(plug.pull):
                plug.wait()
        except BaseException as error:
            seen.append(error)
            raise

    op = calloff.start(calloff.thread(work), timeout=0.1, grace=20)
    with pytest.raises(calloff.TimedOut):
        await op
    assert isinstance(seen[0], asyncio.CancelledError)
    assert isinstance(seen[0].__context__, ConnectionError)
    assert op.report.refusals == 0


async def test_without_a_stop_the_errors_and_values_of_a_block_are_its_own():
    def work(value):
        with calloff.on_stop(lambda: None, force=lambda: None):
            return 1 / value

    assert await calloff.call(calloff.thread(work, 2)) == 0.5
    with pytest.raises(ZeroDivisionError):
        await calloff.call(calloff.thread(work, 0))


async def test_force_runs_at_the_end_of_the_grace(patient):
    plug = Plug()

    def work():
        with calloff.on_stop(lambda: None, force=plug.pull):
            plug.wait()

    op = calloff.start(calloff.thread(work), grace=30)
    await until(plug.waiting)
    op.cancel()
    await asyncio.sleep(0.05)
    assert not plug.calls
    op.cancel(grace=0)
    outcome = await op.outcome()
    assert isinstance(outcome, calloff.Cancelled)
    assert len(plug.calls) == 1


@pytest.mark.parametrize("place", ["thread", "task"])
async def test_what_asks_and_hangs_is_named_and_delays_nothing(caplog, place, patient):
    never, waiting, hangs = threading.Event(), threading.Event(), threading.Event()

    def hang():
        hangs.set()
        never.wait(120)  # longer than `patient` is: who waits for it is abandoned

    async def hang_too():
        await asyncio.sleep(60)

    def work():
        with calloff.on_stop(hang):
            waiting.set()
            while True:
                calloff.checkpoint(0.01)

    async def work_too():
        async with calloff.on_stop(hang), calloff.on_stop(hang_too):
            waiting.set()
            await asyncio.sleep(60)

    with caplog.at_level(logging.WARNING, "calloff"):
        op = calloff.start(calloff.thread(work) if place == "thread" else work_too(), grace=60)
        await until(waiting)
        op.cancel()
        await until(hangs)
        outcome = await op.stop(grace=0)
        never.set()
        assert isinstance(outcome, calloff.Cancelled)
    assert "hang, which is to ask it to stop, has not come to its end" in caplog.text


async def test_a_block_that_is_left_waits_for_what_is_about_to_begin(monkeypatch):
    """Between the taking of the ticket and the first step of what asks, another thread may have its turn."""
    order = []
    take = Hook.take
    loops_thread = threading.current_thread()

    def slowly(hook):
        taken = take(hook)
        if taken and threading.current_thread() is loops_thread:
            time.sleep(0.1)
        return taken

    monkeypatch.setattr(Hook, "take", slowly)
    waiting = threading.Event()

    def work():
        with calloff.on_stop(lambda: order.append("asked")):
            waiting.set()
            while True:
                calloff.checkpoint(0.001)
                time.sleep(0.001)

    def and_then():
        try:
            work()
        finally:
            order.append("left")

    op = calloff.start(calloff.thread(and_then), grace=30)
    await until(waiting)
    assert isinstance(await op.stop(), calloff.Cancelled)
    assert order == ["asked", "left"]


@pytest.mark.parametrize("error", [ValueError, SystemExit, asyncio.CancelledError])
async def test_what_asks_and_raises_is_named_and_harms_nothing(caplog, error):
    plug = Plug()

    def fail():
        raise error("in the hook")

    async def fail_too():
        raise error("in the task")

    def work():
        with calloff.on_stop(plug.pull), calloff.on_stop(fail), calloff.on_stop(fail_too):
            plug.wait()

    if error is SystemExit:
        fail_too = fail  # what a task raises then is asyncio's to pass on
    with caplog.at_level(logging.WARNING, "calloff"):
        op = calloff.start(calloff.thread(work), grace=20)
        await until(plug.waiting)
        assert isinstance(await op.stop(), calloff.Cancelled)
    assert "fail, which is to ask it to stop, failed" in caplog.text


async def test_a_block_that_a_scope_calls_off_is_asked_as_it_is_left():
    told = []

    async def tell():
        await asyncio.sleep(0)
        told.append("task")

    async def work():
        async with calloff.move_on_after(0.01):
            async with calloff.on_stop(lambda: told.append("thread")), calloff.on_stop(tell):
                await asyncio.sleep(60)
        return "went on"

    assert await calloff.call(work()) == "went on"
    assert told == ["task", "thread"]


async def test_a_cancel_that_comes_while_the_block_is_left_is_not_lost():
    asked, go, left = asyncio.Event(), asyncio.Event(), []

    async def tell():
        asked.set()
        await go.wait()

    async def work():
        async with calloff.on_stop(tell):
            calloff.current().cancel()
        left.append(1)

    op = calloff.start(work(), grace=20)
    await asked.wait()
    for _ in range(3):
        await asyncio.sleep(0)
    assert not op.done()
    go.set()
    assert isinstance(await op.outcome(), calloff.Cancelled)
    assert left == []


def test_outside_any_operation_nothing_is_asked():
    calls = []

    async def main():
        async with calloff.on_stop(lambda: calls.append(1)):
            await asyncio.sleep(0)
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.01):
                async with calloff.on_stop(lambda: calls.append(1)):
                    await asyncio.sleep(30)

    asyncio.run(main())
    with calloff.on_stop(lambda: calls.append(1)):
        pass
    assert calls == []


async def test_bad_arguments():
    async def tell():
        pass

    with pytest.raises(TypeError, match="ask of on_stop"):
        calloff.on_stop(None)  # type: ignore[arg-type]  # on purpose
    with pytest.raises(TypeError, match="without calling it"):
        calloff.on_stop(tell())  # type: ignore[arg-type]  # on purpose
    with pytest.raises(TypeError, match="force of on_stop"):
        calloff.on_stop(tell, force=3)  # type: ignore[arg-type]  # on purpose

    async def main():
        block = calloff.on_stop(tell)
        with block:
            pass
        with block:  # again, not at the same time
            with pytest.raises(RuntimeError, match="is in use"):
                block.__enter__()

    await calloff.call(main())


async def test_the_blocks_of_a_process_are_asked_also_while_its_main_thread_is_in_c():
    for work in (bodies.wait_in_c, bodies.wait_in_c_in_a_thread):
        for _ in range(2):  # a worker takes the next job as if nothing had been
            op = calloff.start(calloff.process(work), grace=30)
            while op.progress != "waiting":
                await asyncio.sleep(0.005)
            outcome = await op.stop("not needed")
            assert isinstance(outcome, calloff.Cancelled), outcome
            assert outcome.report.rung is calloff.Rung.ASKED
            assert outcome.report.helped == ("Wire.cut",)
            assert await calloff.call(calloff.process(bodies.add, 1, 2)) == 3


async def test_a_process_leaves_its_block_when_what_asks_has_ended():
    for work in (bodies.ask_slowly, bodies.leave_as_it_is_asked, bodies.ask_slowly_by_a_task):
        op = calloff.start(calloff.process(work), grace=30)
        while op.progress != "waiting":
            await asyncio.sleep(0.005)
        outcome = await op.stop()
        assert isinstance(outcome, calloff.Cancelled), outcome
        assert op.progress == "asked, then left"


class Connection:
    """`cancel` hits whatever runs at the moment, as that of a database does."""

    def __init__(self):
        self.running = ""
        self.hit = []
        self.bell = threading.Event()

    def cancel(self):
        time.sleep(1e-4)  # on its way to the server
        self.hit.append(self.running)
        self.bell.set()

    def query(self, text, seconds):
        self.running = text
        cancelled = self.bell.wait(seconds)
        self.running = ""
        if cancelled:
            raise ConnectionError("cancelled")


def test_ten_thousand_blocks_that_are_left_while_they_are_asked_harm_no_next_query():
    rng = random.Random(7)
    asked = []

    def work(connection, seconds):
        try:
            with calloff.on_stop(connection.cancel):
                connection.query("first", seconds)
        except asyncio.CancelledError:
            asked.append(1)
        connection.bell.clear()
        connection.query("next", 1e-4)

    async def main():
        for _ in range(500):
            ops, connections = [], [Connection() for _ in range(20)]
            for connection in connections:
                ops.append(calloff.start(calloff.thread(work, connection, rng.random() * 5e-4), grace=20))
            for op in ops:
                if rng.random() < 0.3:
                    await asyncio.sleep(0)
                op.cancel()
            for op, connection in zip(ops, connections, strict=True):
                outcome = await op.outcome()
                assert not isinstance(outcome, calloff.Failed), outcome
                assert "next" not in connection.hit

    asyncio.run(main())
    assert asked


async def test_sockets_of_a_pool_are_whole_after_stops_and_a_hundred_stop_together():
    def work(end, ready):
        with calloff.on_stop(lambda: end.shutdown(socket.SHUT_RDWR)):
            ready.set()
            if not end.recv(1):
                raise ConnectionError("closed")

    pairs = [socket.socketpair() for _ in range(50)]
    events = [threading.Event() for _ in pairs]
    ops = [
        calloff.start(calloff.thread(work, pair[0], ready), grace=20) for pair, ready in zip(pairs, events, strict=True)
    ]
    await until(*events)
    outcomes = await asyncio.gather(*(op.stop() for op in ops))
    assert all(isinstance(outcome, calloff.Cancelled) for outcome in outcomes)
    for pair in pairs:
        for end in pair:
            end.close()
