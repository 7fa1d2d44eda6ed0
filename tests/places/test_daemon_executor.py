"""The default executor of `calloff.run`: like a `ThreadPoolExecutor`, but nobody waits for it for ever."""

import asyncio
import sys
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor, wait
from functools import partial

import pytest

from calloff._places import daemon_executor
from calloff._places.daemon_executor import DaemonExecutor
from calloff._words.frame import develop


@pytest.fixture
def pool() -> Iterator[DaemonExecutor]:
    pool = DaemonExecutor(2)
    yield pool
    pool.leave()


def eventually(condition: object) -> None:
    until = time.monotonic() + 10
    while not condition():  # type: ignore[operator]
        assert time.monotonic() < until
        time.sleep(0.002)


def test_results_and_errors(pool: DaemonExecutor) -> None:
    assert isinstance(pool, ThreadPoolExecutor)
    assert pool.submit(divmod, 7, 2).result(10) == (3, 1)
    with pytest.raises(ZeroDivisionError):
        pool.submit(divmod, 7, 0).result(10)
    assert list(pool.map(abs, range(-100, 0))) == list(range(100, 0, -1))
    assert pool.submit(lambda: threading.current_thread().daemon).result(10)


def test_no_more_threads_than_jobs_or_the_limit(pool: DaemonExecutor) -> None:
    for _ in range(20):
        pool.submit(int).result(10)
    assert len(pool._crew) <= 2
    gate = threading.Event()
    jobs = [pool.submit(gate.wait) for _ in range(10)]
    eventually(lambda: sum(job.running() for job in jobs) == 2)
    assert len(pool._crew) == 2
    gate.set()
    assert not wait(jobs, 10).not_done


def test_two_submitted_at_once_run_side_by_side(pool: DaemonExecutor) -> None:
    pool.submit(int).result(10)  # one idle thread
    both = threading.Barrier(2)
    jobs = [pool.submit(both.wait, 10) for _ in range(2)]
    assert not wait(jobs, 10).not_done


def test_a_job_that_waits_can_be_cancelled(pool: DaemonExecutor) -> None:
    gate = threading.Event()
    jobs = [pool.submit(gate.wait) for _ in range(2)]
    eventually(lambda: all(job.running() for job in jobs))
    third = pool.submit(int)
    assert third.cancel()
    gate.set()
    assert not wait([*jobs, third], 10).not_done
    assert pool.submit(int).result(10) == 0


def test_jobs_that_nobody_waits_for_make_room_and_give_it_back(
    pool: DaemonExecutor, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(daemon_executor, "MOST_THREADS", 6)
    gate = threading.Event()
    stuck = [pool.submit(gate.wait) for _ in range(8)]
    for number in range(4):
        eventually(lambda number=number: stuck[number].running())
        assert not stuck[number].cancel()
    eventually(lambda: stuck[4].running() and stuck[5].running())
    assert stuck[6].cancel()
    assert not stuck[4].cancel()
    assert len(pool._crew) == 6  # the most
    assert not stuck[7].running()
    gate.set()
    assert not wait(stuck, 10).not_done
    eventually(lambda: len(pool._crew) <= 2)


def test_shutdown_waits_and_refuses_further_jobs(pool: DaemonExecutor) -> None:
    gate = threading.Event()
    running = [pool.submit(gate.wait) for _ in range(2)]
    waiting = pool.submit(int)
    threading.Timer(0.05, gate.set).start()
    pool.shutdown()
    assert [job.result(0) for job in running] == [True, True]
    assert waiting.result(0) == 0
    with pytest.raises(RuntimeError, match="after shutdown"):
        pool.submit(int)


def test_shutdown_can_drop_what_waits(pool: DaemonExecutor) -> None:
    gate = threading.Event()
    running = [pool.submit(gate.wait) for _ in range(2)]
    waiting = pool.submit(int)
    eventually(lambda: all(job.running() for job in running))
    pool.shutdown(wait=False, cancel_futures=True)
    assert waiting.cancelled()
    gate.set()
    assert not wait([*running, waiting], 10).not_done


def here(gate: threading.Event) -> None:
    gate.wait()  # stuck


def test_leaving_tells_what_is_left_and_waits_for_nothing(pool: DaemonExecutor) -> None:
    gate = threading.Event()
    jobs = [pool.submit(here, gate), pool.submit(partial(partial(time.sleep), 2)), pool.submit(here, gate)]
    eventually(lambda: jobs[0].running() and jobs[1].running())
    eventually(lambda: pool._running and all(job.thread for job in pool._running))
    threads = [job.thread for job in pool._running]
    eventually(lambda: {sys._current_frames()[thread].f_code.co_name for thread in threads} == {"wait", "_work"})
    first, second, third = pool.leave()
    assert (first.started, second.started, third.started) == (True, True, False)
    assert first.name.endswith("test_daemon_executor.here")
    assert second.name == "time.sleep"
    assert "gate.wait()  # stuck" in [frame.source for frame in develop(first.where)]
    assert second.where == ()
    assert develop((second.caller,))[0].function.startswith("test_leaving")  # type: ignore[arg-type]
    assert jobs[2].cancelled()
    pool.shutdown()  # waits no longer
    gate.set()
    eventually(lambda: not pool._crew)
    assert not jobs[0].done()  # its loop is gone: nobody is told


def test_when_idle(pool: DaemonExecutor) -> None:
    told = threading.Event()
    assert not pool.when_idle(told.set)
    gate = threading.Event()
    jobs = [pool.submit(gate.wait) for _ in range(3)]
    assert pool.when_idle(told.set)
    assert not told.is_set()
    gate.set()
    assert told.wait(10)
    assert not wait(jobs, 10).not_done


async def test_names_of_what_asyncio_hands_in() -> None:
    pool = DaemonExecutor(1)
    asyncio.get_running_loop().set_default_executor(pool)
    gate = threading.Event()
    task = asyncio.create_task(asyncio.to_thread(gate.wait))
    await asyncio.sleep(0.05)
    names = [job.name for job in pool.leave()]
    task.cancel()
    await asyncio.wait([task])
    gate.set()
    assert names == ["threading.Event.wait"]


def test_a_job_that_has_ended_just_now_is_not_told_as_one_that_runs(pool: DaemonExecutor) -> None:
    gate = threading.Event()
    left: list[object] = []
    job = pool.submit(gate.wait)
    job.add_done_callback(lambda _: left.append(pool.leave()))  # called in the thread that is about to cross it off
    gate.set()
    eventually(lambda: left)
    assert left == [[]]


@pytest.fixture
def refuse(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[bool]]:
    """Its only item says whether the system refuses threads now."""
    refused = [False]
    start = threading.Thread.start

    def starting(self: threading.Thread) -> None:
        if refused[0] and self.name.startswith("calloff-"):
            raise RuntimeError("can't start new thread")
        start(self)

    monkeypatch.setattr(threading.Thread, "start", starting)
    yield refused
    refused[0] = False


def test_a_thread_that_the_system_refuses_is_told_and_not_counted(pool: DaemonExecutor, refuse: list[bool]) -> None:
    ran: list[int] = []
    refuse[0] = True
    for number in range(5):
        with pytest.raises(RuntimeError, match="can't start new thread"):
            pool.submit(ran.append, number)
    refuse[0] = False
    assert not wait([pool.submit(ran.append, number) for number in range(5, 10)], 60).not_done
    assert sorted(ran) == [5, 6, 7, 8, 9]  # what was refused is not run behind the caller's back
    refuse[0] = True
    assert pool.leave() == []


def test_where_there_is_a_thread_a_refusal_only_makes_a_job_wait(pool: DaemonExecutor, refuse: list[bool]) -> None:
    gate = threading.Event()
    first = pool.submit(gate.wait)
    eventually(first.running)
    refuse[0] = True
    second = pool.submit(int, "2")
    assert not second.done()
    gate.set()
    assert second.result(10) == 2


def test_jobs_behind_a_thread_that_was_given_up_are_told_of_the_refusal(
    pool: DaemonExecutor, refuse: list[bool]
) -> None:
    gate = threading.Event()
    jobs = [pool.submit(gate.wait) for _ in range(2)]
    eventually(lambda: all(job.running() for job in jobs))
    waiting = pool.submit(int, "3")
    refuse[0] = True
    for job in jobs:
        job.cancel()
    with pytest.raises(RuntimeError, match="can't start new thread"):
        waiting.result(10)
    refuse[0] = False
    assert pool.submit(int, "4").result(10) == 4
    gate.set()
