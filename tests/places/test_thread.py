"""Blocking functions in threads: what `calloff.thread` promises beyond what every place does."""

import asyncio
import gc
import inspect
import logging
import os
import re
import subprocess
import sys
import textwrap
import threading
import time
import weakref
from collections.abc import Callable, Iterator
from contextvars import ContextVar
from functools import partial
from typing import Any

import pytest

import calloff
from calloff._api.ending import log_threads
from calloff._places.thread.body import ThreadWork
from calloff._places.thread.call import Call
from calloff._places.thread.pool import POOL, Pool, Worker

Run = Callable[..., Any]
color: ContextVar[str] = ContextVar("color", default="none")


@pytest.fixture(autouse=True)
def settings() -> Iterator[None]:
    before = POOL.size, POOL.max_abandoned, POOL.idle
    gc.disable()  # force that hits the destructor of garbage is sent again, but pytest calls it an error
    yield
    gc.enable()
    POOL.size, POOL.max_abandoned, POOL.idle = before


async def until(true: Callable[[], bool]) -> None:
    """Wait for it, with a bound."""
    async with asyncio.timeout(30):
        while not true():
            await asyncio.sleep(0.005)


def hold(inside: threading.Event, release: threading.Event) -> str:
    """Refuses everything until it is released."""
    inside.set()
    while not release.is_set():
        try:
            while not release.is_set():
                release.wait(0.01)
        except BaseException:
            pass
    return "late"


async def test_arguments_and_value() -> None:
    def add(a: int, *, b: int) -> int:
        assert threading.current_thread() is not threading.main_thread()
        assert threading.current_thread().daemon
        return a + b

    assert await calloff.start(calloff.thread(add, 1, b=2)) == 3
    assert await calloff.call(calloff.thread(partial(add, 1), b=5)) == 6


async def test_the_context_of_the_caller_is_copied() -> None:
    def paint() -> str:
        before = color.get()
        color.set("blue")
        return before

    color.set("red")
    assert await calloff.call(calloff.thread(paint)) == "red"
    assert color.get() == "red"


async def test_threads_are_reused_and_hold_on_to_nothing() -> None:
    class Big:
        pass

    names = {await calloff.call(calloff.thread(threading.current_thread)) for _ in range(20)}
    assert len(names) == 1
    big = Big()
    gone = weakref.ref(big)
    await calloff.call(calloff.thread(id, big))
    del big
    await until(lambda: gc.collect() >= 0 and gone() is None)


async def test_idle_threads_end() -> None:
    calloff.thread.configure(idle=0.05)
    thread = await calloff.call(calloff.thread(threading.current_thread))
    await until(lambda: not thread.is_alive())
    assert thread not in threading.enumerate()
    assert await calloff.call(calloff.thread(int)) == 0


async def test_errors_keep_their_traceback_without_our_frames() -> None:
    def inner() -> None:
        raise KeyError("where")

    op = calloff.start(calloff.thread(inner))
    outcome = await op.outcome()
    assert isinstance(outcome, calloff.Failed)
    assert isinstance(outcome.error, KeyError)
    trace = outcome.error.__traceback__
    assert trace is not None
    assert trace.tb_frame.f_code is inner.__code__


async def test_stop_iteration_becomes_an_error_that_a_future_can_hold() -> None:
    with pytest.raises(RuntimeError, match="next raised StopIteration") as caught:
        await calloff.call(calloff.thread(next, iter(())))
    assert isinstance(caught.value.__cause__, StopIteration)


@pytest.mark.parametrize("bad", [3, None, "len"])
def test_not_a_function(bad: Any) -> None:
    with pytest.raises(TypeError, match=r"thread\(\) needs a function"):
        calloff.thread(bad)


@pytest.mark.parametrize("word", [calloff.thread, calloff.process, lambda work: calloff.map(work, [1])])
async def test_a_coroutine_in_place_of_a_function_is_closed(word: Callable[[Any], object]) -> None:
    coro = asyncio.sleep(1)
    with pytest.raises(TypeError, match="function"):
        word(coro)
    assert inspect.getcoroutinestate(coro) == inspect.CORO_CLOSED


def test_an_async_function_is_refused_with_advice() -> None:
    async def fetch() -> None: ...

    with pytest.raises(TypeError, match=r"fetch is an async function.*calloff\.start\("):
        calloff.thread(fetch)


@pytest.mark.parametrize(
    ("setting", "error"),
    [
        ({"size": 0}, ValueError),
        ({"size": 1.5}, TypeError),
        ({"max_abandoned": -1}, ValueError),
        ({"idle": -1}, ValueError),
        ({"idle": True}, TypeError),
    ],
)
def test_bad_settings(setting: dict[str, Any], error: type[Exception]) -> None:
    before = POOL.size, POOL.max_abandoned, POOL.idle
    with pytest.raises(error, match=next(iter(setting))):
        calloff.thread.configure(**setting)
    assert (POOL.size, POOL.max_abandoned, POOL.idle) == before


async def test_cancel_before_the_start() -> None:
    ran: list[int] = []
    op = calloff.start(calloff.thread(ran.append, 1))
    op.cancel("changed my mind")
    outcome = await op.outcome()
    assert isinstance(outcome, calloff.Cancelled)
    assert not outcome.report.started
    await calloff.call(calloff.thread(int))
    assert not ran


async def test_more_calls_than_threads_wait_their_turn() -> None:
    lock, now, most = threading.Lock(), 0, 0

    def work(number: int) -> int:
        nonlocal now, most
        with lock:
            now += 1
            most = max(most, now)
        time.sleep(0.002)
        with lock:
            now -= 1
        return number

    calloff.thread.configure(size=3)
    assert await asyncio.gather(*(calloff.start(calloff.thread(work, n)) for n in range(60))) == list(range(60))
    assert most <= 3
    await until(lambda: calloff.thread.counts()[::2] == (0, 0))


async def test_a_waiting_call_is_pending_and_never_runs_once_it_is_stopped() -> None:
    inside, release, ran = threading.Event(), threading.Event(), threading.Event()
    calloff.thread.configure(size=1)
    first = calloff.start(calloff.thread(hold, inside, release))
    await until(inside.is_set)
    waiting = calloff.start(calloff.thread(ran.set))
    last = calloff.start(calloff.thread(int))
    await asyncio.sleep(0.01)
    assert str(waiting.state) == "pending"
    assert calloff.thread.counts().waiting == 2
    outcome = await waiting.stop("no longer needed")
    assert isinstance(outcome, calloff.Cancelled)
    assert not outcome.report.started
    release.set()
    assert await first == "late"
    assert await last == 0
    assert not ran.is_set()


def test_loops_of_two_threads_share_the_threads() -> None:
    calloff.thread.configure(size=2)
    results: list[list[int]] = []

    def other() -> None:
        async def main() -> list[int]:
            return await asyncio.gather(*(calloff.start(calloff.thread(abs, -n)) for n in range(200)))

        results.append(asyncio.run(main()))

    threads = [threading.Thread(target=other) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert results == [list(range(200))] * 3


async def test_what_ends_before_it_is_abandoned_is_not_abandoned() -> None:
    """The loop was held up: it has not come to the news of the end when it comes to the end of the ladder."""
    inside, release = threading.Event(), threading.Event()
    loop = asyncio.get_running_loop()
    operation = calloff.start(calloff.thread(hold, inside, release), grace=0)
    await until(inside.is_set)
    operation.cancel()

    def end() -> None:
        release.set()
        while calloff.thread.counts().running:
            time.sleep(0.001)

    loop.call_later(0.5, time.sleep, 1.0)
    loop.call_later(0.7, end)  # in the same turn in which it would be abandoned
    outcome = await operation.outcome()
    assert isinstance(outcome, calloff.Completed)
    assert outcome.value == "late"
    assert calloff.thread.counts().abandoned == 0


async def test_abandoned_threads_are_counted_replaced_and_capped(caplog: pytest.LogCaptureFixture) -> None:
    inside, release = threading.Event(), threading.Event()

    with caplog.at_level(logging.WARNING, "calloff"):
        calloff.thread.configure(size=1, max_abandoned=2)
        ops = []
        for count in (1, 2):
            inside.clear()
            op = calloff.start(calloff.thread(hold, inside, release))
            await until(inside.is_set)
            outcome = await op.stop(grace=0)
            assert isinstance(outcome, calloff.Abandoned)
            assert any(frame.function == "hold" for frame in outcome.report.stuck_at)
            assert calloff.thread.counts().abandoned == count
            assert op in calloff.operations()
            ops.append(op)
            if count == 1:
                assert await calloff.call(calloff.thread(int)) == 0, "the place of the abandoned one is free"
        with pytest.raises(calloff.CalloffError, match=r"2 threads .*max_abandoned of calloff.thread is 2.*hold"):
            calloff.start(calloff.thread(int))
        calloff.thread.configure(max_abandoned=3)
        assert await calloff.call(calloff.thread(int)) == 0
        release.set()
        await until(lambda: calloff.thread.counts().abandoned == 0)
        await until(lambda: not set(ops) & set(calloff.operations()))
    assert "threads with work that could not be stopped: 2, at most 2" in caplog.text
    assert len(re.findall(r"'hold', abandoned .* ago, ended: it returned 'late'", caplog.text)) == 2


async def test_the_system_has_no_thread_left(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(thread: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    pool = Pool(size=4, max_abandoned=4, idle=0.05)  # without idle threads
    with monkeypatch.context() as patch:
        patch.setattr(threading.Thread, "start", refuse)
        with pytest.raises(calloff.CalloffError, match=r"no thread could be started.*can't start new thread"):
            await calloff.call(ThreadWork(int, "int", pool))
    assert pool.counts() == (0, 0, 0, 0)
    assert await calloff.call(ThreadWork(int, "int", pool)) == 0


def test_a_loop_that_was_closed_meanwhile() -> None:
    inside, release = threading.Event(), threading.Event()
    thread: list[threading.Thread] = []
    failed: list[Any] = []

    def work() -> None:
        thread.append(threading.current_thread())
        hold(inside, release)

    async def main() -> None:
        calloff.start(calloff.thread(work))
        calloff.thread.configure(size=1)
        calloff.start(calloff.thread(int))
        await until(inside.is_set)

    hook, threading.excepthook = threading.excepthook, failed.append
    try:
        loop = asyncio.new_event_loop()
        loop.run_until_complete(main())
        type(loop).close(loop)  # behind our back: nothing is asked to end
        release.set()

        async def again() -> int:
            return await calloff.call(calloff.thread(int))

        assert asyncio.run(again()) == 0
        assert thread[0].is_alive(), "the thread lives on, for others"
    finally:
        threading.excepthook = hook
    assert not failed


async def test_the_default_executor_is_left_alone() -> None:
    inside, release = threading.Event(), threading.Event()
    loop = asyncio.get_running_loop()
    ops = [calloff.start(calloff.thread(hold, inside, release)) for _ in range(40)]
    await until(lambda: calloff.thread.counts().running == 40)
    assert await asyncio.wait_for(loop.getaddrinfo("127.0.0.1", 80), 30)
    assert await asyncio.wait_for(asyncio.to_thread(int), 30) == 0
    release.set()
    assert await asyncio.gather(*ops) == ["late"] * 40


def run_script(text: str, timeout: float = 300) -> tuple[subprocess.CompletedProcess[str], float]:
    """A whole program, and how long it took after it said that its main part was over."""
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(text)],
        capture_output=True,
        text=True,
        timeout=timeout,
        check=False,
    )
    after = time.time()
    said = re.search(r"over at ([\d.]+)", done.stdout)
    assert said is not None, done.stderr
    return done, after - float(said[1])


def test_exit_is_never_held_up() -> None:
    done, late = run_script("""
        import asyncio, time, calloff
        def stuck():
            while True:
                try: time.sleep(600)
                except BaseException: pass
        async def main():
            calloff.start(calloff.thread(stuck), detached=True)
            await asyncio.sleep(0.05)
            print(calloff.thread.counts())
        asyncio.run(main())
        print("over at", time.time(), flush=True)
    """)
    assert done.returncode == 0
    assert "running=1" in done.stdout
    assert late < 5


@pytest.mark.skipif(sys.version_info >= (3, 15), reason="there force ends a thread that sleeps")
def test_four_hundred_abandoned_threads() -> None:
    done, late = run_script("""
        import asyncio, time, calloff
        async def main():
            calloff.thread.configure(size=400, max_abandoned=400)
            ops = [calloff.start(calloff.thread(time.sleep, 600)) for _ in range(400)]
            while not all(op.where() for op in ops):
                await asyncio.sleep(0.01)
            outcomes = await asyncio.gather(*(op.stop("enough", grace=0) for op in ops))
            assert all(isinstance(outcome, calloff.Abandoned) for outcome in outcomes)
            print(calloff.thread.counts())
            try:
                calloff.start(calloff.thread(int))
            except calloff.CalloffError as error:
                print("refused:", error)
        asyncio.run(main())
        print("over at", time.time(), flush=True)
    """)
    assert done.returncode == 0, done.stderr
    assert "abandoned=400" in done.stdout
    assert "refused: 400 threads run work that could not be stopped" in done.stdout
    assert late < 5


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork here")
def test_a_forked_child_has_threads_of_its_own() -> None:
    done, _ = run_script("""
        import asyncio, os, time, warnings, calloff
        warnings.simplefilter("ignore")
        async def main():
            return await calloff.call(calloff.thread(os.getpid))
        assert asyncio.run(main()) == os.getpid()
        child = os.fork()
        if child == 0:
            os._exit(0 if asyncio.run(main()) == os.getpid() else 1)
        assert os.waitpid(child, 0)[1] == 0
        print("over at", time.time())
    """)
    assert done.returncode == 0, done.stderr


# --- threads that the system refuses, and the queue


async def test_a_refused_thread_is_an_error_where_there_is_none(monkeypatch: pytest.MonkeyPatch) -> None:
    def refusing(self: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    POOL.reset()
    with monkeypatch.context() as patch:
        patch.setattr(threading.Thread, "start", refusing)
        with pytest.raises(calloff.CalloffError, match="no thread could be started"):
            await calloff.call(calloff.thread(int, "1"))
    assert POOL.counts() == (0, 0, 0, 0)
    assert await calloff.call(calloff.thread(int, "2")) == 2


async def test_a_refused_thread_makes_a_call_wait_for_another_one(monkeypatch: pytest.MonkeyPatch) -> None:
    def refusing(self: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    POOL.reset()
    gate = threading.Event()
    order: list[int] = []
    first = calloff.start(calloff.thread(gate.wait))
    await until(lambda: POOL.counts().running == 1)
    with monkeypatch.context() as patch:
        patch.setattr(threading.Thread, "start", refusing)
        others = [calloff.start(calloff.thread(order.append, number)) for number in range(3)]
        await until(lambda: POOL.counts().waiting == 3)
        assert {str(other.state) for other in others} == {"pending"}
        gate.set()
        await first
        for other in others:
            await other
    assert order == [0, 1, 2]


async def test_a_call_whose_thread_is_refused_gets_one_that_has_become_free_meanwhile(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    gate = threading.Event()

    def refusing(self: threading.Thread) -> None:
        gate.set()
        while POOL.counts().running > 1:  # the call that is started counts
            time.sleep(0.001)
        raise RuntimeError("can't start new thread")

    POOL.reset()
    first = calloff.start(calloff.thread(gate.wait))
    await until(lambda: POOL.counts().running == 1)
    with monkeypatch.context() as patch:
        patch.setattr(threading.Thread, "start", refusing)
        assert await calloff.call(calloff.thread(int, "7")) == 7
    assert await first


async def test_limits_are_not_used_up_by_waiting_for_a_free_thread() -> None:
    def checks() -> None:
        while True:
            calloff.checkpoint(0.01)

    calloff.thread.configure(size=1)
    gate = threading.Event()
    first = calloff.start(calloff.thread(gate.wait))
    await until(lambda: str(first.state) == "running")
    second = calloff.start(calloff.thread(time.sleep, 0.1), timeout=0.2)
    stalls = calloff.start(calloff.thread(time.sleep, 0.1), stall=0.2)
    limited = calloff.start(calloff.thread(checks), timeout=0.2)
    await asyncio.sleep(0.4)
    waiting = (second, stalls, limited)
    assert [(str(each.state), each.deadline, each.reason) for each in waiting] == [("pending", None, None)] * 3
    gate.set()
    await first
    await second
    await stalls
    with pytest.raises(calloff.TimedOut):  # and from its start on the limit holds
        await limited


# --- coroutines


async def test_a_call_that_returns_a_coroutine_is_no_success() -> None:
    ran: list[int] = []

    async def work() -> None:
        ran.append(1)

    def decorated() -> Any:
        return work()

    class Service:
        async def __call__(self) -> None:
            ran.append(1)

    with pytest.raises(TypeError, match=r"decorated returned a coroutine.*calloff\.start\(.*decorated"):
        await calloff.call(calloff.thread(decorated))
    with pytest.raises(TypeError, match="returned a coroutine"):
        await calloff.call(calloff.thread(lambda: work()))  # type: ignore[unused-coroutine]  # on purpose
    with pytest.raises(TypeError, match="async function"):
        calloff.thread(Service())
    with pytest.raises(TypeError, match="async function"):
        calloff.thread(partial(partial(work)))
    assert ran == []


async def test_a_thread_on_its_way_back_to_its_pool_will_hold_nothing_up(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """In a subinterpreter, whose threads are no daemons: a busy machine takes its time to give it a turn."""
    back, go = threading.Event(), threading.Event()

    class HeldUp(Pool):
        def _wake_loops(self) -> None:
            back.set()
            go.wait(30)

    class Job:
        call = Call(int)

        def enter(self, worker: Worker) -> None:
            worker.give(self.call, lambda: None)

        def fail(self, error: Exception) -> None:
            raise error

    pool = HeldUp(size=1, max_abandoned=1, idle=0.01)
    monkeypatch.setattr("calloff._places.thread.pool.may_leave_threads", lambda: False)
    monkeypatch.setattr("calloff._places.thread.pool.POOL", pool)
    before = threading.enumerate()
    pool.submit(Job(), asyncio.get_running_loop())
    assert back.wait(30)
    (thread,) = pool.idle_threads()
    log_threads(before)
    assert caplog.messages == []
    go.set()
    thread.join(30)
    assert not thread.is_alive()
