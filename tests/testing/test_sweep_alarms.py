"""What a sweep must not complain of, and whom it finds at fault."""

import asyncio
import os
import socket
import threading
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from calloff.testing import SweepReport, sweep
from calloff.testing._sweep.points import Point, Step
from calloff.testing._sweep.results import at_fault

from .test_sweep import Run, phases_of, swept


def line_of(text: str) -> int:
    """The number of the line of this file that ends with the mark."""
    lines = Path(__file__).read_text().splitlines()
    return next(number for number, line in enumerate(lines, 1) if line.endswith(f"# {text}"))


# --- no false alarms


async def plain_rows() -> AsyncIterator[int]:
    for number in range(3):
        yield number
        await asyncio.sleep(0)


async def generator_without_clean_up() -> None:
    async for _ in plain_rows():
        await asyncio.sleep(0)


async def inner_timeout_that_expires() -> None:
    try:
        async with asyncio.timeout(0.002):
            await asyncio.sleep(10)
    except TimeoutError:
        pass
    try:
        await asyncio.wait_for(asyncio.Event().wait(), 0.002)
    except TimeoutError:
        pass


async def children_cancelled_without_waiting() -> None:
    tasks = [asyncio.create_task(asyncio.sleep(10)) for _ in range(2)]
    try:
        await asyncio.wait(tasks, timeout=0.002)
    finally:
        for task in tasks:
            task.cancel()


async def first_of_two() -> None:
    queue: asyncio.Queue[int] = asyncio.Queue()
    asyncio.get_running_loop().call_soon(queue.put_nowait, 1)
    async with asyncio.TaskGroup() as group:
        getting = group.create_task(queue.get())
        ticking = group.create_task(asyncio.sleep(10))
        await asyncio.wait({getting, ticking}, return_when=asyncio.FIRST_COMPLETED)
        ticking.cancel()


async def producer_and_consumer() -> None:
    queue: asyncio.Queue[int | None] = asyncio.Queue(1)

    async def produce() -> None:
        for number in range(2):
            await queue.put(number)
        await queue.put(None)

    async with asyncio.TaskGroup() as group:
        group.create_task(produce())
        while await queue.get() is not None:
            await asyncio.sleep(0)


async def worker_that_returns_when_called_off() -> None:
    async def worker() -> None:
        try:
            await asyncio.sleep(10)
        except asyncio.CancelledError:
            return

    task = asyncio.create_task(worker())
    try:
        await asyncio.sleep(0.001)
    finally:
        task.cancel()
        await asyncio.wait({task})


async def thread_that_ends_soon() -> None:
    await asyncio.to_thread(time.sleep, 0.002)


async def condition_waiter() -> None:
    condition = asyncio.Condition()

    async def wait() -> None:
        async with condition:
            await condition.wait()

    async with asyncio.TaskGroup() as group:
        group.create_task(wait())
        await asyncio.sleep(0)
        async with condition:
            condition.notify_all()


async def program_that_is_killed() -> None:
    process = await asyncio.create_subprocess_exec("sleep", "0.01")
    try:
        await process.wait()
    finally:
        if process.returncode is None:
            process.kill()
        await process.wait()


GOOD = [
    generator_without_clean_up,
    inner_timeout_that_expires,
    children_cancelled_without_waiting,
    first_of_two,
    producer_and_consumer,
    worker_that_returns_when_called_off,
    thread_that_ends_soon,
    condition_waiter,
]


@pytest.mark.parametrize("fn", GOOD)
def test_no_false_alarm(arun: Run, fn: Any) -> None:
    report: SweepReport = arun(sweep(fn, jobs=2))
    assert report.verdict == "SAFE", str(report)


@pytest.mark.parametrize("fn", [*GOOD, program_that_is_killed])
def test_no_false_alarm_in_process(fn: Any) -> None:
    report = swept(fn, isolate=False)
    assert report.verdict == "SAFE", str(report)


def test_what_a_run_without_a_cancel_leaves_is_no_finding() -> None:
    kept: list[Any] = []

    async def keeps() -> None:
        kept.append(asyncio.create_task(asyncio.sleep(60)))
        kept.append(os.open(os.devnull, os.O_RDONLY))
        await asyncio.sleep(0.001)

    assert swept(keeps, without=("restart",)).verdict == "SAFE"


# --- what is usual, and what comes a moment later


def test_an_orphan_is_seen_beside_a_connection_that_is_usually_left() -> None:
    """A file that stays open is given half a second; the orphan must not have it, too."""
    kept: list[int] = []

    async def orphan() -> None:
        await asyncio.sleep(0.1)

    async def fn() -> None:
        kept.append(os.open(os.devnull, os.O_RDONLY))
        await asyncio.shield(orphan())  # shielded here

    report = swept(fn)
    found = [finding for finding in report.unsafe if finding.oracles == {"tasks"}]
    assert found, str(report)
    assert {finding.at_fault.line for finding in found} == {line_of("shielded here")}


def test_what_is_usually_left_does_not_keep_it_from_being_run_again() -> None:
    kept: list[int] = []
    busy: list[bool] = []

    async def fn() -> None:
        kept.append(os.open(os.devnull, os.O_RDONLY))
        if busy:
            raise RuntimeError("taken")
        busy.append(True)
        await asyncio.sleep(0.001)
        busy.clear()

    report = swept(fn)
    assert phases_of(report) == ["early", "late"]
    assert all(finding.oracles == {"restart"} for finding in report.unsafe), str(report)


def test_what_somebody_else_closes_is_waited_for() -> None:
    async def setup() -> socket.socket:
        given, other = socket.socketpair()
        other.close()
        asyncio.get_running_loop().call_later(0.02, given.close)
        return given

    async def fn(_given: socket.socket) -> None:
        await asyncio.sleep(0.03)

    report = swept(fn, setup=setup)
    assert report.verdict == "SAFE", str(report)


def test_the_fault_is_where_the_awaits_of_the_cancel_and_of_what_hangs_part() -> None:
    class Gate:
        taken = False

        async def enter(self) -> None:
            while self.taken:
                await asyncio.sleep(0.01)
            self.taken = True
            await checkpoint()  # entered here

    async def checkpoint() -> None:
        await asyncio.sleep(0)

    async def setup() -> Gate:
        return Gate()

    async def fn(gate: Gate) -> None:
        await gate.enter()
        gate.taken = False

    report = swept(fn, setup=setup)
    (finding,) = report.unsafe
    assert finding.at.function == "checkpoint"
    assert finding.at_fault.line == line_of("entered here")
    assert finding.oracles == {"restart"}


def test_who_only_passes_on_is_not_at_fault_for_what_is_wrong_afterwards() -> None:
    class Store:
        writes = False

        async def ask(self, what: str) -> None:
            await asyncio.sleep(0)
            if what == "begin":
                if self.writes:
                    raise OSError("it is written to")
                self.writes = True
            elif what == "end":
                self.writes = False

    async def setup() -> Store:
        return Store()

    async def fn(store: Store) -> None:
        await store.ask("begin")
        await store.ask("write")  # begun, and not ended

    async def all_of_it(store: Store) -> None:
        await fn(store)
        await store.ask("end")

    report = swept(all_of_it, setup=setup, phases=("early",))
    faults = {finding.at_fault.line for finding in report.unsafe}
    assert line_of("begun, and not ended") in faults
    assert "ask" not in {finding.at_fault.function for finding in report.unsafe}


def test_who_raises_an_error_again_by_its_name_is_not_at_fault_for_what_is_wrong_afterwards() -> None:
    class Gate:
        taken = False

    async def setup() -> Gate:
        return Gate()

    async def takes(gate: Gate) -> None:
        if gate.taken:
            raise OSError("it is taken")
        gate.taken = True
        await asyncio.sleep(0.001)  # taken, and not given back
        gate.taken = False

    async def tells(gate: Gate) -> None:
        try:
            await takes(gate)
        except OSError as error:
            failed = error
        else:
            return
        raise failed  # the frame stands in the traceback twice

    report = swept(tells, setup=setup)
    assert {finding.at_fault.line for finding in report.unsafe} == {line_of("taken, and not given back")}


def test_a_worker_of_anyio_that_waits_for_its_next_job_is_not_left_behind() -> None:
    anyio = pytest.importorskip("anyio")

    async def fn() -> None:
        try:
            await asyncio.sleep(0.001)
        except asyncio.CancelledError:
            await anyio.to_thread.run_sync(int)  # the first job of this run: its worker stays for the next
            raise

    async def leaves_one() -> None:
        try:
            await asyncio.sleep(0.001)
        except asyncio.CancelledError:
            threading.Thread(target=time.sleep, args=(60,)).start()
            raise

    assert swept(fn, phases=["early"]).verdict == "SAFE"
    assert swept(leaves_one, phases=["early"]).unsafe[0].oracles == {"threads"}


def step(file: str, line: int, function: str) -> Step:
    outside = file.startswith("/")
    return Step(
        file if outside else f"/env/lib/site-packages/{file}" if "/" in file else f"/work/{file}", line, function
    )


def test_who_uses_a_package_with_async_with_is_not_at_fault_for_what_it_keeps() -> None:
    leaves = (step("app.py", 5, "job"), step("pool/client.py", 40, "__aexit__"), step("pool/wire.py", 3, "read"))
    point = Point("", leaves, 1)
    entered = (step("app.py", 6, "job"), step("pool/client.py", 20, "watch"))
    assert at_fault(point, entered) == leaves[1]
    assert at_fault(point, (step("app.py", 5, "job"), step("pool/client.py", 20, "__aenter__"))) == leaves[1]
    closes = (step("app.py", 7, "job"), step("pool/client.py", 60, "close"), step("pool/wire.py", 3, "read"))
    assert at_fault(Point("", closes, 1), entered) == closes[1]
    of_another = (step("app.py", 4, "job"), step("other/slots.py", 9, "take"))
    assert at_fault(Point("", closes, 1), of_another) == closes[0]
    assert at_fault(point, of_another) == leaves[0]  # taken by the caller, who does not give it back
    own = (leaves[0], step("app.py", 30, "__aexit__"))
    assert at_fault(Point("", own, 1), (step("app.py", 4, "job"), step("app.py", 9, "take"))) == own[0]


def test_what_is_left_while_a_child_waits_that_did_not_make_it_is_for_where_the_function_is() -> None:
    main = step("app.py", 3, "job"), step(asyncio.tasks.__file__, 600, "sleep")
    child = Point("work", (step("app.py", 20, "work"),), 1)
    assert at_fault(child, (step("app.py", 2, "job"), step("app.py", 9, "start")), main=main) == main[0]
    assert at_fault(child, (step("app.py", 19, "work"), step("app.py", 30, "open")), main=main) == child.stack[0]
    of_another = (step("app.py", 5, "other"), step("app.py", 9, "start"))
    assert at_fault(child, of_another, main=main) == main[0]
    assert at_fault(child, of_another) == at_fault(child, of_another, main=main, raised=True) == of_another[-1]
    of_python = Point("communicate", (step(asyncio.streams.__file__, 539, "read"),), 1)
    assert at_fault(of_python, (), main=main) == main[0]
    assert at_fault(Point("unknown", (), 1), (), main=main) == main[0]


def test_a_second_cancel_reaches_the_tasks_that_clean_up() -> None:
    class Slots:
        free = 2

        async def give_back(self) -> None:
            await asyncio.sleep(0.002)  # given back one by one
            self.free += 1

    async def setup() -> Slots:
        return Slots()

    async def fn(slots: Slots) -> None:
        if slots.free < 2:
            raise OSError(f"{slots.free} of 2 are free")
        slots.free = 0
        try:
            await asyncio.sleep(0.001)
        finally:
            async with asyncio.TaskGroup() as group:
                for _ in range(2):
                    group.create_task(slots.give_back())

    report = swept(fn, setup=setup, phases=("double",))
    seen = {(finding.at_fault.line, finding.task) for finding in report.unsafe}
    assert (line_of("given back one by one"), f"{test_a_second_cancel_reaches_the_tasks_that_clean_up.__name__}") in {
        (line, task.partition(".")[0]) for line, task in seen
    }
