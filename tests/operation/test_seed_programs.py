"""The two programs that calloff grew from, word for word: its own way, and asyncio's with two names replaced."""

import asyncio

import pytest
from operation import virtual_time

import calloff


async def call_api(message, result=1000, delay=3):
    print(message)
    await asyncio.sleep(delay)
    return result


async def main():  # program 1: cancel it if it is not done
    op = calloff.start(call_api("Calling API...", result=2000, delay=5))
    if not op.done():
        print("Cancelling the task...")
        op.cancel()
    try:
        await op
    except asyncio.CancelledError:
        print("Task has been cancelled.")


async def main2():  # program 2: look every second, stop after 3
    op = calloff.start(call_api("Calling API...", result=2000, delay=5))
    async for tick in op.watch(every=1):
        print("Task has not completed, checking again in a second")
        if tick.number == 3:
            print("Cancelling the task...")
            op.cancel("took longer than 3 seconds")
    try:
        await op
    except asyncio.CancelledError:
        print("Task has been cancelled.")


async def asyncio_main():
    task = calloff.start(call_api("Calling API...", result=2000, delay=5))

    if not task.done():
        print("Cancelling the task...")
        task.cancel()

    try:
        await task
    except asyncio.CancelledError:
        print("Task has been cancelled.")


async def asyncio_main2():
    task = calloff.start(call_api("Calling API...", result=2000, delay=5))

    time_elapsed = 0
    while not task.done():
        time_elapsed += 1
        await asyncio.sleep(1)
        print("Task has not completed, checking again in a second")
        if time_elapsed == 3:
            print("Cancelling the task...")
            task.cancel()
            break

    try:
        await task
    except asyncio.CancelledError:
        print("Task has been cancelled.")


CHECKED = (
    ["Calling API..."]
    + 3 * ["Task has not completed, checking again in a second"]
    + ["Cancelling the task...", "Task has been cancelled."]
)


@pytest.mark.parametrize("program", [main, asyncio_main])
def test_cancel_if_it_is_not_done(arun, loop_kind, program, capsys):
    """The body never gets to run, except with eager tasks, as with asyncio's own."""
    arun(program)
    lines = capsys.readouterr().out.splitlines()
    begun = ["Calling API..."] if loop_kind == "eager" else []
    assert lines == [*begun, "Cancelling the task...", "Task has been cancelled."]


@pytest.mark.parametrize("program", [main2, asyncio_main2])
def test_look_every_second_and_stop_after_three(program, capsys):
    async def timed():
        await program()
        return virtual_time.now()

    assert virtual_time.run(timed) == 3.0
    assert capsys.readouterr().out.splitlines() == CHECKED


@pytest.mark.skipif(not hasattr(calloff, "run"), reason="calloff.run is not there yet")
@pytest.mark.parametrize("program", [main, asyncio_main])
def test_under_calloff_run(program, capsys):
    calloff.run(program())
    assert capsys.readouterr().out.splitlines() == ["Cancelling the task...", "Task has been cancelled."]


@pytest.mark.skipif(not hasattr(calloff, "run"), reason="calloff.run is not there yet")
@pytest.mark.parametrize("program", [main2, asyncio_main2])
def test_the_second_under_calloff_run(program, capsys):
    calloff.run(program(), loop_factory=virtual_time.VirtualLoop, interrupt=False)
    assert capsys.readouterr().out.splitlines() == CHECKED


def test_without_a_cancel_the_value_arrives(capsys):
    async def patient():
        op = calloff.start(call_api("Calling API...", result=2000, delay=5))
        return await op, await op, op.result(), virtual_time.now()

    assert virtual_time.run(patient) == (2000, 2000, 2000, 5.0)


def test_the_reason_arrives():
    async def told():
        op = calloff.start(call_api("", delay=5), name="call-api")
        async for tick in op.watch():
            if tick.number == 3:
                op.cancel("took longer than 3 seconds")
        with pytest.raises(calloff.OperationCancelled) as caught:
            await op
        return caught.value

    error = virtual_time.run(told)
    assert error.reason.text == "took longer than 3 seconds"
    line = test_the_reason_arrives.__code__.co_filename
    assert str(error).startswith("'call-api' was cancelled: took longer than 3 seconds: at call_api (")
    assert str(error).endswith(": await asyncio.sleep(delay)")
    assert error.where[0].file == line
