"""A body that blocks the event loop is interrupted exactly where it is, and nothing else is."""

import asyncio
import contextlib
import faulthandler
import importlib
import io
import itertools
import logging
import math
import multiprocessing.popen_fork
import os
import queue
import re
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from types import FrameType
from typing import Any

import pytest
from places.process_table import marked

import calloff
from calloff import Cancelled, Completed, Rung
from calloff._places.task.interrupt import Interrupter
from calloff._places.task.on_stack import interrupt_plain, on_stack
from calloff._words.policy import DEFAULT

pytestmark = pytest.mark.usefixtures("begins_first")

LATE = 12.0  # how late an ending may be on a busy machine


def block_sleep() -> None:
    time.sleep(60)


def block_recv() -> None:
    one, other = socket.socketpair()
    with one, other:
        one.recv(1)


def block_lock() -> None:
    lock = threading.Lock()
    lock.acquire()
    lock.acquire()


def block_run() -> None:
    subprocess.run(["sleep", f"61.{os.getpid()}"], check=False)


def block_loop() -> None:
    while True:
        pass


def block_queue() -> None:
    queue.Queue().get()


def block_event() -> None:
    threading.Event().wait(60)


def block_read() -> None:
    one, other = os.pipe()
    try:
        os.read(one, 1)
    finally:
        os.close(one)
        os.close(other)


def block_backtracking() -> None:
    re.match(r"(a+)+$", "a" * 40 + "b")


def block_pow() -> None:
    pow(3, (1 << 100_000) - 1, (1 << 60_000) - 1)


def block_other_process() -> None:
    one, other = multiprocessing.Pipe()
    with one, other:
        one.recv()


def block_join_process() -> None:
    process = subprocess.Popen(["sleep", "61.25"])
    try:
        popen = object.__new__(multiprocessing.popen_fork.Popen)
        popen.__dict__.update(pid=process.pid, returncode=None)
        popen.poll(0)
    finally:
        process.kill()
        process.wait()


def block_log() -> None:
    one, other = os.pipe()
    os.set_blocking(other, False)
    with suppress(BlockingIOError):
        while True:
            os.write(other, bytes(1 << 16))
    os.set_blocking(other, True)
    stream = io.TextIOWrapper(io.FileIO(other, "w"), write_through=True)
    handler = logging.StreamHandler(stream)
    try:
        handler.handle(logging.makeLogRecord({"msg": "x" * 10}))
    finally:
        os.close(one)
        with suppress(BrokenPipeError):
            stream.close()


def block_callback() -> None:
    with contextlib.ExitStack() as stack:
        stack.callback(time.sleep, 60)


WAYS = [
    block_callback,
    block_join_process,
    block_log,
    block_other_process,
    block_sleep,
    block_recv,
    block_lock,
    block_run,
    block_loop,
    block_queue,
    block_event,
    block_read,
    block_backtracking,
    block_pow,
]


@pytest.mark.parametrize("way", WAYS)
def test_it_is_interrupted_where_it_is(crun: Callable[..., Any], way: Callable[[], None]) -> None:
    cleaned = []

    async def body() -> None:
        try:
            way()
        finally:
            await asyncio.sleep(0.01)
            cleaned.append(1)

    async def tick(ticks: list[int]) -> None:
        while True:
            ticks.append(1)
            await asyncio.sleep(0.01)

    async def main() -> None:
        ticks: list[int] = []
        ticking = asyncio.create_task(tick(ticks))
        await asyncio.sleep(0.02)
        since = time.monotonic()
        outcome = await calloff.start(body(), timeout=0.2).outcome()
        assert 0.199 <= time.monotonic() - since < 0.2 + LATE  # the clock of libuv counts milliseconds
        assert isinstance(outcome, Cancelled)
        assert outcome.report.rung is Rung.INTERRUPTED
        assert outcome.report.refusals == 0
        assert outcome.reason.kind == "deadline"
        ours = [frame for frame in outcome.report.where if frame.file == __file__]
        assert [frame.function for frame in ours] == ["body", way.__name__]
        assert cleaned
        seen = len(ticks)
        await asyncio.sleep(0.05)
        assert len(ticks) > seen
        ticking.cancel()

    crun(main())


def test_an_import_that_waits_for_that_of_another_thread(
    crun: Callable[..., Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    name = f"imported_elsewhere_{time.monotonic_ns()}"
    (tmp_path / f"{name}.py").write_text("import builtins\nbuiltins.begun.set()\nbuiltins.let_on.wait(60)\n")
    monkeypatch.syspath_prepend(tmp_path)
    begun, let_on = threading.Event(), threading.Event()
    monkeypatch.setattr("builtins.begun", begun, raising=False)
    monkeypatch.setattr("builtins.let_on", let_on, raising=False)
    other = threading.Thread(target=importlib.import_module, args=(name,))

    async def body() -> None:
        importlib.import_module(name)

    async def main() -> None:
        outcome = await calloff.start(body(), timeout=0.1, grace=0.1).outcome()
        assert isinstance(outcome, Cancelled)
        assert outcome.report.rung is Rung.FORCED

    other.start()
    assert begun.wait(20)
    try:
        crun(main())
    finally:
        let_on.set()
        other.join()
    assert importlib.import_module(name)  # its lock is as it was


def test_a_finally_around_an_endless_loop_runs(crun: Callable[..., Any]) -> None:
    cleaned = []

    async def body() -> None:
        try:
            while True:
                time.monotonic()
        finally:
            cleaned.append(1)

    async def main() -> None:
        for _ in range(10):
            await calloff.start(body(), timeout=0.02).outcome()

    crun(main())
    assert len(cleaned) == 10


def test_the_child_of_subprocess_run_is_gone(crun: Callable[..., Any]) -> None:
    async def main() -> None:
        await calloff.start(_blocking(block_run), timeout=0.2).outcome()
        assert not marked(f"61.{os.getpid()}")

    crun(main())


async def _blocking(way: Callable[[], object]) -> None:
    way()


def test_c_code_that_does_not_listen_is_left_at_its_end(crun: Callable[..., Any]) -> None:
    since = time.thread_time()  # not the time that others take of a busy machine: then it would end before its limit
    sum(range(10**7))
    numbers = int(10**7 * 1.5 / (time.thread_time() - since))
    done: list[float] = []

    async def body() -> None:
        done.append(sum(range(numbers)))  # this line
        while True:
            done.append(time.monotonic())

    async def main() -> None:
        outcome = await calloff.start(body(), timeout=0.2).outcome()
        assert isinstance(outcome, Cancelled)
        assert outcome.report.rung is Rung.INTERRUPTED
        assert outcome.report.where[-1].source == "done.append(sum(range(numbers)))  # this line"

    crun(main())
    assert len(done) < 2


def test_a_look_that_is_interrupted_by_the_next_signal_is_as_late_as_it_was(
    crun: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """On a busy machine the signal comes twice before the first look knows how late it is."""
    ordered = Interrupter._ordered
    nested: list[int] = []
    went_on: list[int] = []

    def comes_again(self: Interrupter) -> bool:
        if not nested:
            nested.append(1)
            signal.pthread_sigmask(signal.SIG_UNBLOCK, [signal.SIGALRM])  # if another thread was given the first
            signal.raise_signal(signal.SIGALRM)
        return ordered(self)

    async def body() -> None:
        signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGALRM])
        try:
            time.sleep(0.5)
        finally:
            signal.pthread_sigmask(signal.SIG_UNBLOCK, [signal.SIGALRM])
        while True:
            went_on.append(1)

    async def main() -> None:
        outcome = await calloff.start(body(), timeout=0.05).outcome()
        assert isinstance(outcome, Cancelled)
        assert outcome.report.rung is Rung.INTERRUPTED

    monkeypatch.setattr(Interrupter, "_ordered", comes_again)
    crun(main())
    assert nested
    assert not went_on


def test_a_look_that_knows_how_late_it_is_leaves_nothing_of_that_to_the_next_one(
    crun: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The next signal interrupts it, too: else what runs later would be taken for as late as this was."""
    again, look, ordered = Interrupter._again, Interrupter._on_alarm, Interrupter._ordered
    nested: list[int] = []
    left: list[float] = []

    def looks(self: Interrupter, frame: FrameType) -> None:
        try:
            look(self, frame)
        finally:
            if nested:
                left.append(self._was_due)
            if len(left) == 2:
                again(self, self._now())

    def is_ordered(self: Interrupter) -> bool:
        if len(nested) == 1:
            nested.append(2)
            return True
        return ordered(self)

    def comes_again(self: Interrupter, now: float) -> None:
        if not nested:
            signal.setitimer(signal.ITIMER_REAL, 1000, signal.getitimer(signal.ITIMER_REAL)[1])
        if not nested:  # one that had come by then has been heard now: it would be the third
            nested.append(1)
            signal.raise_signal(signal.SIGALRM)
        elif len(left) >= 2:
            again(self, now)

    async def body() -> None:
        while True:
            pass

    async def main() -> None:
        outcome = await calloff.start(body(), timeout=0.05).outcome()
        assert outcome.report is not None
        assert outcome.report.rung is Rung.INTERRUPTED

    monkeypatch.setattr(Interrupter, "_again", comes_again)
    monkeypatch.setattr(Interrupter, "_on_alarm", looks)
    monkeypatch.setattr(Interrupter, "_ordered", is_ordered)
    crun(main())
    assert len(nested) == 2
    assert left[0] < math.inf  # of the one inside
    assert left[1] == math.inf


def test_code_without_a_limit_is_not_hit(crun: Callable[..., Any]) -> None:
    async def unlimited() -> str:
        time.sleep(0.3)
        return "whole"

    async def main() -> list[Any]:
        waiting = calloff.start(asyncio.sleep(60), timeout=0.05)
        plain = asyncio.create_task(unlimited())
        operation = calloff.start(unlimited())
        outcome = await waiting.outcome()
        assert outcome.report is not None
        assert outcome.report.rung is Rung.ASKED
        return [await plain, await operation]

    assert crun(main()) == ["whole", "whole"]


def test_a_callback_is_not_hit(crun: Callable[..., Any]) -> None:
    async def main() -> None:
        operation = calloff.start(asyncio.sleep(60), timeout=0.05)
        done = asyncio.get_running_loop().create_future()

        def callback() -> None:
            time.sleep(0.2)
            done.set_result(None)

        asyncio.get_running_loop().call_soon(callback)
        await done
        await operation.outcome()

    crun(main())


@pytest.mark.alone
def test_a_busy_loop_is_not_a_blocked_one(crun: Callable[..., Any]) -> None:
    """Many short steps make the loop late; its own timer is still heard, and asks at an await."""

    long: list[float] = []  # the steps that the machine has made long, by running something else meanwhile

    async def short_steps() -> None:
        while True:
            since = time.monotonic()
            try:
                while time.monotonic() < since + 0.002:
                    pass
            finally:
                if time.monotonic() > since + DEFAULT.slack / 2:
                    long.append(since)
            await asyncio.sleep(0)

    async def main() -> None:
        crowd = [calloff.start(short_steps(), timeout=0.3) for _ in range(50)]
        outcomes = [await operation.outcome() for operation in crowd]
        rungs = [outcome.report.rung for outcome in outcomes if outcome.report is not None]
        assert rungs.count(Rung.INTERRUPTED) <= len(long), rungs

    crun(main())


def test_a_short_clean_up_may_block(crun: Callable[..., Any]) -> None:
    cleaned = []

    async def body() -> None:
        try:
            time.sleep(60)
        finally:
            time.sleep(0.4)
            cleaned.append(1)

    async def waiting() -> None:
        try:
            await asyncio.sleep(60)
        finally:
            time.sleep(0.4)
            cleaned.append(2)

    async def main() -> None:
        blocked = await calloff.start(body(), timeout=0.1).outcome()
        asked = await calloff.start(waiting(), timeout=0.1).outcome()
        assert blocked.report is not None
        assert asked.report is not None
        assert (blocked.report.rung, blocked.report.refusals) == (Rung.INTERRUPTED, 0)
        assert (asked.report.rung, asked.report.refusals) == (Rung.ASKED, 0)

    crun(main())
    assert cleaned == [1, 2]


def test_force_reaches_a_clean_up_that_blocks(crun: Callable[..., Any]) -> None:
    raised = []

    async def body() -> None:
        try:
            await asyncio.sleep(60)
        finally:
            try:
                block_lock()
            except BaseException as error:
                raised.append(type(error).__name__)
                raise

    async def main() -> None:
        since = time.monotonic()
        outcome = await calloff.start(body(), timeout=0.1, grace=0.4).outcome()
        assert 0.499 <= time.monotonic() - since < 0.5 + LATE  # the clock of libuv counts milliseconds
        assert isinstance(outcome, Cancelled)
        assert outcome.report.rung is Rung.FORCED

    crun(main())
    assert raised == ["StopForced"]


def test_refusing_and_blocking_on_is_forced(crun: Callable[..., Any]) -> None:
    async def body() -> None:
        while True:
            try:
                time.sleep(60)
            except asyncio.CancelledError:
                pass

    async def main() -> None:
        since = time.monotonic()
        outcome = await calloff.start(body(), timeout=0.1, grace=0.5).outcome()
        assert 0.59 <= time.monotonic() - since < 0.6 + LATE
        assert isinstance(outcome, Cancelled)
        assert outcome.report.rung is Rung.FORCED
        assert outcome.report.refusals >= 2

    crun(main())


def test_swallowing_at_an_await_and_blocking_then(crun: Callable[..., Any]) -> None:
    async def body() -> None:
        try:
            await asyncio.sleep(60)
        except asyncio.CancelledError:
            pass
        time.sleep(60)

    async def main() -> None:
        outcome = await calloff.start(body(), timeout=0.1, grace=30).outcome()
        assert isinstance(outcome, Cancelled)
        assert outcome.report.rung is Rung.INTERRUPTED
        assert outcome.report.refusals >= 1

    crun(main())


def test_the_end_of_one_that_was_interrupted_and_then_asked_is_told_right(crun: Callable[..., Any]) -> None:
    async def body() -> None:
        try:
            time.sleep(60)
        except asyncio.CancelledError:
            pass
        await asyncio.sleep(60)

    async def main() -> None:
        outcome = await calloff.start(body(), timeout=0.1, grace=30).outcome()
        assert isinstance(outcome, Cancelled)
        assert outcome.report.rung is Rung.INSISTED
        assert outcome.report.refusals == 1

    crun(main())


def test_a_value_all_the_same(crun: Callable[..., Any]) -> None:
    async def body() -> int:
        try:
            time.sleep(60)
        except asyncio.CancelledError:
            return 7
        return 8

    async def main() -> None:
        outcome = await calloff.start(body(), timeout=0.1).outcome()
        assert isinstance(outcome, Completed)
        assert outcome.value == 7
        assert outcome.report is not None

    crun(main())


def test_through_code_that_awaits(crun: Callable[..., Any]) -> None:
    """Coroutines of asyncio that await the blocking one do not stand in the way."""

    async def body() -> None:
        async with asyncio.timeout(50):
            await asyncio.wait_for(_blocking(block_sleep), None)

    async def main() -> None:
        outcome = await calloff.start(body(), timeout=0.1).outcome()
        assert outcome.report is not None
        assert outcome.report.rung is Rung.INTERRUPTED

    crun(main())


def test_what_waits_for_the_one_that_blocks(crun: Callable[..., Any]) -> None:
    async def above() -> None:
        await calloff.call(_blocking(block_sleep))

    async def by_operation() -> None:
        await calloff.start(above(), timeout=0.1)

    async def by_group() -> None:
        async with calloff.group(timeout=0.1) as group:
            group.start(asyncio.sleep(60))
            group.start(above())
            group.start(asyncio.sleep(60))

    async def main() -> None:
        for way in (by_operation, by_group):
            since = time.monotonic()
            with pytest.raises(calloff.TimedOut):
                await way()
            assert time.monotonic() - since < LATE

    crun(main())


async def _cleaning(cleaned: list[int]) -> None:
    try:
        time.sleep(60)
    finally:
        await asyncio.sleep(0.05)
        cleaned.append(1)


async def _in_a_task(cleaned: list[int]) -> None:
    await asyncio.create_task(_cleaning(cleaned))


async def _in_a_gather(cleaned: list[int]) -> None:
    await asyncio.gather(asyncio.sleep(60), _cleaning(cleaned), asyncio.sleep(60))


async def _in_a_task_group(cleaned: list[int]) -> None:
    async with asyncio.TaskGroup() as group:
        group.create_task(asyncio.sleep(60))
        group.create_task(_cleaning(cleaned))
        group.create_task(asyncio.sleep(60))


@pytest.mark.parametrize("way", [_in_a_task, _in_a_gather, _in_a_task_group])
def test_a_task_that_an_operation_waits_for(crun: Callable[..., Any], way: Callable[[list[int]], Any]) -> None:
    """It is part of the operation's work, and is cancelled once, like any task of a body that is called off."""

    async def main() -> None:
        cleaned: list[int] = []
        since = time.monotonic()
        outcome = await calloff.start(way(cleaned), timeout=0.2).outcome()
        assert time.monotonic() - since < LATE
        assert isinstance(outcome, Cancelled)
        assert outcome.reason.kind == "deadline"
        assert outcome.report.refusals == 0
        assert cleaned == [1]

    crun(main())


def test_a_task_that_an_operation_waits_for_and_that_refuses(crun: Callable[..., Any]) -> None:
    async def refuse() -> None:
        while True:
            try:
                time.sleep(60)
            except asyncio.CancelledError:
                pass

    async def body() -> None:
        await asyncio.gather(asyncio.sleep(60), refuse())

    async def main() -> None:
        since = time.monotonic()
        outcome = await calloff.start(body(), timeout=0.1, grace=0.4).outcome()
        assert 0.499 <= time.monotonic() - since < 0.5 + 1 + LATE  # as above
        assert isinstance(outcome, Cancelled)
        assert outcome.report.rung is Rung.FORCED

    crun(main())


def test_a_task_that_nobody_waits_for_is_not_hit(crun: Callable[..., Any]) -> None:
    async def plain() -> str:
        await asyncio.sleep(0)
        time.sleep(0.3)
        return "whole"

    async def body() -> "asyncio.Task[str]":
        task = asyncio.create_task(plain())
        try:
            await asyncio.sleep(60)
        except asyncio.CancelledError:
            pass
        return task

    async def main() -> str:
        task = await calloff.call(body(), timeout=0.1)
        return await task

    assert crun(main()) == "whole"


def test_scopes(crun: Callable[..., Any]) -> None:
    async def own() -> None:
        with calloff.timeout(0.1):
            time.sleep(60)

    async def of_the_one_who_waits() -> None:
        async with calloff.timeout(0.1):
            await calloff.call(_blocking(block_sleep))

    async def check(way: Callable[[], Any]) -> None:
        task = asyncio.current_task()
        assert task is not None
        before = task.cancelling()
        since = time.monotonic()
        with pytest.raises(calloff.TimedOut):
            await way()
        assert time.monotonic() - since < LATE
        assert task.cancelling() == before
        await asyncio.sleep(0.01)

    async def main() -> None:
        for way in (own, of_the_one_who_waits):
            await check(way)
            await asyncio.create_task(check(way))

    crun(main())


async def _save(saved: list[int]) -> None:
    time.sleep(0.4)
    saved.append(1)


async def _save_in_an_operation(saved: list[int]) -> None:
    await calloff.call(_save(saved))


@pytest.mark.parametrize("save", [_save, _save_in_an_operation])
def test_what_is_shielded_is_not_hit(crun: Callable[..., Any], save: Callable[[list[int]], Any]) -> None:
    async def main() -> None:
        saved: list[int] = []
        outcome = await calloff.start(calloff.shield(save(saved)), timeout=0.1).outcome()
        assert outcome.report is not None
        assert outcome.report.reason.kind == "deadline"
        with suppress(calloff.TimedOut):  # an eager one leaves the block before it hears of it
            async with calloff.timeout(0.1):
                await calloff.shield(save(saved))
        assert saved == [1, 1]

    crun(main())


def test_force_goes_through_a_shield(crun: Callable[..., Any]) -> None:
    async def main() -> None:
        since = time.monotonic()
        await calloff.start(calloff.shield(_blocking(block_sleep), timeout=None), timeout=0.1, grace=0.2).outcome()
        assert time.monotonic() - since < 0.3 + 1 + LATE

    crun(main())


class _Blocks:
    def __reduce__(self) -> Any:
        time.sleep(60)


@pytest.mark.parametrize("of_main", [False, True])
def test_an_argument_that_blocks_as_it_is_pickled(crun: Callable[..., Any], of_main: bool) -> None:
    function = (lambda _: None) if of_main else id  # by value, and by its name

    async def main() -> None:
        since = time.monotonic()
        outcome = await calloff.start(calloff.call(calloff.process(function, _Blocks())), timeout=0.1).outcome()
        assert time.monotonic() - since < LATE
        assert isinstance(outcome, Cancelled)
        assert outcome.report.rung is Rung.INTERRUPTED
        assert await calloff.call(calloff.process(abs, -3)) == 3

    crun(main())


def test_cancel_from_another_thread(crun: Callable[..., Any]) -> None:
    async def body() -> None:
        await asyncio.sleep(0)
        time.sleep(60)

    async def main() -> None:
        operation = calloff.start(body())
        timer = threading.Timer(0.1, operation.cancel, ["from outside"])
        timer.start()
        since = time.monotonic()
        outcome = await operation.outcome()
        assert time.monotonic() - since < LATE
        assert isinstance(outcome, Cancelled)
        assert outcome.report.rung is Rung.INTERRUPTED
        assert outcome.reason.text == "from outside"
        timer.join()

    crun(main())


def test_cancel_of_itself(crun: Callable[..., Any]) -> None:
    async def body() -> None:
        operation = calloff.current()
        assert operation is not None
        operation.cancel("I am done")
        time.sleep(60)

    async def main() -> None:
        outcome = await calloff.start(body()).outcome()
        assert isinstance(outcome, Cancelled)
        assert outcome.report.rung is Rung.INTERRUPTED
        assert outcome.report.refusals == 0

    crun(main())


def test_no_grace(crun: Callable[..., Any]) -> None:
    async def main() -> None:
        outcome = await calloff.start(_blocking(block_sleep), timeout=0.1, grace=0).outcome()
        assert isinstance(outcome, Cancelled)
        assert outcome.report.rung in (Rung.INTERRUPTED, Rung.FORCED)

    crun(main())


def test_an_import_is_let_finish(crun: Callable[..., Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "slow_to_import.py").write_text("import time\ntime.sleep(0.4)\nwhole = True\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    sys.modules.pop("slow_to_import", None)

    async def body() -> None:
        import slow_to_import  # type: ignore[import-not-found]

        assert slow_to_import.whole
        time.sleep(60)

    async def main() -> None:
        outcome = await calloff.start(body(), timeout=0.1).outcome()
        assert isinstance(outcome, Cancelled)
        assert outcome.report.rung is Rung.INTERRUPTED

    crun(main())
    assert sys.modules.pop("slow_to_import").whole


# --- the signal and its timer


@pytest.fixture
def alarms(monkeypatch: pytest.MonkeyPatch) -> list[FrameType]:
    """What each signal that came has interrupted."""
    came: list[FrameType] = []
    on_alarm = Interrupter._on_alarm

    def counting(self: Interrupter, frame: FrameType) -> None:
        came.append(frame)
        on_alarm(self, frame)

    monkeypatch.setattr(Interrupter, "_on_alarm", counting)
    return came


def test_a_program_that_is_not_late_gets_no_signal(
    crun: Callable[..., Any], alarms: list[FrameType], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A busy machine may make it late: then one signal may come for each time that the slack has passed, and no more."""
    late: list[float] = []
    arm, due = Interrupter._arm, math.inf

    def measured(self: Interrupter, wake: float) -> None:
        nonlocal due
        before = self._now()
        arm(self, wake)  # only now the kernel's timer is set anew
        late.append(max(0.0, self._now() - due + 0.001))  # the clock of libuv counts milliseconds
        due = max(wake, before)

    monkeypatch.setattr(Interrupter, "_arm", measured)

    async def main() -> None:
        for _ in range(20):
            await calloff.start(asyncio.sleep(60), timeout=0.01).outcome()
        operation = calloff.start(asyncio.sleep(60), timeout=30)
        await asyncio.sleep(0.1)
        assert 0 < signal.getitimer(signal.ITIMER_REAL)[0] < 31
        await operation.stop()
        await asyncio.sleep(0.05)

    crun(main())
    assert len(late) >= 20
    assert len(alarms) <= sum(seconds // DEFAULT.slack for seconds in late), "a signal came to a loop that was in time"


def test_the_timer_is_off_when_nothing_waits(crun: Callable[..., Any]) -> None:
    async def main() -> None:
        await calloff.start(asyncio.sleep(60), timeout=0.01).outcome()
        until = time.monotonic() + LATE
        while signal.getitimer(signal.ITIMER_REAL) != (0.0, 0.0):
            assert time.monotonic() < until
            await asyncio.sleep(0.01)

    crun(main())


def test_a_signal_that_comes_at_the_very_end_orders_no_other_one(monkeypatch: pytest.MonkeyPatch) -> None:
    """Which would find no handler, and end the program."""
    loop = asyncio.new_event_loop()
    interrupter = Interrupter(loop, lambda: None)
    setitimer, came = signal.setitimer, list[Any]()

    def with_a_signal_on_its_way(which: int, after: float, interval: float = 0.0) -> tuple[float, float]:
        found = setitimer(which, after, interval)
        if not after and not came:
            came.append(1)
            interrupter._fired = True
            interrupter._handler(signal.SIGALRM, sys._getframe())
        return found

    try:
        assert interrupter.install()
        interrupter._timers.wake = interrupter._now() - 1  # it is late
        monkeypatch.setattr(signal, "setitimer", with_a_signal_on_its_way)
        interrupter.remove()
        assert came
        assert signal.getitimer(signal.ITIMER_REAL) == (0.0, 0.0)
        assert signal.getsignal(signal.SIGALRM) is signal.SIG_DFL
    finally:
        setitimer(signal.ITIMER_REAL, 0)
        loop.close()


@pytest.fixture
def interrupter() -> Iterator[Interrupter]:
    loop = asyncio.new_event_loop()
    setitimer, found = signal.setitimer, Interrupter(loop, lambda: None)
    try:
        assert found.install()
        yield found
        found._former = signal.SIG_DFL
        found.remove()
    finally:
        setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, signal.SIG_DFL)
        loop.close()


def test_a_signal_that_comes_while_the_timer_is_set_anew_is_known_as_ours(
    interrupter: Interrupter, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One of somebody else would be given back, which ends a program that has no handler."""
    setitimer, given_back = signal.setitimer, []

    def the_former_one_has_fired(which: int, after: float, interval: float = 0.0) -> tuple[float, float]:
        monkeypatch.undo()
        setitimer(which, after, interval)
        interrupter._handler(signal.SIGALRM, sys._getframe())
        return interval - 0.1, interval

    interrupter._former = lambda *_: given_back.append(1)
    monkeypatch.setattr(signal, "setitimer", the_former_one_has_fired)
    interrupter._arm(interrupter._now() + 30)
    assert not given_back
    assert not interrupter._fired, "it was handled already"


def test_a_signal_that_is_handled_at_any_line_of_the_setting_is_known_as_ours(interrupter: Interrupter) -> None:
    """Where a program is traced each line enters a function, where signals are handled."""
    given_back: list[int] = []
    lines: set[int] = set()

    def trace(frame: FrameType, event: str, arg: object) -> Any:
        if frame.f_code is not Interrupter._set.__code__:
            return None
        if event == "line" and frame.f_lineno not in lines and signal.getitimer(signal.ITIMER_REAL)[0] > 20:
            lines.add(frame.f_lineno)
            sys.settrace(None)
            interrupter._handler(signal.SIGALRM, frame)
            given_back.extend([frame.f_lineno] * (signal.getsignal(signal.SIGALRM) is not interrupter._handler))
        return trace

    former = sys.gettrace()
    interrupter._former = signal.SIG_IGN
    try:
        for _ in range(20):
            interrupter._arm(interrupter._now() + 30)
            interrupter._fires_at = interrupter._now() - 1  # its time was over, and the signal has come
            sys.settrace(trace)
            interrupter._arm(interrupter._now() + 10)
            sys.settrace(None)
    finally:
        sys.settrace(former)
    assert not given_back
    assert len(lines) > 4


def test_a_signal_that_was_handled_is_no_other_one_on_a_clock_of_milliseconds(
    interrupter: Interrupter, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The next one is of somebody else, who would wait for its effect for ever."""
    setitimer, readings = signal.setitimer, itertools.count()

    def comes_just_now(which: int, after: float, interval: float = 0.0) -> tuple[float, float]:
        setitimer(which, after, interval)
        return interval - 0.0005, interval  # it began anew when the one that is handled here had come

    began, exact = interrupter._now(), time.monotonic()
    interrupter._arm(began + 30)
    interrupter._fires_at = interrupter._due = began - 1
    monkeypatch.setattr(interrupter, "_now", lambda: began + 0.001 * next(readings))
    monkeypatch.setattr("calloff._places.task.interrupt.monotonic", lambda: exact)
    monkeypatch.setattr(signal, "setitimer", comes_just_now)
    interrupter._handler(signal.SIGALRM, sys._getframe())
    assert not interrupter._fired


@pytest.mark.parametrize("sets_anew", [False, True])
def test_a_signal_that_interrupts_its_own_handler_is_known_as_ours_and_so_is_the_other(
    interrupter: Interrupter, monkeypatch: pytest.MonkeyPatch, sets_anew: bool
) -> None:
    """It comes again soon, and a busy machine may stop the handler at any line for longer than that."""
    given_back: list[int] = []
    nested: list[int] = []
    real, act = interrupter._now, interrupter._room._act

    def now() -> float:
        if not nested and sys._getframe(1).f_code is Interrupter._ordered.__code__:
            nested.append(1)
            interrupter._handler(signal.SIGALRM, sys._getframe())
        return real()

    def acts(frame: FrameType) -> None:
        act(frame)
        if sets_anew:  # as what it decides does
            interrupter._arm(real() + 30)

    interrupter._former = lambda *_: given_back.append(1)
    interrupter._arm(real() + 30)
    interrupter._fires_at = real() - 1  # the signal has come
    monkeypatch.setattr(interrupter, "_now", now)
    monkeypatch.setattr(interrupter._room, "_act", acts)
    interrupter._handler(signal.SIGALRM, sys._getframe())
    assert nested
    assert not given_back


def test_a_signal_that_came_before_and_arrives_late_is_known_as_ours(
    interrupter: Interrupter, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The kernel may give it to another thread, which gets no processor for a while."""
    setitimer, given_back = signal.setitimer, []

    def has_fired_unheard(which: int, after: float, interval: float = 0.0) -> tuple[float, float]:
        setitimer(which, after, interval)
        return interval * 0.5, interval

    interrupter._former = lambda *_: given_back.append(1)
    interrupter._fires_at = interrupter._due = interrupter._now() - 1
    with monkeypatch.context() as patch:
        patch.setattr(signal, "setitimer", has_fired_unheard)
        interrupter._arm(interrupter._now() + 30)
    interrupter._handler(signal.SIGALRM, sys._getframe())
    assert not given_back


def test_no_signal_is_sent_when_the_handler_has_been_taken_away(monkeypatch: pytest.MonkeyPatch) -> None:
    """It would end the program."""
    loop = asyncio.new_event_loop()
    interrupter = Interrupter(loop, lambda: None)
    sending, removed, found = threading.Event(), threading.Event(), []

    def send(_thread: int, signum: int) -> None:
        sending.set()
        removed.wait(0.2)  # the other thread goes on meanwhile, if nothing holds it up
        found.append(signal.getsignal(signum))

    monkeypatch.setattr(signal, "pthread_kill", send)
    try:
        assert interrupter.install()
        calling = threading.Thread(target=interrupter._call, args=[int])
        calling.start()
        assert sending.wait(30)
        interrupter.remove()
        removed.set()
        calling.join()
        assert found == [interrupter._handler]
    finally:
        loop.close()


def test_a_program_that_uses_the_signal_keeps_it(crun: Callable[..., Any]) -> None:
    rung: list[int] = []
    former = signal.signal(signal.SIGALRM, lambda *_: rung.append(1))

    async def main() -> float:
        signal.setitimer(signal.ITIMER_REAL, 0.05)
        since = time.monotonic()
        await calloff.start(_blocking(lambda: time.sleep(0.3)), timeout=0.1).outcome()
        return time.monotonic() - since

    try:
        assert crun(main()) >= 0.3
        assert rung == [1]
    finally:
        signal.signal(signal.SIGALRM, former)


@pytest.mark.parametrize("handled", [True, False])
def test_a_program_that_takes_the_signal_later_keeps_it(crun: Callable[..., Any], handled: bool) -> None:
    ours = []

    async def main() -> float:
        await calloff.start(asyncio.sleep(60), timeout=0.05).outcome()
        ours.append(signal.getsignal(signal.SIGALRM))
        if handled:
            signal.signal(signal.SIGALRM, lambda *_: None)
        signal.setitimer(signal.ITIMER_REAL, 30)
        await calloff.start(asyncio.sleep(60), timeout=0.05).outcome()
        return signal.getitimer(signal.ITIMER_REAL)[0]

    try:
        assert crun(main()) > 25
        assert signal.getsignal(signal.SIGALRM) is not ours[0]
        assert (signal.getsignal(signal.SIGALRM) is signal.SIG_DFL) != handled
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, signal.SIG_DFL)


def test_a_program_that_sets_a_handler_alone_is_left_no_timer(crun: Callable[..., Any]) -> None:
    """It would go on for ever, and end the program when Python takes that handler away at its end."""
    rung: list[int] = []

    async def main() -> None:
        op = calloff.start(asyncio.sleep(60), timeout=60)
        await asyncio.sleep(0)
        assert signal.getitimer(signal.ITIMER_REAL)[0]
        signal.signal(signal.SIGALRM, lambda *_: rung.append(1))
        await op.stop()

    try:
        crun(main())
        assert signal.getitimer(signal.ITIMER_REAL) == (0.0, 0.0)
        assert not rung
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, signal.SIG_DFL)


def test_other_signals_and_faulthandler_work(crun: Callable[..., Any], tmp_path: Path) -> None:
    came: list[int] = []
    former = signal.signal(signal.SIGUSR1, lambda *_: came.append(1))
    with open(tmp_path / "dump", "w+") as dump:
        faulthandler.register(signal.SIGUSR2, dump)

        async def body() -> None:
            os.kill(os.getpid(), signal.SIGUSR1)
            os.kill(os.getpid(), signal.SIGUSR2)
            time.sleep(60)

        async def main() -> None:
            outcome = await calloff.start(body(), timeout=0.1).outcome()
            assert outcome.report is not None
            assert outcome.report.rung is Rung.INTERRUPTED

        try:
            crun(main())
        finally:
            faulthandler.unregister(signal.SIGUSR2)
            signal.signal(signal.SIGUSR1, former)
        dump.seek(0)
        assert "in body" in dump.read()
    assert came == [1]


def test_without_interrupt_the_body_goes_on(crun: Callable[..., Any]) -> None:
    async def main() -> float:
        since = time.monotonic()
        await calloff.start(_blocking(lambda: time.sleep(0.3)), timeout=0.05).outcome()
        return time.monotonic() - since

    assert crun(main(), interrupt=False) >= 0.3


def test_a_checkpoint_inside_the_work_of_another_one() -> None:
    seen: list[object] = []

    def act() -> None:
        assert interrupt_plain("inner", lambda: None) is None
        seen.append(on_stack.found)

    assert interrupt_plain("outer", act) is None
    assert seen == ["outer"], "the outer one still knows what is on the stack"
    assert on_stack.found is None


def test_a_signal_that_came_to_nothing_comes_again(crun: Callable[..., Any], monkeypatch: pytest.MonkeyPatch) -> None:
    """As when it falls between the interpreter's last look for signals and a call of the system that waits."""
    hear, lost = Interrupter._on_alarm, list[Any]()

    def loses_the_first(self: Interrupter, frame: Any) -> None:
        if len(lost) < 3:
            lost.append(frame)
        else:
            hear(self, frame)

    monkeypatch.setattr(Interrupter, "_on_alarm", loses_the_first)

    async def blocks() -> None:
        time.sleep(20)

    async def main() -> None:
        since = time.monotonic()
        assert isinstance(await calloff.start(blocks(), timeout=0.05).outcome(), Cancelled)
        assert time.monotonic() - since < 20

    crun(main())
    assert len(lost) == 3


class Tracer:
    """As debuggers are made: a function for calls, and another one for lines."""

    lines = 0

    def calls(self, frame: FrameType, event: str, arg: object) -> Any:
        return self.each

    def each(self, frame: FrameType, event: str, arg: object) -> Any:
        self.lines += 1
        return self.each


@pytest.mark.parametrize("whole", [False, True])
def test_a_trace_function_goes_on_tracing(crun: Callable[..., Any], whole: bool) -> None:
    """What it raises would end all tracing, and most of the time of what is traced is its own."""

    async def counts() -> None:
        number = 0
        while True:
            number += 1
            number -= 1

    async def main() -> None:
        interrupted = 0
        while interrupted < 5:
            outcome = await calloff.start(counts(), timeout=0.02, grace=20).outcome()
            assert isinstance(outcome, Cancelled)
            assert sys.gettrace() == tracer
            interrupted += outcome.report.started  # a busy machine may be late with its first step

    former = sys.gettrace()
    tracer = Tracer().each if whole else Tracer().calls
    sys.settrace(tracer)
    try:
        crun(main)
    finally:
        sys.settrace(former)


#: of a module in which nothing is broken off but what waits; it is long in it before it waits, and long in the clean-up
WAITS_IN_A_QUEUE = """
def wait():
    until = monotonic() + 0.35
    while monotonic() < until:
        pass
    try:
        lock.acquire()
    finally:
        sum(range(5_000_000))
"""


def test_an_asking_that_is_on_its_way_out_of_what_waits_is_not_refused(crun: Callable[..., Any]) -> None:
    """Each instruction of the body was still looked at, and the error that left the clean-up was taken for none."""
    lock = threading.Lock()
    lock.acquire()
    inside: dict[str, Any] = {"__name__": "queue", "lock": lock, "monotonic": time.monotonic}
    exec(WAITS_IN_A_QUEUE, inside)

    def calls() -> None:
        inside["wait"]()

    async def body() -> None:
        try:
            calls()
        finally:
            await asyncio.sleep(0.01)

    async def main() -> calloff.Outcome[None]:
        return await calloff.start(body(), timeout=0.2).outcome()

    outcome = crun(main)
    assert isinstance(outcome, Cancelled)
    assert (outcome.report.rung, outcome.report.refusals) == (Rung.INTERRUPTED, 0)
