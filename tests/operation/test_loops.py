"""The end of an event loop is the end of its operations, whoever closes it."""

import asyncio
import contextlib
import os
import threading
import time
import unittest
from collections.abc import Callable
from typing import Any

import pytest
import uvloop

import calloff
from calloff import Operation
from calloff._operation.loops import hosts
from calloff._words.reason import Kind

Main = Callable[[], Any]


def asyncio_run(main: Main) -> None:
    asyncio.run(main())


def runner(main: Main) -> None:
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as it:
        it.run(main())


def by_hand(main: Main) -> None:
    loop = asyncio.new_event_loop()
    loop.run_until_complete(main())
    loop.close()


def by_hand_uvloop(main: Main) -> None:
    loop = uvloop.new_event_loop()
    loop.run_until_complete(main())
    loop.close()


def isolated(main: Main) -> None:
    class Case(unittest.IsolatedAsyncioTestCase):
        async def test(self) -> None:
            await main()

    result = unittest.TestResult()
    Case("test").run(result)
    assert result.wasSuccessful(), result.errors


def behind_our_back(main: Main) -> None:
    loop = asyncio.new_event_loop()
    loop.run_until_complete(main())
    type(loop).close(loop)  # as if it could not be wrapped


def inside_another(main: Main) -> None:
    loop = asyncio.new_event_loop()
    loop.run_until_complete(main())

    async def other() -> None:
        loop.close()

    asyncio.run(other())


CLOSERS = [asyncio_run, runner, by_hand, by_hand_uvloop, isolated]
every_closer = pytest.mark.parametrize("closing", CLOSERS)


def gone(pid: int) -> bool:
    deadline = time.monotonic() + 30
    while time.monotonic() < deadline:
        try:
            os.kill(pid, 0)
        except ProcessLookupError:
            return True
        time.sleep(0.01)
    return False


def handles() -> int:
    """How many processes this one has a file for."""
    found = 0
    for file in os.listdir("/proc/self/fd"):
        with contextlib.suppress(OSError):
            found += os.readlink(f"/proc/self/fd/{file}") == "anon_inode:[pidfd]"
    return found


def leave(
    work: Callable[[], Any],
    closing: Callable[[Main], None],
    is_inside: Callable[[], bool] = lambda: True,
    **options: Any,
) -> Operation[Any]:
    """Start work, let it begin and come inside, and let the loop end under it."""
    started: list[Operation[Any]] = []

    async def main() -> None:
        operation = calloff.start(work(), **options)
        operation.add_done_callback(lambda _: None)
        started.append(operation)
        while str(operation.state) == "pending" or not is_inside():
            await asyncio.sleep(0.001)
        await asyncio.sleep(0)

    closing(main)
    return started[0]


def ended(operation: Operation[Any], state: str) -> None:
    assert operation not in calloff.operations()
    assert str(operation.state) == state, operation._exception
    assert operation.reason is not None
    assert operation.reason.kind is Kind.SHUTDOWN
    assert operation.done()
    assert operation.cancel() is False
    assert operation.get_loop() not in hosts


@every_closer
def test_a_command_dies_with_its_loop(closing: Callable[[Main], None]) -> None:
    pids: list[int] = []

    async def main() -> None:
        operation = calloff.start(calloff.command("sleep", "60"))
        while operation.body is None or operation.body.pid is None:
            await asyncio.sleep(0.001)
        pids.append(operation.body.pid)

    closing(main)
    with pytest.raises(ProcessLookupError):  # reaped, at once
        os.kill(pids[0], 0)
    assert calloff.operations() == ()


@every_closer
def test_a_process_and_a_thread_end_with_their_loop(closing: Callable[[Main], None]) -> None:
    ended(leave(lambda: calloff.process(time.sleep, 60), closing), "cancelled")

    def polls() -> None:
        while True:
            calloff.checkpoint(0.01)

    ended(leave(lambda: calloff.thread(polls), closing), "cancelled")
    taken, inside = threading.Lock(), threading.Event()
    taken.acquire()

    def blocks() -> None:
        inside.set()
        taken.acquire(timeout=40)

    began = time.monotonic()
    ended(leave(lambda: calloff.thread(blocks), closing, inside.is_set, grace=0.1), "abandoned")
    assert time.monotonic() - began < 20
    taken.release()


@pytest.mark.parametrize("new_loop", [asyncio.new_event_loop, uvloop.new_event_loop])
def test_an_operation_that_ends_by_itself_as_its_loop_is_closed(new_loop: Callable[[], Any]) -> None:
    """Nothing is left to be stopped when the loop comes to that."""
    loop = new_loop()
    go = loop.create_future()

    async def waits() -> str:
        return str(await go)

    async def main() -> Operation[str]:
        operation = calloff.start(waits(), detached=True)
        await asyncio.sleep(0.01)
        return operation

    operation = loop.run_until_complete(main())
    go.set_result("by itself")
    loop.close()
    assert operation.result() == "by itself"


@every_closer
def test_a_coroutine_cleans_up_as_its_loop_ends(closing: Callable[[Main], None]) -> None:
    clean: list[str] = []

    async def polite() -> None:
        try:
            await asyncio.sleep(60)
        finally:
            await asyncio.sleep(0.02)
            clean.append("up")

    ended(leave(polite, closing), "cancelled")
    assert clean == ["up"]


@every_closer
def test_a_coroutine_that_refuses_does_not_hold_up_its_loop(closing: Callable[[Main], None]) -> None:
    async def stubborn() -> None:
        while True:
            with contextlib.suppress(asyncio.CancelledError):
                await asyncio.sleep(60)

    async def immortal() -> None:
        while True:
            with contextlib.suppress(asyncio.CancelledError, calloff.StopForced):
                await asyncio.sleep(60)

    began = time.monotonic()
    forced = leave(stubborn, closing, grace=0.1)
    ended(forced, "cancelled")
    assert forced.report is not None
    assert forced.report.rung is calloff.Rung.FORCED
    abandoned = leave(immortal, closing, grace=0.1)
    ended(abandoned, "abandoned")
    assert abandoned.report is not None
    assert abandoned.report.stuck_at[-1].function in ("immortal", "sleep")
    assert time.monotonic() - began < 5


@every_closer
def test_one_that_is_being_stopped_ends_with_its_loop(closing: Callable[[Main], None]) -> None:
    async def immortal() -> None:
        while True:
            with contextlib.suppress(asyncio.CancelledError, calloff.StopForced):
                await asyncio.sleep(60)

    async def main() -> None:
        operation = calloff.start(immortal(), grace=0.2)
        await asyncio.sleep(0)
        operation.cancel("first")
        await asyncio.sleep(0)

    began = time.monotonic()
    closing(main)
    assert time.monotonic() - began < 5
    assert calloff.operations() == ()


@every_closer
def test_one_that_never_began_never_does(closing: Callable[[Main], None]) -> None:
    ran: list[int] = []
    started: list[Operation[Any]] = []

    async def body() -> None:
        ran.append(1)

    async def main() -> None:
        started.append(calloff.start(body()))

    closing(main)
    if not ran:
        ended(started[0], "cancelled")


@every_closer
def test_what_a_clean_up_starts_ends_too(closing: Callable[[Main], None]) -> None:
    late: list[Operation[Any]] = []

    async def body() -> None:
        try:
            await asyncio.sleep(60)
        finally:
            late.append(calloff.start(calloff.command("sleep", "60"), detached=True))

    ended(leave(body, closing), "cancelled")
    ended(late[0], "cancelled")


@pytest.mark.parametrize("place", ["command", "process"])
@pytest.mark.parametrize("closing", [behind_our_back, inside_another])
def test_a_loop_that_closes_unheard_leaves_nothing_running(closing: Callable[[Main], None], place: str) -> None:
    pids: list[int] = []
    before = max(handles(), 1)  # the keeper may be a new one
    started: list[Operation[Any]] = []

    async def waits(operation: Operation[Any]) -> None:
        with contextlib.suppress(asyncio.CancelledError):
            await operation

    async def main() -> None:
        work = calloff.command("sleep", "60") if place == "command" else calloff.process(time.sleep, 60)
        operation = calloff.start(work)
        while operation.body is None or operation.body.pid is None:
            await asyncio.sleep(0.001)
        pids.append(operation.body.pid)
        started.extend((operation, calloff.start(waits(operation))))
        await asyncio.sleep(0.01)

    closing(main)
    assert calloff.operations() == ()
    assert gone(pids[0])
    for operation in started:
        ended(operation, "abandoned")
    assert handles() <= before


def test_a_cancel_is_the_first_to_find_the_loop_closed() -> None:
    started: list[Operation[Any]] = []

    async def main() -> None:
        started.append(calloff.start(calloff.thread(time.sleep, 0.5), timeout=60))
        await asyncio.sleep(0.05)

    behind_our_back(main)
    assert started[0].cancel("too late") is False
    ended(started[0], "abandoned")


def test_the_next_loop_is_the_first_to_find_one_closed() -> None:
    started: list[Operation[Any]] = []

    async def main() -> None:
        started.append(calloff.start(asyncio.sleep(60)))
        await asyncio.sleep(0)

    async def other() -> int:
        return await calloff.call(calloff.thread(int, "3"))

    behind_our_back(main)
    assert asyncio.run(other()) == 3
    assert str(started[0].state) == "abandoned"


def test_a_scope_that_ends_is_no_end_of_the_loop() -> None:
    async def body() -> str:
        try:
            async with asyncio.timeout(0.01):
                await asyncio.sleep(60)
        except TimeoutError:
            return "went on"
        return ""

    async def main() -> None:
        operation = calloff.start(body())
        assert await operation == "went on"
        assert operation.reason is None

    asyncio.run(main())


def test_closing_is_as_it_was_before_the_first_operation_and_after_the_last() -> None:
    loop = asyncio.new_event_loop()

    async def main() -> None:
        await calloff.start(asyncio.sleep(0))
        with pytest.raises(RuntimeError):
            loop.close()

    loop.run_until_complete(main())
    loop.close()
    assert "close" not in vars(loop)
    loop.close()  # as often as one likes


def test_a_wrapper_of_somebody_else_is_kept() -> None:
    loop = asyncio.new_event_loop()
    calls: list[str] = []
    close = loop.close

    def wrapped() -> None:
        calls.append("theirs")
        close()

    loop.close = wrapped  # type: ignore[method-assign]  # what a library may do

    async def main() -> None:
        calloff.start(asyncio.sleep(60))
        await asyncio.sleep(0)

    loop.run_until_complete(main())
    loop.close()
    assert calls == ["theirs"]
    assert loop.close is wrapped
    assert calloff.operations() == ()


@pytest.mark.parametrize("timeout", [None, 60])
def test_what_is_left_of_a_closed_loop_harms_nobody_who_starts_something_else(timeout, caplog):
    """Also when it is odd: a callback that can't be compared with others."""

    class Odd:
        def __call__(self, _):
            raise AssertionError("the loop is closed: nobody calls it")

        def __eq__(self, other):
            raise ValueError("odd")

        __hash__ = object.__hash__

    async def begin():
        operation = calloff.start(asyncio.sleep(3600), timeout=timeout)
        operation.add_done_callback(Odd())
        operation.add_done_callback(Odd())
        return operation

    loop = asyncio.new_event_loop()
    operation = loop.run_until_complete(begin())
    type(loop).close(loop)  # past what calloff does before a loop closes

    async def value():
        return 3

    async def main():
        return await calloff.start(value())

    assert asyncio.run(main()) == 3
    assert str(operation.state) == "abandoned"
    assert operation.done()
    assert operation not in calloff.operations()
    assert "could not be ended" not in caplog.text


@pytest.mark.parametrize("make", [asyncio.new_event_loop, uvloop.new_event_loop])
def test_a_loop_that_was_stopped_still_ends_its_operations(make: Callable[[], asyncio.AbstractEventLoop]) -> None:
    loop = make()
    cleaned: list[bool] = []

    async def stops() -> None:
        try:
            await asyncio.sleep(60)
        finally:
            loop.stop()
            await asyncio.sleep(0)
            loop.stop()
            await asyncio.sleep(0.01)
            cleaned.append(True)

    async def main() -> tuple[Operation[Any], ...]:
        ops = calloff.start(stops()), calloff.start(calloff.command("sleep", "60"))
        await asyncio.sleep(0)
        loop.stop()  # its turn ends with that of `main`, and the stop is still to come
        return ops

    ops = loop.run_until_complete(main())
    loop.close()
    assert loop.is_closed()
    assert cleaned
    assert all(op.cancelled() for op in ops)
    assert loop not in hosts
