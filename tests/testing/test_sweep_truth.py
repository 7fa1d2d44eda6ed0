"""A SAFE that is none, an UNSAFE that is none: what the verdict may say, and what it must say beside."""

import asyncio
import os
import struct
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from calloff.testing import SweepReport, sweep
from calloff.testing._sweep import blocked, clock, opened, quiet, sweeping
from calloff.testing._sweep.attempts import Attempts
from calloff.testing._sweep.case import Result
from calloff.testing._sweep.clock import Clock, clock_of, standing
from calloff.testing._sweep.course import Course, current_course
from calloff.testing._sweep.noise import heard
from calloff.testing._sweep.plan import Plan
from calloff.testing._sweep.points import stack_of, whose
from calloff.testing._sweep.settling import Leftovers


def swept(fn: Any, **options: Any) -> SweepReport:
    return asyncio.run(sweep(fn, **{"jobs": 2, **options}))


# --- a slot that is gone without a trace


class Slot:
    def __init__(self) -> None:
        self.free = 1

    async def use(self) -> None:
        while not self.free:
            await asyncio.sleep(0.001)
        self.free -= 1
        await asyncio.sleep(0)  # the gap
        self.free += 1


async def slot() -> Slot:
    return Slot()


@pytest.mark.parametrize("before", [0, 1])
def test_it_is_run_again_after_every_cancel_however_many_there_are(before: int) -> None:
    async def job(slot: Slot) -> None:
        for _ in range(before):
            await asyncio.sleep(0)
        await slot.use()
        for _ in range(61):
            await asyncio.sleep(0)

    report = swept(job, setup=slot, phases=("early",), isolate=False)
    assert [finding.at.source for finding in report.unsafe] == ["await asyncio.sleep(0)  # the gap"]


async def one_item() -> "asyncio.Queue[int]":
    queue: asyncio.Queue[int] = asyncio.Queue()
    asyncio.get_running_loop().call_later(0.002, queue.put_nowait, 1)
    return queue


async def take(queue: "asyncio.Queue[int]") -> None:
    await queue.get()


def test_what_can_not_be_run_twice_is_told() -> None:
    report = swept(take, setup=one_item)
    assert report.verdict == "SAFE"
    assert "without a cancel, it hangs at test_sweep_truth.py" in report.not_tried["restart"]
    assert report.to_json()["not_tried"] == report.not_tried
    assert "not tried: restart: it can't be run twice" in str(report)
    assert str(report).splitlines()[-1].startswith("SAFE: 1 await point, 5 runs, 0 unsafe, restart not tried in")
    assert report.seconds < 60  # the limit of a second run is made of the first one's time, not 5 s


def test_where_a_suite_lets_nobody_block_the_sweep_may(monkeypatch: pytest.MonkeyPatch) -> None:
    def blocks(*_: Any) -> Any:
        raise RuntimeError("Blocking call")

    reader, writer = os.pipe()
    monkeypatch.setattr(blocked, "_writer", writer)
    monkeypatch.setattr(os, "write", blocks)
    monkeypatch.setattr(time, "sleep", blocks)
    blocked.within(2.0)
    quiet._sleep(0)
    assert os.read(reader, 4) == struct.pack("!I", blocked.LIMIT | 2000)
    for end in (reader, writer):
        os.close(end)


# --- a fault that is the same in each run


def test_tasks_that_are_left_are_told_in_the_order_in_which_they_were_started() -> None:
    async def forgetful() -> None:
        kept = [asyncio.create_task(make()) for make in WAITS]
        await asyncio.sleep(0)
        for task in kept:
            task.cancel()

    report = swept(forgetful, phases=("early",), isolate=False)
    (finding,) = (finding for finding in report.unsafe if not finding.task)
    told = [item.text.split()[2] for item in finding.violations]
    assert told == [make.__qualname__ for make in WAITS]


def waits() -> list[Any]:
    def made(number: int) -> Any:
        async def wait() -> None:
            await asyncio.sleep(60)

        wait.__qualname__ = f"wait_{number}"
        return wait

    return [made(number) for number in range(12)]


WAITS = waits()


# --- what the sweep itself has done


def test_where_a_suite_lets_nobody_block_what_is_opened_may_be_noted(monkeypatch: pytest.MonkeyPatch) -> None:
    def refused(*_given: object) -> None:
        raise AssertionError("a blocking call")

    for owner, name in ((os.path, "abspath"), (os, "getcwd"), (os.path, "realpath")):
        monkeypatch.setattr(owner, name, refused)
    token = current_course.set(Course(None, print))
    try:
        opened._heard("open", ("somewhere", "r", 0))
        opened._heard("open", ("/else/./where", "r", 0))
    finally:
        current_course.reset(token)
    assert "/else/where" in opened._files
    assert f"{opened._getcwd()}/somewhere" in opened._files


def test_what_a_coroutine_says_that_the_sweep_gave_up_is_no_complaint() -> None:
    async def main() -> list[str]:
        loop = asyncio.get_running_loop()
        with heard(loop, Course(None, print)) as complaints:
            for error in (GeneratorExit(), ValueError()):
                loop.call_exception_handler({"message": "Future exception was never retrieved", "exception": error})
        return [item.text for item in complaints]

    assert asyncio.run(main()) == ["Future exception was never retrieved: ValueError()"]


# --- a world whose set-up has timed something


def test_no_time_of_the_world_passes_while_the_sweep_looks(monkeypatch: pytest.MonkeyPatch) -> None:
    look, passed = Leftovers._look_again, []

    def slowly(self: Leftovers, course: Any) -> bool:
        loop = asyncio.get_running_loop()
        before = loop.time()
        time.sleep(0.01)
        passed.append(loop.time() - before)
        return look(self, course)

    async def turn() -> None:
        await asyncio.sleep(0)

    monkeypatch.setattr(Leftovers, "_look_again", slowly)
    assert swept(turn, isolate=False).verdict == "SAFE"
    assert set(passed) == {0.0}


def test_a_clock_that_was_stopped_goes_on_where_it_was() -> None:
    async def main() -> None:
        loop = asyncio.get_running_loop()
        clock, rung = Clock(loop), asyncio.Event()
        began = loop.time()
        clock.stop()
        loop.call_at(began + 0.02, rung.set)
        time.sleep(0.05)
        for _ in range(5):
            await asyncio.sleep(0)
        assert not rung.is_set()
        clock.go_on()
        await rung.wait()
        clock.end()
        assert loop.time() - began >= 0.05

    asyncio.run(main())


def test_the_time_of_a_loop_that_does_not_run_stands(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(asyncio.BaseEventLoop, "run_forever", standing(asyncio.BaseEventLoop.run_forever))

    async def now() -> float:
        return asyncio.get_running_loop().time()

    with asyncio.Runner(loop_factory=asyncio.SelectorEventLoop) as runner:
        before = runner.run(now())
        assert clock_of(runner.get_loop()).is_real
        stood = runner.get_loop().time()
        time.sleep(0.5)
        assert runner.get_loop().time() == stood >= before
        assert runner.run(now()) - stood < 0.5


def test_time_for_which_the_machine_gave_no_turn_does_not_count_up_to_a_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    real, waits = 100.0, 7.0
    monkeypatch.setattr(clock, "is_alone", lambda: True)
    monkeypatch.setattr(clock, "_waited", lambda: waits)
    monkeypatch.setattr(clock, "time", SimpleNamespace(monotonic=lambda: real))
    loop = asyncio.SelectorEventLoop()
    made = Clock(loop)
    real, waits = 100.5, 7.25
    assert loop.time() == 100.25
    assert made.outside() == 100.5
    real, waits = 100.5, 7.5  # it was taken away in between: no time goes back
    assert loop.time() == 100.25
    real, waits = 105.0, 12.0
    assert loop.time() == 104.0
    vars(loop).pop("time")
    loop.close()


# --- a reply that comes too late


class Connections:
    """Keeps connections; one on which something has come in that nobody asked for is dropped."""

    server: asyncio.Server
    port: int

    def __init__(self, careful: bool) -> None:
        self.careful = careful
        self.idle: list[tuple[asyncio.StreamReader, asyncio.StreamWriter]] = []

    async def ask(self, text: str) -> str:
        reader, writer = await self.take()
        writer.write(f"{text}\n".encode())
        whole = False
        try:
            found = (await reader.readline()).decode()
            whole = True
        finally:
            if whole or not self.careful:
                self.idle.append((reader, writer))
            else:
                writer.close()
        return found

    async def take(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        while self.idle:
            reader, writer = self.idle.pop()
            if not reader._buffer:  # type: ignore[attr-defined]
                return reader, writer
            writer.close()
        return await asyncio.open_connection("127.0.0.1", self.port)

    async def close(self) -> None:
        self.server.close()
        for _, writer in self.idle:
            writer.close()

    @classmethod
    async def make(cls, careful: bool) -> "Connections":
        async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            while line := await reader.readline():
                writer.write(line)
            writer.close()

        self = cls(careful)
        self.server = await asyncio.start_server(serve, "127.0.0.1", 0)
        self.port = self.server.sockets[0].getsockname()[1]
        await self.ask("warm")
        return self


async def careless() -> Connections:
    return await Connections.make(careful=False)


async def careful() -> Connections:
    return await Connections.make(careful=True)


async def ask(connections: Connections) -> str:
    return await connections.ask("one") + await connections.ask("two")


def test_a_server_at_hand_does_not_hide_a_reply_that_is_left_behind() -> None:
    report = swept(ask, setup=careless, teardown=Connections.close, phases=("early",))
    (finding,) = {finding.at.source: finding for finding in report.unsafe}.values()
    assert finding.at.source == "found = (await reader.readline()).decode()"
    assert finding.oracles == {"restart"}
    assert "with what comes in 20 ms away, it returns" in finding.violations[0].text
    assert swept(ask, setup=careful, teardown=Connections.close, phases=("early",)).verdict == "SAFE"


# --- random names


def left_open(name: Callable[[], str]) -> Any:
    async def fn() -> None:
        kept.append(open(name(), "w"))  # noqa: SIM115
        await asyncio.sleep(0.001)

    return fn


kept: list[Any] = []


def random_name() -> str:
    handle, name = tempfile.mkstemp()
    os.close(handle)
    os.remove(name)
    return name


def test_a_file_with_a_random_name_that_is_always_left_open_is_no_finding() -> None:
    assert swept(left_open(random_name)).verdict == "SAFE"

    async def for_the_collector() -> None:
        open(random_name(), "w").write("x")  # noqa: SIM115
        await asyncio.sleep(0.001)

    assert swept(for_the_collector).verdict == "SAFE"


def test_a_second_file_of_the_same_kind_is_one() -> None:
    async def fn() -> None:
        kept.append(open(random_name(), "w"))  # noqa: SIM115
        file = open(random_name(), "w")  # noqa: SIM115
        kept.append(file)
        await asyncio.sleep(0.001)
        file.close()

    assert {oracle for finding in swept(fn).unsafe for oracle in finding.oracles} == {"files"}


# --- what is not the function's doing


async def future() -> "asyncio.Future[int]":
    made = asyncio.get_running_loop().create_future()
    asyncio.get_running_loop().call_later(0.002, lambda: made.done() or made.set_result(1))  # type: ignore[func-returns-value]
    return made


async def await_it(future: "asyncio.Future[int]") -> int:
    return await future


@pytest.mark.parametrize("role", ["teardown", "check"])
def test_a_helper_that_meets_a_cancelled_future_is_told_by_its_name(role: str) -> None:
    report = swept(await_it, setup=future, phases=("early",), without=("restart",), **{role: await_it})
    (finding,) = report.unsafe
    assert finding.oracles == {role}
    assert "CancelledError" in finding.violations[0].text


@pytest.mark.parametrize("left", [0, 2, 4])
def test_no_process_for_a_run_is_an_error_not_a_finding(left: int, monkeypatch: pytest.MonkeyPatch) -> None:
    real, forks = os.fork, 0

    def fork() -> int:
        nonlocal forks
        forks += 1
        if forks > left:
            raise BlockingIOError(11, "Resource temporarily unavailable")
        return real()

    async def fn() -> None:
        await asyncio.sleep(0)
        await asyncio.sleep(0)

    monkeypatch.setattr(os, "fork", fork)
    report = swept(fn, jobs=1)
    assert report.verdict == "ERROR"
    assert report.findings == ()
    assert "no process could be started for" in report.error
    assert report.exit_status == 2


def test_a_lost_server_of_runs_is_an_error(tmp_path: Path) -> None:
    async def fn() -> None:
        with open(tmp_path / "runs", "a") as file:
            file.write(".")
            if file.tell() == 3:
                os.kill(os.getppid(), 9)
        await asyncio.sleep(0.01)

    report = swept(fn, jobs=1)
    assert report.verdict == "ERROR"
    assert report.error == "the process that keeps the runs apart has ended"


async def counts_its_own_cancel() -> None:
    task = asyncio.current_task()
    assert task is not None
    await asyncio.sleep(0)
    task.cancel()
    try:
        await asyncio.sleep(0)
    except asyncio.CancelledError:
        pass  # never uncancelled: it ends with cancelling() == 1 without the sweep, too


def test_a_function_that_usually_cancels_itself_may_be_called_off_before_it_does() -> None:
    report = swept(counts_its_own_cancel, phases=("early",), without=("obeyed",))
    assert "cancelling" not in {oracle for finding in report.findings for oracle in finding.oracles}


class Scripted:
    """A place that gives what it is told."""

    def __init__(self, *violations: list[tuple[str, str]]) -> None:
        self.violations = list(violations)

    async def ask(self, order: Any, /) -> Result:
        found = self.violations.pop(0)
        return Result(order[0], fired=True, violations=found, made=[()] * len(found))

    def close(self) -> None: ...


def test_a_second_run_that_a_busy_machine_makes_slow_does_not_hang() -> None:
    """It goes on step by step, and comes to its end behind the second that it has at least."""
    cancelled: list[bool] = []

    async def fn() -> None:
        try:
            for _ in range(12):
                await asyncio.sleep(0.0001)
                if cancelled:
                    time.sleep(0.1)  # what others take of the processor
        except asyncio.CancelledError:
            cancelled.append(True)
            raise

    report = asyncio.run(sweep(fn, phases=("early",), max_runs=1))
    assert report.verdict == "SAFE", str(report)


def one_await(cancelled: list[bool]) -> Callable[[], Awaitable[None]]:
    """A function with one await, which notes that it was called off there."""

    async def fn() -> None:
        try:
            await asyncio.sleep(0.0001)
        except asyncio.CancelledError:
            cancelled.append(True)
            raise

    return fn


def test_a_bystander_that_a_busy_machine_makes_slow_does_not_hang() -> None:
    """It goes on step by step, in a task of its own, and comes to its end behind the second that it has at least."""
    cancelled: list[bool] = []

    async def steps() -> None:
        for _ in range(12):
            await asyncio.sleep(0.0001)
            if cancelled:
                time.sleep(0.1)  # what others take of the processor

    async def beside() -> None:
        await asyncio.create_task(steps())

    report = asyncio.run(sweep(one_await(cancelled), bystander=beside, phases=("early",)))
    assert report.verdict == "SAFE", str(report)


def test_a_bystander_that_makes_step_after_step_for_ever_is_told() -> None:
    cancelled: list[bool] = []

    async def polls() -> None:
        await asyncio.sleep(0.001)
        while cancelled:
            await asyncio.sleep(0.001)

    report = asyncio.run(sweep(one_await(cancelled), bystander=polls, phases=("early",), timeout=2))
    assert {finding.oracles for finding in report.unsafe} == {frozenset({"bystander"})}, str(report)


@pytest.mark.parametrize(("second", "verdict"), [("hangs", "UNRESOLVED"), ("ok", "UNSAFE")])
def test_a_second_run_that_fails_without_a_cancel_too_is_not_held_against_it(second: str, verdict: str) -> None:
    from calloff.testing._sweep.plan import Plan
    from calloff.testing._sweep.points import Point, Step
    from calloff.testing._sweep.whole import make_case

    async def fn() -> None: ...

    class Late(Scripted):
        async def ask(self, order: Any, /) -> Result:
            if order[0] is None:
                return Result(None, ending="returned", restart=second)
            return await super().ask(order)

    found = sweeping.Sweeping(make_case(fn, None, None, None, None, 1, True, "cancel", ()))
    plan = Plan("early", Point("", (Step(__file__, 1, "fn"),), 1))
    asyncio.run(found._carry_out([Late([("restart", "it hangs")], [("restart", "it hangs")])], [plan], Result()))
    report = found._report()
    assert report.verdict == verdict
    if verdict == "UNRESOLVED":
        assert "without any cancel, too: it hangs" in report.findings[0].violations[-1].text


@pytest.mark.parametrize(("second", "unsure"), [("hangs", True), ("ok", False)])
async def test_a_call_that_fails_now_without_a_cancel_too_is_not_held_against_it(second: str, unsure: bool) -> None:
    answers = iter(["ok", "ok", second])

    class Late(Scripted):
        async def ask(self, order: Any, /) -> Result:
            if order[0].phase == "after":
                return Result(order[0], restart=next(answers))
            return await super().ask(order)

    attempts: Any = Attempts(SimpleNamespace(oracles={"restart"}, how="cancel"), late=False, known=lambda *_: False)  # type: ignore[arg-type]
    plan, usual, hangs = Plan("early", SimpleNamespace(owner=""), again="get"), Result(None), [("restart", "it hangs")]  # type: ignore[arg-type]
    place = Late(hangs, hangs)
    found = await attempts.carry_out(place, plan, usual)
    found = await attempts.look_into(place, plan, usual, found)
    assert bool(found.unsure) is unsure


@pytest.mark.parametrize(("oracle", "verdict"), [("restart", "UNRESOLVED"), ("threads", "SAFE")])
def test_a_hang_seen_once_in_three_runs_is_kept_with_its_evidence(oracle: str, verdict: str) -> None:
    from calloff.testing._sweep.plan import Plan
    from calloff.testing._sweep.points import Point, Step
    from calloff.testing._sweep.whole import make_case

    async def fn() -> None: ...

    case = make_case(fn, None, None, None, None, 1, True, "cancel", ())
    found = sweeping.Sweeping(case)
    plan = Plan("early", Point("", (Step(__file__, 1, "fn"),), 1))
    place = Scripted([(oracle, "it hangs")], [], [])
    asyncio.run(found._carry_out([place], [plan], Result()))
    report = found._report()
    assert report.verdict == verdict
    if verdict == "UNRESOLVED":
        assert [item.text for item in report.findings[0].violations] == ["it hangs", "this was seen in 1 of 3 runs"]


# --- whose code


def test_compiled_code_and_what_lies_elsewhere_is_not_yours(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert whose(__file__) == "yours"
    assert whose(asyncio.locks.__file__) == "python"
    assert whose("driver/protocol/protocol.pyx") == "library"
    from calloff.testing._sweep import points

    monkeypatch.setattr(points, "_editable", lambda: (f"{tmp_path}{os.sep}",))
    module = tmp_path / "module.py"
    module.write_text("")
    assert whose(str(module)) == "library", "a package that is installed as it lies there"
    monkeypatch.chdir(tmp_path)
    assert whose(str(module)) == "yours", "one that is being worked on"


def test_a_second_cancel_is_not_blamed_for_what_the_first_alone_does() -> None:
    async def setup() -> asyncio.Semaphore:
        return asyncio.Semaphore(1)

    async def fn(slots: asyncio.Semaphore) -> None:
        await asyncio.wait_for(slots.acquire(), 0.2)
        try:
            await asyncio.sleep(0)  # the fault: a cancel here keeps the slot
        except asyncio.CancelledError:
            await asyncio.sleep(0)
            raise
        slots.release()

    report = swept(fn, setup=setup)
    assert report.verdict == "UNSAFE"
    assert "double" not in {finding.phase for finding in report.findings}
    only_doubles = swept(fn, setup=setup, phases=("double",))
    assert [finding.phase for finding in only_doubles.findings] == ["double"]


async def closes_late() -> None:
    await asyncio.sleep(0)
    await asyncio.sleep(0)


def test_a_failure_that_nobody_looked_at_is_held_against_who_started_the_task() -> None:
    async def fails() -> None:
        await asyncio.sleep(0)
        raise OSError("closed")

    async def starts() -> None:
        task = asyncio.ensure_future(fails())
        await closes_late()
        await asyncio.wait({task})
        assert task.exception()

    report = swept(starts, phases=("early",), children=False)
    assert {finding.at_fault.function for finding in report.unsafe} == {"starts"}
    assert "closes_late" in {finding.at.function for finding in report.unsafe}
    assert {oracle for finding in report.unsafe for oracle in finding.oracles} == {"unawaited"}


def test_what_a_task_that_was_left_holds_is_not_told_beside_it() -> None:
    async def setup() -> asyncio.Lock:
        return asyncio.Lock()

    async def holds(lock: asyncio.Lock) -> None:
        async with lock:
            await asyncio.sleep(30)

    async def leaves(lock: asyncio.Lock) -> None:
        task = asyncio.ensure_future(holds(lock))
        await asyncio.sleep(0.001)
        task.cancel()
        await asyncio.wait({task})

    report = swept(leaves, setup=setup, phases=("early",), children=False)
    assert {oracle for finding in report.unsafe for oracle in finding.oracles} == {"tasks"}
    assert {finding.at_fault.function for finding in report.unsafe} == {"leaves"}


def test_a_coroutine_that_nobody_awaited_is_held_against_who_made_it() -> None:
    async def part() -> None:
        await asyncio.sleep(0)

    async def makes() -> None:
        parts = [part(), part()]
        await closes_late()
        for one in parts:
            await one

    report = swept(makes, phases=("early",))
    (text,) = {violation.text for finding in report.unsafe for violation in finding.violations}
    assert text.endswith("part' was never awaited")
    assert {finding.at_fault.function for finding in report.unsafe} == {"makes"}
    assert "closes_late" in {finding.at.function for finding in report.unsafe}


def test_where_coroutines_are_made_is_kept_only_once_one_was_not_awaited() -> None:
    depths: list[int] = []

    async def part() -> None:
        await asyncio.sleep(0)

    async def noting(parts: bool) -> None:
        depths.append(sys.get_coroutine_origin_tracking_depth())
        made = [part(), part()] if parts else []
        await closes_late()
        for one in made:
            await one

    assert swept(partial(noting, False), phases=("early",), isolate=False, jobs=1).verdict == "SAFE"
    assert len(depths) > 2
    assert not any(depths)
    depths.clear()
    assert swept(partial(noting, True), phases=("early",), isolate=False, jobs=1).verdict == "UNSAFE"
    first = next(number for number, depth in enumerate(depths) if depth)
    assert all(depths[first:])
    assert len(depths[first:]) > 2


async def test_the_stack_of_new_code_is_its_own() -> None:
    for number in range(200):  # the next one may lie where the last one did
        known: dict[str, Any] = {}
        exec(compile("async def fn(one): await one()", f"made-{number}.py", "exec"), known)
        coro = known.pop("fn")(partial(asyncio.sleep, 0))
        coro.send(None)
        assert stack_of(coro)[0].file == f"made-{number}.py"
        assert stack_of(coro) is stack_of(coro)
        coro.close()
        del coro, known


def test_an_error_of_a_child_in_a_group_is_held_against_where_the_child_raised_it() -> None:
    async def child() -> None:
        napped = False
        try:
            await asyncio.sleep(0)
            napped = True
        finally:
            assert napped, "no nap"

    async def inner() -> None:
        async with asyncio.TaskGroup() as group:
            group.create_task(child())

    async def outer() -> None:
        async with asyncio.TaskGroup() as group:
            group.create_task(inner())
            await asyncio.sleep(0)

    report = swept(outer, phases=("early",))
    assert {finding.at_fault.function for finding in report.unsafe} == {"child"}
    texts = {violation.text for finding in report.unsafe for violation in finding.violations}
    assert all("of AssertionError: no nap" in text for text in texts), texts


def test_an_error_of_a_child_that_was_not_called_off_is_held_against_the_line_that_raised_it() -> None:
    async def reads(closed: list[str]) -> None:
        while not closed:
            await asyncio.sleep(0)
        if closed[0] != "done":
            raise OSError("closed under it")

    async def through() -> None:
        closed: list[str] = []
        task = asyncio.ensure_future(reads(closed))
        try:
            await asyncio.sleep(0)
            closed.append("done")
        except asyncio.CancelledError:
            closed.append("left")
            raise
        finally:
            results = await asyncio.gather(task, return_exceptions=True)
            errors = [result for result in results if isinstance(result, Exception)]
            if errors:
                raise ExceptionGroup("both", errors)

    report = swept(through, phases=("early",), children=False)
    assert {finding.at_fault.function for finding in report.unsafe} == {"reads"}


@pytest.mark.parametrize(("said", "may"), [(["hung", "ok"], True), (["hung", "hung", "ok"], False)])
async def test_a_call_that_a_busy_machine_spoils_once_is_still_made_again(said: list[str], may: bool) -> None:
    answers = iter(said)

    class Place:
        async def ask(self, asked: Any) -> Result:
            return Result(asked[0], restart=next(answers))

    attempts: Any = Attempts(SimpleNamespace(oracles={"restart"}), late=False, known=lambda *_: False)  # type: ignore[arg-type]
    plan = Plan("early", None, again="get")  # type: ignore[arg-type]
    for _ in range(2):  # the second answer is the first one's
        assert await attempts._may_call_again(Place(), plan, Result(None)) is may
    assert attempts.runs == 2
    told = attempts.not_tried({"timers": "not shown"})
    assert told["timers"] == "not shown"
    assert told.get("restart", "") == (
        "" if may else "get can't be called again in the same world: without a cancel, it hung"
    )
