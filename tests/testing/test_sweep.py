"""The sweep itself: its phases, verdicts, ids, and what it must not complain of."""

import asyncio
import contextlib
import os
import re
import sqlite3
import sys
import threading
import time
import types
from collections.abc import Callable, Generator
from pathlib import Path
from typing import Any

import pytest

from calloff.testing import SweepReport, sweep
from calloff.testing._sweep.points import is_handling

Run = Callable[..., Any]


def swept(fn: Any, **options: Any) -> SweepReport:
    return asyncio.run(sweep(fn, **options))


def phases_of(report: SweepReport) -> list[str]:
    return sorted(finding.phase for finding in report.unsafe)


def line_of(text: str) -> int:
    """The number of the line of this file that ends with the mark."""
    lines = Path(__file__).read_text().splitlines()
    return next(number for number, line in enumerate(lines, 1) if line.endswith(f"# {text}"))


# --- what a sweep is


async def three_awaits() -> str:
    await asyncio.sleep(0.001)
    await asyncio.sleep(0.001)
    try:
        await asyncio.sleep(0.001)
    finally:
        await asyncio.sleep(0)
    return "value"


def test_each_await_is_tried_in_each_phase() -> None:
    report = swept(three_awaits)
    assert report.verdict == "SAFE", str(report)
    assert report.exit_status == 0
    assert report.points == 4
    # 2 without a cancel, 1 before, 4 early, 3 late (a bare yield has no result to lose), 1 double in the clean-up
    assert report.runs == 2 + 1 + 4 + 3 + 1, str(report)
    report.assert_safe()
    assert "4 await points" in str(report)


def test_an_object_that_lets_nobody_look_at_it_keeps_no_sweep_up() -> None:
    class Unbound:
        def __getattribute__(self, name: str) -> Any:
            raise RuntimeError("there is nothing behind it")

    kept = [Unbound()]
    assert swept(three_awaits).verdict == "SAFE"
    assert len(kept) == 1


def test_the_phases_can_be_chosen() -> None:
    assert swept(three_awaits, phases=("early",)).runs == 2 + 4
    assert swept(three_awaits, phases=("late",)).runs == 2 + 3
    assert swept(three_awaits, phases=("before",)).runs == 2 + 1


def test_the_number_of_cancels_can_be_limited() -> None:
    async def loop() -> None:
        for _ in range(50):
            await asyncio.sleep(0.0001)
        await asyncio.sleep(0)

    report = swept(loop, max_runs=5)
    assert report.runs == 2 + 5, str(report)
    assert report.points == 51
    assert report.skipped == 1 + 50 + 50 + 1 - 5
    assert "cancels not tried" in str(report)


async def swallows() -> None:
    try:
        await asyncio.sleep(0.001)  # swallowed here
    except asyncio.CancelledError:
        pass


@pytest.mark.parametrize("isolate", [True, False])
@pytest.mark.parametrize("how", ["cancel", "deadline", "operation"])
def test_a_swallowed_cancel_is_found(arun: Run, loop_kind: str, how: str, isolate: bool) -> None:
    report: SweepReport = arun(sweep(swallows, how=how, isolate=isolate))
    assert phases_of(report) == ["early", "late"]
    for finding in report.findings:
        assert finding.at.line == line_of("swallowed here")
        assert finding.at_fault.function == "swallows"
        assert finding.oracles == {"obeyed"}
    before = 0 if how == "deadline" or loop_kind == "eager" else 1
    assert report.runs >= 2 + before + 2


@pytest.mark.parametrize("isolate", [True, False])
@pytest.mark.parametrize("how", ["cancel", "deadline", "operation"])
def test_good_code_is_safe(arun: Run, how: str, isolate: bool) -> None:
    async def child(lock: asyncio.Lock) -> int:
        async with lock:
            await asyncio.sleep(0.001)
        return 1

    async def good() -> int:
        lock = asyncio.Lock()
        async with asyncio.timeout(1), asyncio.TaskGroup() as group:
            for _ in range(2):
                group.create_task(child(lock))
        return sum(await asyncio.gather(child(lock), child(lock)))

    report: SweepReport = arun(sweep(good, how=how, isolate=isolate))
    assert report.verdict == "SAFE", str(report)


async def leaves_a_cancel_behind() -> None:
    """As a scope of anyio 4.3.0 did, with another in it, when its time was over."""
    await cancels_itself()
    await asyncio.sleep(0.001)  # a deadline here comes out as a cancel


async def cancels_itself() -> None:
    task = asyncio.current_task()
    assert task is not None
    task.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await asyncio.sleep(0)


async def takes_its_cancel_back() -> None:
    await cancels_itself()
    task = asyncio.current_task()
    assert task is not None
    task.uncancel()
    await asyncio.sleep(0.001)  # a deadline here comes out as it is


def test_a_deadline_that_comes_out_as_a_cancel_is_found() -> None:
    report = swept(leaves_a_cancel_behind, how="deadline")
    found = {finding.at.line for finding in report.unsafe if finding.oracles == {"cancelling"}}
    assert line_of("a deadline here comes out as a cancel") in found, str(report)
    assert "its deadline came out as CancelledError" in str(report)
    after = swept(takes_its_cancel_back, how="deadline")
    assert line_of("a deadline here comes out as it is") not in {finding.at.line for finding in after.unsafe}, str(
        after
    )


def test_the_json_document_is_as_documented() -> None:
    document = swept(swallows).to_json()
    assert set(document) == {"verdict", "points", "runs", "python", "packages", "findings"}
    assert document["verdict"] == "UNSAFE"
    assert document["python"] == ".".join(map(str, sys.version_info[:3]))
    finding = document["findings"][0]
    assert set(finding) == {"id", "phase", "verdict", "await", "stack", "at_fault", "violations"}
    assert set(finding["await"]) == {"file", "line", "function", "source"}
    assert finding["await"]["file"] == __file__
    assert finding["await"]["source"].startswith("await asyncio.sleep(0.001)")
    assert finding["at_fault"]["whose"] == "yours"
    assert finding["violations"][0]["oracle"] == "obeyed"
    assert finding["stack"][0]["function"] == "swallows"


# --- verdicts


def test_what_fails_without_a_cancel_is_an_error() -> None:
    async def fails() -> None:
        await asyncio.sleep(0)
        raise ValueError("no")

    report = swept(fails)
    assert (report.verdict, report.exit_status) == ("ERROR", 2)
    assert "ValueError: no" in str(report)
    with pytest.raises(AssertionError, match="ValueError: no"):
        report.assert_safe()


def test_a_set_up_that_fails_is_an_error() -> None:
    async def setup() -> None:
        raise OSError("no server")

    async def fn(_world: None) -> None: ...

    report = swept(fn, setup=setup)
    assert report.verdict == "ERROR"
    assert "the set-up failed: OSError: no server" in report.error


def test_what_never_ends_without_a_cancel_is_an_error() -> None:
    async def hangs() -> None:
        await asyncio.Event().wait()

    report = swept(hangs, timeout=0.2)
    assert report.verdict == "ERROR"
    assert "did not end within 0.2 s: it waits at test_sweep.py" in report.error


def test_a_point_that_does_not_come_again_is_unresolved(tmp_path: Path) -> None:
    runs = tmp_path / "runs"

    async def fickle() -> None:
        with open(runs, "a") as file:
            file.write("x")
        if runs.stat().st_size <= 4:  # two runs, each of them twice
            await asyncio.sleep(0)
        await asyncio.sleep(0.001)

    report = swept(fickle)
    assert (report.verdict, report.exit_status) == ("UNRESOLVED", 3)
    assert [(finding.verdict, finding.phase) for finding in report.findings] == [("UNRESOLVED", "early")]
    assert "did not come again" in str(report)


def test_a_later_coming_of_the_same_await_need_not_come_again(tmp_path: Path) -> None:
    runs = tmp_path / "runs"

    async def fickle() -> None:
        with open(runs, "a") as file:
            file.write("x")
        for _ in range(3 if runs.stat().st_size <= 4 else 2):
            await asyncio.sleep(0.001)

    assert swept(fickle).verdict == "SAFE"


# --- runs that must be ended from outside


def test_a_blocked_loop_is_killed_and_its_line_told() -> None:
    async def blocks() -> None:
        try:
            await asyncio.sleep(0.001)
        except asyncio.CancelledError:
            while True:
                time.sleep(0.01)  # blocked here

    report = swept(blocks, timeout=0.2, phases=("early",))
    assert report.verdict == "UNSAFE"
    (finding,) = report.findings
    assert finding.oracles == {"ended"}
    assert f"line {line_of('blocked here')} in blocks" in finding.violations[0].text


def test_a_run_that_ends_its_process_is_a_finding() -> None:
    async def exits() -> None:
        try:
            await asyncio.sleep(0.001)
        except asyncio.CancelledError:
            os._exit(7)

    report = swept(exits, phases=("early",))
    assert report.verdict == "UNSAFE"
    assert "status 7" in report.findings[0].violations[0].text


@pytest.mark.parametrize("isolate", [True, False])
def test_a_loop_that_eats_every_cancel_is_ended(isolate: bool) -> None:
    async def eats() -> None:
        done = 0
        while done < 3:
            try:
                await asyncio.sleep(0.001)
                done += 1 if done < 3 else 0
            except asyncio.CancelledError:
                done = -(10**9)

    report = swept(eats, isolate=isolate, phases=("early",), timeout=1.0)
    assert report.verdict == "UNSAFE"
    assert all("swallowed the cancel and went on" in f.violations[0].text for f in report.findings)


def test_when_the_sweep_is_called_off_its_processes_go() -> None:
    def children() -> set[str]:
        return set(Path(f"/proc/self/task/{threading.get_native_id()}/children").read_text().split())

    async def slow() -> None:
        await asyncio.sleep(60)

    async def main() -> None:
        before = children()
        task = asyncio.create_task(sweep(slow, timeout=60, jobs=2))
        while len(children() - before) < 2:
            await asyncio.sleep(0.01)
        await asyncio.sleep(0.05)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert children() == before

    asyncio.run(main())


# --- ids


def test_one_cancel_can_be_replayed() -> None:
    report = swept(swallows)
    for finding in report.findings:
        again = swept(swallows, replay=finding.id)
        assert [other.id for other in again.findings] == [finding.id]
        assert again.runs == 3


def test_a_double_can_be_replayed() -> None:
    async def fn(slots: asyncio.Semaphore) -> None:
        await slots.acquire()
        try:
            await asyncio.sleep(0.001)
        finally:
            await asyncio.sleep(0.001)
            slots.release()

    async def setup() -> asyncio.Semaphore:
        return asyncio.Semaphore(1)

    report = swept(fn, setup=setup, phases=("double",))
    assert phases_of(report) == ["double"]
    again = swept(fn, setup=setup, replay=report.findings[0].id)
    assert [finding.id for finding in again.findings] == [report.findings[0].id]


def test_an_id_that_does_not_exist_is_said_so() -> None:
    with pytest.raises(ValueError, match=r"no cancel of this function has the id 'e-000000'"):
        swept(swallows, replay="e-000000")


def test_ids_survive_a_move_of_the_lines(tmp_path: Path) -> None:
    source = "import asyncio\nasync def fn():\n    try:\n        await asyncio.sleep(0.001)\n"
    source += "    except BaseException:\n        pass\n"
    ids = []
    for blank in (0, 7):
        folder = tmp_path / str(blank)
        folder.mkdir()
        (folder / "code.py").write_text("\n" * blank + source)
        names: dict[str, Any] = {}
        exec(compile((folder / "code.py").read_text(), str(folder / "code.py"), "exec"), names)
        ids.append([finding.id for finding in swept(names["fn"]).findings])
    assert ids[0] == ids[1] != []


def test_awaits_with_the_same_text_have_ids_of_their_own() -> None:
    async def fn() -> None:
        try:
            await asyncio.sleep(0.001)
            await asyncio.sleep(0.001)
        except asyncio.CancelledError:
            pass

    assert len({finding.id for finding in swept(fn).findings}) == 4


def test_a_known_finding_is_silenced_with_its_reason() -> None:
    early, late = (finding.id for finding in swept(swallows).findings)
    report = swept(swallows, known={early: "see ticket 7", late: "see ticket 7"})
    assert report.verdict == "SAFE"
    assert re.search(rf"^known {early}: .*see ticket 7$", str(report), re.MULTILINE)
    assert swept(swallows, known={early: "see ticket 7"}).verdict == "UNSAFE"


def test_an_oracle_can_be_switched_off() -> None:
    assert swept(swallows, without=("obeyed",)).verdict == "SAFE"


# --- what was given is checked


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"phases": ("early", "often")}, "phases must be of before, early, late, double, amid, not 'often'"),
        ({"without": ("lock",)}, "without must be of obeyed"),
        ({"how": "kill"}, "how must be of cancel, deadline, operation, interrupt"),
        ({"max_runs": 0}, "max_runs must be a number of 1 or more"),
        ({"timeout": 0}, "timeout must be more than 0"),
    ],
)
def test_wrong_options(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        swept(swallows, **options)


def test_not_an_async_function() -> None:
    with pytest.raises(TypeError, match="fn must be an async function"):
        swept(lambda: None)
    with pytest.raises(TypeError, match="check must be an async function"):
        swept(swallows, check=lambda: None)


# --- the functions beside it


def test_a_check_that_returns_false_or_raises_is_a_finding() -> None:
    async def setup() -> dict[str, int]:
        return {"open": 0}

    async def fn(world: dict[str, int]) -> None:
        world["open"] += 1
        await asyncio.sleep(0.001)
        world["open"] -= 1

    async def false(world: dict[str, int]) -> bool:
        return world["open"] == 0

    async def raises(world: dict[str, int]) -> None:
        assert world["open"] == 0, "still open"

    for check in (false, raises):
        report = swept(fn, setup=setup, check=check, phases=("early",))
        assert [finding.oracles for finding in report.findings] == [{"check"}]


def test_what_the_teardown_ends_is_not_left_behind() -> None:
    class Pool:
        worker: asyncio.Task[None] | None = None

    async def setup() -> Pool:
        return Pool()

    async def fn(pool: Pool) -> None:
        pool.worker = asyncio.create_task(asyncio.sleep(60))
        await asyncio.sleep(0.001)
        pool.worker.cancel()

    async def teardown(pool: Pool) -> None:
        if pool.worker is not None:
            pool.worker.cancel()
            await asyncio.wait({pool.worker})

    assert swept(fn, setup=setup, teardown=teardown, phases=("early", "late")).verdict == "SAFE"
    left = swept(fn, setup=setup, phases=("early", "late"))
    assert {oracle for finding in left.unsafe for oracle in finding.oracles} == {"tasks"}


def test_a_teardown_that_fails_only_after_a_cancel_is_a_finding() -> None:
    async def setup() -> asyncio.Event:
        return asyncio.Event()

    async def fn(done: asyncio.Event) -> None:
        await asyncio.sleep(0.001)
        done.set()

    async def teardown(done: asyncio.Event) -> None:
        await done.wait()

    report = swept(fn, setup=setup, teardown=teardown, timeout=0.3, phases=("early",), without=("restart",))
    assert [finding.oracles for finding in report.findings] == [{"teardown"}]


# --- the points of child tasks


def test_children_are_called_off_late_through_their_parent() -> None:
    """The item is lost in a child of a task group, just when it is handed over."""

    class Box:
        def __init__(self) -> None:
            self.items = ["item"]
            self.waiter: asyncio.Future[str] | None = None

        async def get(self) -> str:
            self.waiter = asyncio.get_running_loop().create_future()
            self.hand_over(10)
            return await self.waiter  # lost in a child

        def hand_over(self, turns: int) -> None:
            """After that many turns of the loop: after a time it might be just when the child is called off early."""
            if turns:
                asyncio.get_running_loop().call_soon(self.hand_over, turns - 1)
            elif self.waiter is not None and not self.waiter.done():
                self.waiter.set_result(self.items.pop())

    async def setup() -> Box:
        return Box()

    async def fn(box: Box) -> None:
        async def child() -> None:
            box.items.append(await box.get())

        async with asyncio.TaskGroup() as group:
            group.create_task(child())

    async def check(box: Box) -> bool:
        return box.items == ["item"]

    report = swept(fn, setup=setup, check=check)
    assert [(f.phase, f.at.line, f.task.endswith("child")) for f in report.findings] == [
        ("late", line_of("lost in a child"), True)
    ]
    assert swept(fn, setup=setup, check=check, children=False).verdict == "SAFE"


# --- what each Python does in its own way


@pytest.mark.skipif(sys.version_info < (3, 13), reason="sqlite3 complains of an unclosed database since 3.13")
def test_what_a_thread_hands_over_too_late_is_found() -> None:
    def connect(loop: asyncio.AbstractEventLoop, future: "asyncio.Future[list[Any]]") -> None:
        time.sleep(0.005)
        box: list[Any] = [sqlite3.connect(":memory:", check_same_thread=False)]
        box.append(box)  # it does not go before the garbage collector comes by
        loop.call_soon_threadsafe(lambda: future.done() or future.set_result(box))  # type: ignore[func-returns-value]

    async def fn() -> None:
        loop = asyncio.get_running_loop()
        future: asyncio.Future[list[Any]] = loop.create_future()
        threading.Thread(target=connect, args=(loop, future)).start()
        box = await future
        box[0].close()

    report = swept(fn)
    assert phases_of(report) == ["early", "late"]
    assert all("unclosed database" in str(finding.violations) for finding in report.unsafe), str(report)


def test_a_cancel_that_is_kept_to_be_raised_later_is_not_swallowed() -> None:
    """Who waits for something to end keeps the first cancel and drops those that follow."""

    @types.coroutine
    def suspend() -> Generator[None]:
        yield

    async def waits() -> None:
        held: asyncio.CancelledError | None = None
        for _ in range(5):
            try:
                await suspend()
            except asyncio.CancelledError as error:
                held = held or error
        if held is not None:
            raise held

    coro = waits()
    coro.send(None)
    first, second = asyncio.CancelledError(), asyncio.CancelledError()
    coro.throw(first)
    coro.throw(second)
    assert is_handling(coro, [first, second])
    assert not is_handling(coro, [second])
    coro.close()
