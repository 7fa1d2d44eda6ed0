"""Processes that a body has started by asyncio and waits for: what it has left is asked, killed, and named if it stays."""

import asyncio
import os
import signal
import socket
import subprocess
import time
from asyncio.base_subprocess import BaseSubprocessTransport
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any

import pytest

import calloff
from calloff import Abandoned, Cancelled, Completed, Rung
from calloff._os import proc
from calloff._places.task import subprocesses
from calloff._places.task.subprocesses import Subprocess

pytestmark = pytest.mark.skipif(not proc.believed(), reason="needs a /proc of its own")

PIPE = asyncio.subprocess.PIPE
BEGUN = "begun"
RUNS = f"{BEGUN}; while :; do sleep 0.05; done"
IGNORES = f'trap "" TERM; {RUNS}'


class Job:
    """A script for processes that are known by a mark, and how many run it and are in the hands of the body."""

    def __init__(self, mark: str, script: str) -> None:
        self._begun = Path(f"{mark.removeprefix(': ')}/begun")
        self.script = f"{mark}; {script.replace(BEGUN, f'echo >>{self._begun}')}"

        self._made = 0

    @property
    def started(self) -> int:
        return min(self._made, len(self._begun.read_bytes()) if self._begun.exists() else 0)

    async def start(self, pipe: bool = True, read: bool = True) -> asyncio.subprocess.Process:
        out = PIPE if pipe else subprocess.DEVNULL
        process = await asyncio.create_subprocess_shell(self.script, stdin=None if read else PIPE, stdout=out)
        self._made += 1
        return process


Way = Callable[[Job], Coroutine[Any, Any, Any]]


async def by_wait(job: Job) -> None:
    process = await job.start(pipe=False)
    await process.wait()


async def by_communicate(job: Job) -> None:
    process = await job.start()
    await process.communicate()


async def by_reading(job: Job) -> None:
    process = await job.start()
    assert process.stdout
    async for _ in process.stdout:
        pass


async def by_writing(job: Job) -> None:
    process = await job.start(read=False)
    assert process.stdin
    while True:
        process.stdin.write(b"x" * 100_000)
        await process.stdin.drain()


async def by_an_attribute(job: Job) -> None:
    class Holder:
        process: asyncio.subprocess.Process

    holder = Holder()
    holder.process = await job.start()
    await holder.process.wait()


async def in_a_group(job: Job) -> None:
    async with asyncio.TaskGroup() as group:
        group.create_task(by_communicate(job))
        group.create_task(by_reading(job))


async def in_a_gather(job: Job) -> None:
    await asyncio.gather(by_communicate(job), by_wait(job))


async def in_a_wait_for(job: Job) -> None:
    await asyncio.wait_for(by_communicate(job), 60)


async def within_a_timeout(job: Job) -> None:
    async with asyncio.timeout(60):
        await by_reading(job)


ways = pytest.mark.parametrize(
    "way",
    [
        by_wait,
        by_communicate,
        by_reading,
        by_writing,
        by_an_attribute,
        in_a_group,
        in_a_gather,
        in_a_wait_for,
        within_a_timeout,
    ],
)


def holders(mark: str) -> list[int]:
    """The living processes whose environment or arguments have a mark."""
    found = []
    for pid in filter(str.isdigit, os.listdir("/proc")):
        if mark.encode() in proc.read(f"/proc/{pid}/cmdline", 1 << 16) and int(pid) != os.getpid():
            found.append(int(pid))
    return [pid for pid in found if proc.state_of(pid) not in ("Z", "X", "")]


@pytest.fixture
def mark(tmp_path: Path) -> str:
    """A comment for a script, by which its processes are known."""
    return f": {tmp_path}"


async def stopped(way: Way, job: Job, grace: float = 20) -> calloff.Outcome[Any]:
    op = calloff.start(way(job), grace=grace)
    async with asyncio.timeout(20):
        while job.started < (2 if way in (in_a_group, in_a_gather) else 1):
            await asyncio.sleep(0.01)
    return await op.stop()


@ways
async def test_what_a_body_has_left_is_asked(way: Way, mark: str) -> None:
    outcome = await stopped(way, Job(mark, RUNS))
    assert isinstance(outcome, Cancelled)
    assert outcome.report.rung is Rung.TERMINATED
    assert outcome.report.survivors == ()
    assert holders(mark) == []


@pytest.mark.usefixtures("patient")
@ways
async def test_what_ignores_the_asking_is_killed_when_the_grace_is_over(way: Way, mark: str) -> None:
    outcome = await stopped(way, Job(mark, IGNORES), grace=0.3)
    assert isinstance(outcome, Cancelled)
    assert outcome.report.rung is Rung.KILLED
    assert holders(mark) == []


@pytest.mark.parametrize(("trap", "grace"), [("", 20), ('trap "" TERM;', 0)])
async def test_what_it_starts_while_it_is_ended_is_ended(mark: str, trap: str, grace: float) -> None:
    """A shell that starts one process after another, none of which ends by itself."""
    nap = f"600.{os.getpid()}{time.monotonic_ns()}"
    script = f"{trap} {BEGUN}; n=0; while [ $n -lt 500 ]; do (exec sleep {nap}) & n=$((n+1)); done; wait"
    for _ in range(5):
        outcome = await stopped(by_wait, Job(mark, script), grace=grace)
        if isinstance(outcome, Abandoned):  # a busy machine takes longer to end that many
            await ended(*calloff.operations())
        assert holders(nap) == []


async def test_what_comes_to_light_when_it_has_halted_is_halted_before_it_is_asked(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """It was in the midst of a fork; and the one that came out of that may fork, too."""
    process, late = [await asyncio.create_subprocess_exec("sleep", "600") for _ in range(2)]
    part = Subprocess(process._transport)  # type: ignore[attr-defined]
    told: list[tuple[int, int]] = []
    tell = part._tell

    def look_below() -> list[int]:
        if late.pid in part._below or proc.state_of(process.pid) != "T":
            return []
        part._below[late.pid] = proc.began(late.pid)
        return [late.pid]

    def telling(pids: list[int], signum: int) -> None:
        told.extend((pid, signum) for pid in pids)
        tell(pids, signum)

    monkeypatch.setattr(part, "_look_below", look_below)
    monkeypatch.setattr(part, "_tell", telling)
    over = asyncio.Event()
    part.when_done(over.set)
    part.ask()
    await over.wait()
    assert [await process.wait(), await late.wait()] == [-15, -15]
    assert [signum for pid, signum in told if pid == late.pid] == [signal.SIGSTOP, signal.SIGTERM, signal.SIGCONT]


async def test_what_is_found_below_it_after_the_kill_is_killed(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of a tree that had not halted in time."""
    process, late = [await asyncio.create_subprocess_exec("sleep", "600") for _ in range(2)]
    part = Subprocess(process._transport)  # type: ignore[attr-defined]
    monkeypatch.setattr(part, "_look_below", lambda: [late.pid])
    monkeypatch.setattr(part, "_killed", True)
    over = asyncio.Event()
    part.when_done(over.set)
    assert await late.wait() == -9
    process.kill()
    await over.wait()


@pytest.mark.usefixtures("patient")
async def test_force_at_once_kills_it(mark: str) -> None:
    outcome = await stopped(by_wait, Job(mark, IGNORES), grace=0)
    assert isinstance(outcome, Cancelled)
    assert outcome.report.rung is Rung.KILLED
    assert holders(mark) == []


@pytest.mark.usefixtures("patient")
async def test_what_descends_from_it_ends_with_it(mark: str) -> None:
    async def body(job: Job) -> None:
        process = await job.start()
        await process.wait()

    job = Job(mark, f"(setsid sh -c '{mark}; trap \"\" TERM; {RUNS}') & wait")
    outcome = await stopped(body, job, grace=0.4)
    assert isinstance(outcome, Cancelled)
    assert outcome.report.rung is Rung.KILLED
    assert holders(mark) == []


@pytest.mark.usefixtures("patient")
async def test_what_starts_below_it_after_it_has_ended_ends_with_it(mark: str, tmp_path: Path) -> None:
    """The process obeys; what it had started does not, and starts another one, which nobody has seen so far."""
    stays, first, go_on, second = (tmp_path / name for name in ("stays", "first", "go_on", "second"))
    later = f"sh -c '{mark}; echo >{second}; sleep 1000; :'"
    stays.write_text(f"trap '' TERM; echo >{first}; while [ ! -e {go_on} ]; do sleep 0.01; done; {later}")

    async def body() -> None:
        process = await asyncio.create_subprocess_shell(f"{mark}; (setsid sh -c '{mark}; . {stays}') & wait")
        processes.append(process)
        await process.wait()

    async def until(condition: Callable[[], bool]) -> None:
        async with asyncio.timeout(30):
            while not condition():
                await asyncio.sleep(0.01)

    processes: list[asyncio.subprocess.Process] = []
    op = calloff.start(body(), grace=60)
    await until(lambda: first.exists() and bool(processes))  # what runs may be seen before its start has come back
    op.cancel()
    await until(lambda: proc.state_of(processes[0].pid) in ("Z", "X", ""))
    go_on.touch()
    await until(second.exists)
    outcome = await op.stop(grace=0)
    assert isinstance(outcome, Cancelled)
    assert outcome.report.rung is Rung.KILLED
    assert holders(mark) == []


async def test_a_body_that_ends_its_process_itself_is_let_do_so(mark: str, tmp_path: Path) -> None:
    asked = tmp_path / "asked"

    async def body(job: Job) -> None:
        process = await job.start()
        try:
            await process.wait()
        finally:
            (tmp_path / "end").touch()
            await process.wait()

    script = f"trap 'echo asked >>{asked}' TERM; {BEGUN}; until [ -e {tmp_path / 'end'} ]; do sleep 0.05; done"
    outcome = await stopped(body, Job(mark, script))
    assert isinstance(outcome, Cancelled)
    assert outcome.report.rung is Rung.ASKED
    assert not asked.exists()


async def test_a_body_that_refuses_keeps_its_process(mark: str, tmp_path: Path) -> None:
    async def body(job: Job) -> int:
        process = await job.start()
        try:
            await process.wait()
        except asyncio.CancelledError:
            (tmp_path / "end").touch()
            return await process.wait()
        raise AssertionError

    outcome = await stopped(body, Job(mark, f"{BEGUN}; until [ -e {tmp_path / 'end'} ]; do sleep 0.05; done; exit 7"))
    assert isinstance(outcome, Completed)
    assert outcome.value == 7
    assert outcome.report is not None
    assert outcome.report.survivors == ()


@pytest.mark.parametrize("handed_on", ["as an argument", "by a closure", "alone"])
@pytest.mark.parametrize("pipe", [True, False])
async def test_the_process_of_somebody_else_is_let_alone(handed_on: str, pipe: bool, mark: str) -> None:
    process = await Job(mark, RUNS).start(pipe)

    async def waits(other: asyncio.subprocess.Process) -> None:
        await (other.stdout.read() if other.stdout else other.wait())

    async def has_it() -> None:
        await waits(process)

    works = {"as an argument": lambda: waits(process), "by a closure": has_it, "alone": process.wait}
    try:
        outcome = await stopped_soon(works[handed_on]())
        assert isinstance(outcome, Cancelled)
        assert outcome.report.rung is Rung.ASKED
        assert process.returncode is None
    finally:
        process.kill()
        await process.communicate()


async def test_the_end_is_told_when_the_loop_has_heard_of_it(mark: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The system knows it sooner: a loop that is closed by then would complain."""
    heard = BaseSubprocessTransport._process_exited

    def late(self: Any, status: int) -> None:
        asyncio.get_running_loop().call_later(0.1, heard, self, status)

    monkeypatch.setattr(BaseSubprocessTransport, "_process_exited", late)
    made = []

    async def body(job: Job) -> None:
        made.append(await job.start(pipe=False))
        process = made[0]
        await process.wait()

    outcome = await stopped(body, Job(mark, RUNS))
    assert isinstance(outcome, Cancelled)
    assert made[0].returncode is not None


@pytest.mark.usefixtures("short_last")
async def test_one_that_can_not_be_ended_is_named(mark: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def denied(self: Subprocess, pids: list[int], signum: int) -> None:  # as for a program that runs as root
        self._denied.update(pids)

    monkeypatch.setattr(Subprocess, "_tell", denied)
    outcome = await stopped(by_wait, Job(mark, RUNS), grace=0.1)
    (pid,) = [pid for pid in holders(mark) if proc.parent_of(pid) == os.getpid()]
    (op,) = calloff.operations()
    os.kill(pid, 9)
    await ended(op)
    assert isinstance(outcome, Abandoned)
    assert outcome.report.survivors[0].startswith(f"process {pid} (sh): not ours to kill")


async def ended(op: "calloff.Operation[Any]") -> None:
    """An abandoned operation is listed until it has really ended."""
    async with asyncio.timeout(20):
        while op in calloff.operations():
            await asyncio.sleep(0.01)


async def test_it_is_found_when_the_machine_is_busy_in_the_midst_of_the_look(
    mark: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def began_late(pid: int) -> float:
        since = began(pid)
        time.sleep(0.2)
        return since

    began = proc.began
    job = Job(mark, RUNS)
    op = calloff.start(by_wait(job), grace=20)
    async with asyncio.timeout(20):
        while not job.started:
            await asyncio.sleep(0.01)
    monkeypatch.setattr(subprocesses.proc, "began", began_late)
    op.cancel()
    await asyncio.sleep(0)
    monkeypatch.undo()
    assert isinstance(await op.outcome(), Cancelled)
    assert holders(mark) == []


async def test_a_deadline_ends_it_as_well(mark: str) -> None:
    op = calloff.start(by_communicate(Job(mark, RUNS)), timeout=1.0, grace=20)
    with pytest.raises(calloff.TimedOut):
        await op
    assert holders(mark) == []


async def test_a_stream_of_the_network_has_no_process() -> None:
    """Reading it takes the same way: nothing is found behind it."""
    ours, other = socket.socketpair()
    reader, writer = await asyncio.open_connection(sock=ours)
    outcome = await stopped_soon(reader.read())
    writer.close()
    other.close()
    assert isinstance(outcome, Cancelled)
    assert outcome.report.rung is Rung.ASKED


async def stopped_soon(work: Coroutine[Any, Any, Any]) -> calloff.Outcome[Any]:
    op = calloff.start(work)
    await asyncio.sleep(0)
    return await op.stop()
