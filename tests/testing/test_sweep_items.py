"""What a call that is called off leaves in a list, a set or a dict that it was given: only that grows, nothing leaks."""

import asyncio
from pathlib import Path
from typing import Any

import pytest

from calloff.testing._sweep.contents import Watch

from .test_pytest_plugin import run_pytest
from .test_sweep_truth import swept


class Bus:
    """Who listens is in a container of the given kind."""

    def __init__(self, listeners: Any) -> None:
        self.listeners = listeners

    def add(self, queue: "asyncio.Queue[str]") -> None:
        if isinstance(self.listeners, dict):
            self.listeners[id(queue)] = queue
        elif isinstance(self.listeners, set):
            self.listeners.add(queue)
        else:
            self.listeners.append(queue)

    def drop(self, queue: "asyncio.Queue[str]") -> None:
        if isinstance(self.listeners, dict):
            del self.listeners[id(queue)]
        else:
            self.listeners.remove(queue)

    def publish(self) -> None:
        for queue in self.listeners.values() if isinstance(self.listeners, dict) else self.listeners:
            queue.put_nowait("hello")


def bus_of(kind: Any) -> Any:
    async def bus() -> Bus:
        made = Bus(kind())
        for times in range(100):  # whenever a busy machine comes to the second run
            asyncio.get_running_loop().call_later(0.002 + 0.02 * times, made.publish)
        return made

    return bus


async def stays(bus: Bus) -> str:
    queue: asyncio.Queue[str] = asyncio.Queue()
    bus.add(queue)
    message = await queue.get()
    bus.drop(queue)
    return message


async def leaves(bus: Bus) -> str:
    queue: asyncio.Queue[str] = asyncio.Queue()
    bus.add(queue)
    try:
        return await queue.get()
    finally:
        bus.drop(queue)


@pytest.mark.parametrize("kind", [list, set, dict])
def test_a_listener_that_stays_is_told(kind: Any) -> None:
    report = swept(stays, setup=bus_of(kind), phases=("early",))
    assert [finding.verdict for finding in report.findings] == ["UNSAFE"], str(report)
    (violation,) = report.findings[0].violations
    assert violation.oracle == "items"
    assert violation.text == "the Queue in Bus.listeners is still there, which without a cancel is taken out"
    assert report.findings[0].at_fault.source == "message = await queue.get()"
    assert swept(leaves, setup=bus_of(kind), phases=("early",)).verdict == "SAFE"


def test_it_can_be_switched_off() -> None:
    assert swept(stays, setup=bus_of(list), phases=("early",), without={"items"}).verdict == "SAFE"


class Shop:
    def __init__(self) -> None:
        self.begun: list[object] = []
        self.failed: list[object] = []
        self.waiters: list[asyncio.Future[None]] = []
        self.ready: list[object] = []
        self.making: set[object] = set()


async def shop() -> Shop:
    return Shop()


async def keeps_a_record(shop: Shop) -> None:
    order = object()
    shop.begun.append(order)
    try:
        await asyncio.sleep(0.001)
    except asyncio.CancelledError:
        shop.failed.append(order)
        raise


def wake(waiter: "asyncio.Future[None]") -> None:
    if not waiter.done():
        waiter.set_result(None)


async def waits_in_line(shop: Shop) -> None:
    """The next who comes drops those who have gone."""
    loop = asyncio.get_running_loop()
    waiter = loop.create_future()
    shop.waiters.append(waiter)
    loop.call_later(0.001, wake, waiter)
    await waiter
    shop.waiters.remove(waiter)


async def makes_ahead(shop: Shop) -> None:
    """What is made is kept for the next, whoever it was made for."""
    thing = object()
    shop.making.add(thing)

    async def make() -> None:
        await asyncio.sleep(0.002)
        shop.making.remove(thing)
        shop.ready.append(thing)

    await asyncio.shield(asyncio.ensure_future(make()))
    shop.ready.pop()


async def keeps_what_is_good(shop: Shop) -> None:
    """Who is called off leaves it to all who come, and there is one at most."""
    made = not shop.ready
    if made:
        shop.ready.append(object())
    await asyncio.sleep(0.001)
    if made:
        shop.ready.pop()


@pytest.mark.parametrize("fn", [keeps_a_record, waits_in_line, makes_ahead, keeps_what_is_good])
def test_what_is_meant_to_stay_is_no_finding(fn: Any) -> None:
    report = swept(fn, setup=shop, phases=("early", "late"))
    assert not [item for finding in report.findings for item in finding.violations if item.oracle == "items"], str(
        report
    )


CALLS = """
import asyncio

class Bus:
    def __init__(self):
        self.listeners = []

async def stays(bus):
    bus.listeners.append(object())
    await asyncio.sleep(0.001)
    bus.listeners.pop()

async def stays_for_the_caller(bus):
    bus.listeners.append(object())
    await asyncio.sleep(0.001)

async def test_stays():
    await stays(Bus())

async def test_takes_it_out_itself():
    bus = Bus()
    await stays_for_the_caller(bus)
    bus.listeners.clear()
"""


def test_of_a_test_it_is_the_call_that_is_looked_at(tmp_path: Path) -> None:
    (tmp_path / "test_it.py").write_text(CALLS)
    text = run_pytest(tmp_path, "--cancel-sweep", "--cancel-sweep-fault=all", "-v").stdout
    assert "test_stays: UNSAFE" in text, text
    assert "items: the object in Bus.listeners is still there, which without a cancel is taken out" in text
    assert "test_takes_it_out_itself: SAFE" in text, text


def test_what_is_looked_at_and_what_counts() -> None:
    class Owner:
        def __init__(self) -> None:
            self.numbers = [1, 2]
            self.names = {"a": 1}
            self.within = [Bus([object()])]
            self.queue: asyncio.Queue[int] = asyncio.Queue()
            self.me = self

    owner = Owner()
    watch = Watch([owner, "text", Owner])
    assert watch.there() == {"int in Owner.names": 1, "Bus in Owner.within": 1, "object in Bus.listeners": 1}
    assert watch.stayed() == watch.there()
    owner.within[0].listeners[:] = [object()]
    del owner.names["a"]
    assert watch.stayed() == {"Bus in Owner.within": 1}
    full = Bus([object() for _ in range(1000)])
    assert not Watch([full]).there()
