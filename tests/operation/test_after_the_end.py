"""What has ended holds nothing, says nothing, and takes no part any more."""

import asyncio
import gc
import threading

import pytest

import calloff
from calloff._scopes.timers import NEVER


async def _await(operation):
    await operation


async def waits():
    await asyncio.sleep(3600)


async def test_what_ends_while_it_is_asked_is_not_put_on_the_timer():
    """A thread that has not begun ends in the very moment in which it is asked."""
    thread = calloff.start(calloff.thread(threading.Event().wait), grace=float("inf"))
    thread.cancel()
    assert thread.done()
    process = calloff.start(calloff.process(print), grace=float("inf"))
    await process.stop()
    for operation in (thread, process):
        assert operation.timer_at == NEVER
        assert operation.timer_bucket is None


@pytest.mark.usefixtures("begins_first")
def test_a_caller_that_is_cancelled_during_a_timeout_hears_no_complaint(arun):
    """Its own cancel goes before the `TimedOut` of the operation, which counts as retrieved."""

    complaints = []

    async def main():
        release = asyncio.Event()

        async def cleans_up():
            try:
                await asyncio.sleep(3600)
            finally:
                await release.wait()

        asyncio.get_running_loop().set_exception_handler(lambda loop, context: complaints.append(context["message"]))
        operation = calloff.start(cleans_up(), timeout=0.01)
        task = asyncio.ensure_future(_await(operation))
        while operation.reason is None:
            await asyncio.sleep(0)
        task.cancel()
        release.set()
        await asyncio.wait([task])
        assert task.cancelled()

    arun(main)
    gc.collect()
    assert complaints == []


async def test_a_body_that_tells_its_end_twice_is_believed_once():
    operation = calloff.start(waits())
    await asyncio.sleep(0)
    outcome = await operation.stop()
    operation.returned(3)
    operation.raised(ValueError())
    operation.stopped()
    assert await operation.outcome() == outcome
    assert operation not in calloff.operations()
