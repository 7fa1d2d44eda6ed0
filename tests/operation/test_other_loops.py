"""Operations that are waited for in another event loop, or in another process, than their own."""

import asyncio
import subprocess
import sys
import threading
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any

import pytest

import calloff
from calloff._words.reason import Kind


async def stubborn() -> None:
    while True:
        try:
            await asyncio.sleep(3600)
        except asyncio.CancelledError:
            pass


async def value(release: asyncio.Event) -> int:
    await release.wait()
    return 42


class Elsewhere:
    """A thread that runs an event loop."""

    def __init__(self) -> None:
        self.loop = asyncio.new_event_loop()
        self.thread = threading.Thread(target=self.loop.run_forever)

    def start(self, work: Any, **options: Any) -> calloff.Operation[Any]:
        started: Future[calloff.Operation[Any]] = Future()
        self.loop.call_soon_threadsafe(lambda: started.set_result(calloff.start(work, **options)))
        return started.result(30)

    def end(self) -> None:
        self.loop.call_soon_threadsafe(self.loop.stop)
        self.thread.join(30)
        self.loop.close()


@contextmanager
def elsewhere() -> Iterator[Elsewhere]:
    other = Elsewhere()
    other.thread.start()
    try:
        yield other
    finally:
        if not other.loop.is_closed():
            other.end()


async def test_a_value_arrives_in_another_loop() -> None:
    with elsewhere() as other:
        release = asyncio.Event()
        op = other.start(value(release))
        waiting = [asyncio.ensure_future(op.outcome()), asyncio.ensure_future(calloff.call(_awaited(op)))]
        await asyncio.sleep(0)
        other.loop.call_soon_threadsafe(release.set)
        outcome, awaited = await asyncio.gather(*waiting)
        assert outcome.unwrap() == awaited == 42


async def test_who_looks_on_from_another_loop_again_and_again_is_forgotten() -> None:
    with elsewhere() as other:
        op = other.start(stubborn(), grace=0.05)
        for _ in range(20):
            with pytest.raises(TimeoutError):
                await asyncio.wait_for(op.outcome(), 0.001)
        count: Future[int] = Future()
        other.loop.call_soon_threadsafe(lambda: count.set_result(len(op._waiters or ())))
        assert await asyncio.wrap_future(count) == 0
        await op.stop()


async def _awaited(op: calloff.Operation[Any]) -> Any:
    return await op


async def test_a_stop_is_seen_to_its_end_from_another_loop() -> None:
    with elsewhere() as other:
        op = other.start(stubborn(), grace=0.05)
        outcome = await op.stop("from afar")
        assert isinstance(outcome, calloff.Cancelled)
        assert (outcome.report.rung, outcome.report.reason.text) == (calloff.Rung.FORCED, "from afar")
        with pytest.raises(calloff.OperationCancelled):
            await op


async def test_who_awaits_it_in_another_loop_stops_it_with_the_own_cancel() -> None:
    with elsewhere() as other:
        op = other.start(asyncio.sleep(3600))
        waiting = asyncio.ensure_future(_awaited(op))
        looking = asyncio.ensure_future(op.outcome())
        for _ in range(3):
            await asyncio.sleep(0)
        looking.cancel()
        with pytest.raises(asyncio.CancelledError):
            await looking
        assert not op.done()
        waiting.cancel()
        with pytest.raises(asyncio.CancelledError) as caught:
            await waiting
        assert not isinstance(caught.value, calloff.OperationCancelled)
        assert op.reason is not None
        assert op.reason.kind is Kind.PARENT


@pytest.mark.parametrize("closed_by", ["close", "behind our back"])
async def test_the_end_of_its_loop_is_heard_in_another_one(closed_by: str) -> None:
    with elsewhere() as other:
        op = other.start(asyncio.sleep(3600))
        waiting = asyncio.ensure_future(op.outcome())
        while not op._waiters:
            await asyncio.sleep(0)
        if closed_by != "close":
            del other.loop.close  # what calloff has put there
        await asyncio.to_thread(other.end)
        calloff.operations()
        outcome = await waiting
        assert not isinstance(outcome, calloff.Completed)
        assert outcome.report is not None
        assert outcome.report.reason.kind is Kind.SHUTDOWN
        assert await op.outcome() == outcome


async def test_an_operation_whose_loop_does_not_run_is_not_waited_for() -> None:
    loop = asyncio.new_event_loop()

    async def start() -> calloff.Operation[None]:
        return calloff.start(asyncio.sleep(3600), name="left")

    try:
        op = await asyncio.to_thread(loop.run_until_complete, start())
        for wait in (op.stop(), op.outcome(), _awaited(op)):
            with pytest.raises(RuntimeError, match="'left' belongs to another event loop, which does not run"):
                await wait
    finally:
        await asyncio.to_thread(loop.close)
    assert op.done()


@pytest.mark.parametrize("error", [LookupError("mine"), RuntimeError("mine")], ids=repr)
async def test_what_is_thrown_in_without_a_loop_arrives(error: Exception) -> None:
    op = calloff.start(asyncio.sleep(3600))
    thrown = _awaited(op)
    thrown.send(None)
    op._asyncio_future_blocking = False  # what a task does

    def throw() -> None:
        with pytest.raises(type(error)) as caught:
            thrown.throw(error)
        assert caught.value is error

    await asyncio.to_thread(throw)
    await op.stop()


FORKS = """
import asyncio, os, calloff

async def main():
    op = calloff.start(asyncio.sleep(3600))
    await asyncio.sleep(0)
    pid = os.fork()
    if not pid:
        os._exit(0 if calloff.operations() == () else 1)
    status = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    assert op in calloff.operations()
    await op.stop()
    print(status)

calloff.run(main)
"""


@pytest.mark.skipif(not hasattr(sys.modules["os"], "fork"), reason="there are no forks")
def test_a_forked_child_lists_nothing_of_its_parent() -> None:
    done = subprocess.run([sys.executable, "-c", FORKS], capture_output=True, text=True, timeout=60)
    assert done.stdout == "0\n", done.stderr


@pytest.mark.parametrize("timeout", [None, 1000])
async def test_a_limit_that_is_set_from_a_thread_counts(timeout: float | None) -> None:
    said = asyncio.Event()

    async def works() -> None:
        said.set()
        await asyncio.sleep(3600)

    asyncio.get_running_loop().set_debug(True)  # it complains of what only its own thread may do
    op = calloff.start(works(), timeout=timeout)
    await said.wait()
    with ThreadPoolExecutor(1) as pool:
        pool.submit(op.reschedule, 0.05).result(30)
    with pytest.raises(calloff.TimedOut, match=r"within 0\.05 s"):
        await asyncio.wait_for(op, 30)


async def test_a_blocking_function_may_limit_itself() -> None:
    def works() -> None:
        op = calloff.current()
        assert op is not None
        op.reschedule(0.05)
        assert 0 < calloff.remaining() < 0.051
        while True:
            calloff.checkpoint(wait=1)

    asyncio.get_running_loop().set_debug(True)
    with pytest.raises(calloff.TimedOut):
        await asyncio.wait_for(calloff.start(calloff.thread(works)), 30)


async def test_it_can_be_watched_from_another_loop() -> None:
    with elsewhere() as other:
        release = asyncio.Event()
        op = other.start(value(release))
        ticks = []
        async with asyncio.timeout(30):
            async for tick in op.watch(every=0.01):
                ticks.append(tick.number)
                if tick.number == 3:
                    other.loop.call_soon_threadsafe(release.set)
        assert ticks[:3] == [1, 2, 3]
        assert op.done()
