"""What else calls code off: calloff's own ladder, a signal, an item of a map; and another task's step in the same turn."""

import asyncio
import json
import shlex
import signal
from collections import deque
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import calloff
from calloff import cli
from calloff.testing import SweepReport, sweep


def swept(fn: Any, **options: Any) -> SweepReport:
    return asyncio.run(sweep(fn, **options))


def phases_of(report: SweepReport) -> set[str]:
    return {finding.phase for finding in report.unsafe}


def oracles_of(report: SweepReport) -> set[str]:
    return {oracle for finding in report.unsafe for oracle in finding.oracles}


# --- force, in a clean-up that awaits


async def lock_of_asyncio() -> asyncio.Lock:
    return asyncio.Lock()


async def releases_last(lock: asyncio.Lock) -> None:
    await lock.acquire()
    try:
        await asyncio.sleep(0.001)
    finally:
        await asyncio.sleep(0.001)
        lock.release()


async def releases_for_sure(lock: asyncio.Lock) -> None:
    async with lock:
        try:
            await asyncio.sleep(0.001)
        finally:
            await asyncio.sleep(0.001)


@pytest.mark.parametrize("how", ["operation", "interrupt"])
def test_a_clean_up_is_forced_when_its_grace_is_over(how: str) -> None:
    report = swept(releases_last, setup=lock_of_asyncio, how=how, phases=["double"])
    assert phases_of(report) == {"double"}, str(report)
    assert oracles_of(report) == {"locks"}, str(report)
    assert swept(releases_for_sure, setup=lock_of_asyncio, how=how).verdict == "SAFE"


# --- a signal


async def ends_by_its_own_handler() -> str:
    loop, stop = asyncio.get_running_loop(), asyncio.Event()
    loop.add_signal_handler(signal.SIGINT, stop.set)
    loop.call_later(0.02, stop.set)
    await stop.wait()
    loop.remove_signal_handler(signal.SIGINT)
    return "ended"


async def swallows() -> str:
    try:
        await asyncio.sleep(0.001)
    except asyncio.CancelledError:
        pass
    return "as if nothing had happened"


def test_a_program_that_hears_the_signal_itself_may_come_to_its_end() -> None:
    assert swept(ends_by_its_own_handler, how="interrupt").verdict == "SAFE"


def test_a_program_that_is_interrupted_and_goes_on_is_found() -> None:
    assert oracles_of(swept(swallows, how="interrupt")) == {"obeyed"}


def test_no_signal_is_sent_to_the_process_that_sweeps() -> None:
    with pytest.raises(ValueError, match="interrupt is for runs in processes of their own"):
        swept(swallows, how="interrupt", isolate=False)


# --- how a block is asked


class Connection:
    """A query that is called off leaves a mark, until somebody clears it."""

    def __init__(self) -> None:
        self.asked = False
        self.ended = asyncio.Event()

    async def query(self) -> int:
        timer = asyncio.get_running_loop().call_later(0.005, self.ended.set)
        try:
            await self.ended.wait()
        finally:
            timer.cancel()
        if self.asked:
            raise RuntimeError("the query was called off")
        return 1

    async def cancel(self) -> None:
        self.asked = True
        self.ended.set()


async def connection() -> Connection:
    return Connection()


async def asks(connection: Connection) -> int:
    async with calloff.on_stop(connection.cancel):
        return await connection.query()


async def asks_and_clears(connection: Connection) -> int:
    try:
        return await asks(connection)
    finally:
        connection.asked = False
        connection.ended.clear()


def test_what_a_hook_does_to_a_connection_is_found() -> None:
    report = swept(asks, setup=connection, how="operation")
    assert oracles_of(report) == {"restart"}, str(report)
    assert swept(asks, setup=connection).verdict == "SAFE"  # a plain cancel asks no hook
    assert swept(asks_and_clears, setup=connection, how="operation").verdict == "SAFE"


# --- another task's step in the same turn


class Lock:
    """A release passes over who was called off and has not cleaned up yet; mended, it goes on to the next."""

    def __init__(self, mended: bool = False) -> None:
        self.held = True
        self.queue: deque[asyncio.Future[None]] = deque()
        self.mended = mended

    async def acquire(self) -> None:
        if not self.held and not self.queue:
            self.held = True
            return
        waiter = asyncio.get_running_loop().create_future()
        self.queue.append(waiter)
        try:
            await waiter
        except asyncio.CancelledError:
            if waiter in self.queue:
                self.queue.remove(waiter)
            else:
                self.release()
            raise

    def release(self) -> None:
        self.held = False
        while self.queue and self.queue[0].done() and self.mended:
            self.queue.popleft()
        if self.queue and not self.queue[0].done():
            self.held = True
            self.queue.popleft().set_result(None)


async def lock() -> Lock:
    return Lock()


async def mended_lock() -> Lock:
    return Lock(mended=True)


async def takes(lock: Lock) -> None:
    await lock.acquire()
    lock.release()


async def gives_and_takes(lock: Lock) -> None:
    for _ in range(5):
        await asyncio.sleep(0)
    lock.release()
    await lock.acquire()
    lock.release()


def test_a_step_of_the_bystander_between_the_cancel_and_its_arrival(tmp_path: Path) -> None:
    options: dict[str, Any] = {"bystander": gives_and_takes, "resume": tmp_path / "kept"}
    report = swept(takes, setup=lock, **options)
    assert phases_of(report) == {"amid"}, str(report)
    assert oracles_of(report) == {"bystander"}
    assert swept(takes, setup=lock, **options).findings == report.findings  # as it was kept
    again = swept(takes, setup=lock, bystander=gives_and_takes, replay=report.unsafe[0].id)
    assert [finding.id for finding in again.unsafe] == [report.unsafe[0].id]
    assert swept(takes, setup=mended_lock, bystander=gives_and_takes).verdict == "SAFE"


def test_what_a_cancel_alone_does_is_not_told_again_beside_another_task() -> None:
    async def keeps(lock: Lock) -> None:
        await asyncio.sleep(0.001)
        lock.queue.clear()

    async def waits_for(lock: Lock) -> None:
        while lock.queue:
            await asyncio.sleep(0)

    async def full() -> Lock:
        found = Lock()
        found.queue.append(asyncio.get_running_loop().create_future())
        return found

    report = swept(keeps, setup=full, bystander=waits_for, phases=["early", "amid"])
    assert phases_of(report) == {"early"}, str(report)


# --- who is asked twice


async def tries_again() -> None:
    try:
        await asyncio.sleep(0.001)
    except asyncio.CancelledError:
        pass
    else:
        return
    await asyncio.sleep(30)  # until the ladder asks again


def test_who_ends_only_when_asked_again_has_swallowed_the_first_cancel() -> None:
    report = swept(tries_again, how="operation")
    assert phases_of(report) == {"early", "late"}, str(report)
    assert oracles_of(report) == {"obeyed"}
    assert {finding.at_fault.function for finding in report.unsafe} == {"tries_again"}
    assert "it ended only when it was asked again" in str(report)
    assert swept(releases_for_sure, setup=lock_of_asyncio, how="operation").verdict == "SAFE"


# --- what is given back once too often


async def slots() -> asyncio.BoundedSemaphore:
    return asyncio.BoundedSemaphore(2)


async def gives_what_it_has_not(slots: asyncio.BoundedSemaphore) -> None:
    try:
        await asyncio.sleep(0.001)
        await slots.acquire()
    finally:
        slots.release()


def test_a_release_that_is_refused_is_one_too_many() -> None:
    report = swept(gives_what_it_has_not, setup=slots, phases=["early"])
    (finding,) = report.unsafe
    assert finding.oracles == {"locks", "error"}
    text = next(item.text for item in finding.violations if item.oracle == "locks")
    assert text.startswith("the BoundedSemaphore was released more often than it was acquired, released at"), text
    assert text.endswith(": slots.release()"), text


async def gives_what_another_has(world: asyncio.BoundedSemaphore) -> None:
    try:
        await world.acquire()
        await asyncio.sleep(0.001)
    finally:
        world.release()


async def takes_and_gives_away() -> None:
    world = asyncio.BoundedSemaphore(1)
    await world.acquire()  # what is told is not who took it
    asyncio.get_running_loop().call_later(0.004, world.release)
    await gives_what_another_has(world)


def test_who_releases_too_often_is_at_fault_and_not_who_took_it_before() -> None:
    report = swept(takes_and_gives_away, phases=["early"])
    faults = {finding.at_fault.function for finding in report.unsafe if "locks" in finding.oracles}
    assert faults == {"gives_what_another_has"}, str(report)


# --- items of a map

PROGRAM = """
import asyncio

PLACE = asyncio.Semaphore(1)

async def keeps(item):
    await PLACE.acquire()
    await asyncio.sleep(0.002)
    PLACE.release()
    return item["n"] if isinstance(item, dict) else item

async def gives_back(item):
    async with PLACE:
        await asyncio.sleep(0.002)
    return item
"""


@pytest.fixture
def command(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> Callable[..., tuple[int, str, str]]:
    monkeypatch.chdir(tmp_path)
    Path("work.py").write_text(PROGRAM)

    def run(*words: str) -> tuple[int, str, str]:
        return cli.main(["sweep", *words]), *capsys.readouterr()

    return run


def test_an_item_that_is_called_off_holds_up_the_others(command: Callable[..., tuple[int, str, str]]) -> None:
    items = ("--item", '{"n": 1}', "--item", "b", "--item", "3")
    status, out, _ = command("work.py:keeps", *items, "--phases", "early", "--json")
    assert status == 1
    (finding,) = json.loads(out)["findings"]
    assert finding["await"]["line"] == 8
    said = {violation["oracle"]: violation["text"] for violation in finding["violations"]}
    assert "it waits at work.py:7: await PLACE.acquire()" in said["bystander"]
    assert command("work.py:gives_back", *items)[0] == 0
    again = command("work.py:keeps", *items, "--phases", "early")[1].partition("again: calloff sweep ")[2]
    assert command(*shlex.split(again.splitlines()[0]))[0] == 1


def test_one_item_has_none_beside_it(command: Callable[..., tuple[int, str, str]]) -> None:
    status, out, _ = command("work.py:keeps", "--item", "1", "--phases", "early", "--json")
    assert status == 1
    assert [violation["oracle"] for violation in json.loads(out)["findings"][0]["violations"]] == ["locks"]


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--request", "GET /"], "--item is not for a --request"),
        (["--bystander", "gives_back"], "--bystander is not for items"),
    ],
)
def test_what_goes_with_no_item(command: Callable[..., tuple[int, str, str]], words: list[str], message: str) -> None:
    status, _, err = command("work.py:keeps", "--item", "1", *words)
    assert status == 2
    assert message in err
