"""What the core tells those who listen."""

import asyncio
import contextvars
import gc
import logging
import threading
from typing import Any, cast

import pytest

import calloff
from calloff._operation import hooks
from calloff._operation.observers import Observer, failure, ignore, listen
from calloff._words.place import Body, Work

note = contextvars.ContextVar("note", default="unset")


class Ears(Observer):
    """Remembers all that it is told."""

    def __init__(self):
        self.heard = []
        self.threads = set()

    def _hear(self, event, operation, *details):
        assert isinstance(operation, calloff.Operation)
        self.threads.add(threading.current_thread())
        self.heard.append((event, operation.name, str(operation.state), *details))

    def started(self, operation):
        self._hear("started", operation)

    def entered(self, operation):
        note.set("mine")
        self._hear("entered", operation)

    def asked(self, operation):
        self._hear("asked", operation, str(operation.reason.kind))

    def ended(self, operation):
        assert operation.done()
        self._hear("ended", operation)

    def ended_late(self, operation, how):
        self._hear("ended late", operation, how)


@pytest.fixture
def ears():
    observer = Ears()
    listen(observer)
    yield observer
    ignore(observer)


async def test_every_step_of_a_life(ears):
    async def body():
        return note.get()

    async def fails():
        raise ValueError("no")

    assert await calloff.call(body(), name="good") == "mine", "what `entered` sets is seen by the body"
    assert note.get() == "unset", "and by nobody else"
    bad = calloff.start(fails(), name="bad")
    assert (await bad.outcome()).error is failure(bad)
    stopped = calloff.start(asyncio.sleep(3600), name="stopped")
    await asyncio.sleep(0)
    await stopped.stop("enough")
    assert failure(stopped) is None
    late = calloff.start(asyncio.sleep(3600), name="late")
    await asyncio.sleep(0)
    late.reschedule(0.01)
    with pytest.raises(calloff.TimedOut):
        await late
    assert ears.threads == {threading.current_thread()}
    lives: dict[Any, Any] = {}
    for event, name, *more in ears.heard:
        lives.setdefault(name, []).append((event, *more))
    assert lives == {
        "good": [("started", "pending"), ("entered", "running"), ("ended", "completed")],
        "bad": [("started", "pending"), ("entered", "running"), ("ended", "failed")],
        "stopped": [
            ("started", "pending"),
            ("entered", "running"),
            ("asked", "stopping", "requested"),
            ("ended", "cancelled"),
        ],
        "late": [
            ("started", "pending"),
            ("entered", "running"),
            ("asked", "stopping", "deadline"),
            ("ended", "cancelled"),
        ],
    }


def test_stopped_before_its_first_step(ears):
    async def main():
        await calloff.start(asyncio.sleep(3600), name="never").stop()

    asyncio.run(main())
    assert [event for event, *_ in ears.heard] == ["started", "asked", "ended"]


async def test_threads_and_commands(ears):
    assert await calloff.call(calloff.thread(note.get), name="thread") == "mine"
    await calloff.call(calloff.command("true"), name="command")
    for name in ("thread", "command"):
        assert [event for event, its_name, *_ in ears.heard if its_name == name] == ["started", "entered", "ended"]
    assert ears.threads == {threading.current_thread()}


async def test_an_abandoned_one_that_ends_late(ears, short_last):
    lock = threading.Lock()
    lock.acquire()
    operation = calloff.start(calloff.thread(lock.acquire), name="stubborn")  # a call in C, which nothing ends
    while not operation.where():
        await asyncio.sleep(0.001)
    outcome = await operation.stop(grace=0)
    assert isinstance(outcome, calloff.Abandoned)
    lock.release()
    while calloff.operations():
        await asyncio.sleep(0.001)
    assert [heard for heard in ears.heard if heard[0].startswith("ended")] == [
        ("ended", "stubborn", "abandoned"),
        ("ended late", "stubborn", "abandoned", "returned True"),
    ]


async def test_what_could_not_begin(ears):
    class Broken(Body):
        place, name, insists = "nowhere", "broken", False

        def open(self):
            return self

        def begin(self, sink):
            raise OSError("no room")

    with pytest.raises(OSError, match="no room"):
        calloff.start(cast(Work[None], Broken()))
    assert ears.heard == [("started", "broken", "pending"), ("ended", "broken", "failed")]


@pytest.mark.parametrize("error", [ValueError("mine"), asyncio.CancelledError()])
async def test_an_observer_that_raises_is_logged_and_harms_nothing(ears, caplog, error):
    class Broken(Observer):
        def ended(self, operation):
            raise error

        started = entered = asked = ended

    broken, last = Broken(), Ears()
    listen(broken)
    listen(last)
    try:
        with caplog.at_level(logging.ERROR, "calloff"):
            assert await calloff.call(asyncio.sleep(0, 7)) == 7
            operation = calloff.start(asyncio.sleep(3600))
            await asyncio.sleep(0)
            assert isinstance(await operation.stop(), calloff.Cancelled)
    finally:
        ignore(broken)
        ignore(last)
    assert last.heard == ears.heard, "those who come after it hear everything"
    assert len([record for record in caplog.records if "an observer of operation" in record.message]) == 7


def test_listening_twice_and_leaving(ears):
    listen(ears)

    async def main():
        await calloff.call(asyncio.sleep(0))

    asyncio.run(main())
    assert len(ears.heard) == 3
    ignore(ears)
    ignore(ears)
    asyncio.run(main())
    assert len(ears.heard) == 3


def test_nothing_is_called_where_nothing_is_overridden():
    class OnlyEndings(Observer):
        def ended(self, operation):
            pass

    before = {event: len(getattr(hooks.hooks, event) or ()) for event in hooks.EVENTS}
    observer = OnlyEndings()
    listen(observer)
    try:
        after = {event: len(getattr(hooks.hooks, event) or ()) for event in hooks.EVENTS}
    finally:
        ignore(observer)
    assert {event for event in before if after[event] > before[event]} == {"ended"}


def test_an_event_whose_last_listener_leaves_just_then_is_told_to_nobody():
    """In another thread, between the look at the listeners and the call."""
    hooks.emit(None, None)


def test_the_complaint_about_errors_that_nobody_retrieves_stays(ears):
    complaints = []

    async def fails():
        raise ValueError("unheard")

    async def main():
        asyncio.get_running_loop().set_exception_handler(lambda _, context: complaints.append(context["message"]))
        operation = calloff.start(fails())
        while not operation.done():
            await asyncio.sleep(0)
        assert isinstance(failure(operation), ValueError)
        del operation
        gc.collect()

    asyncio.run(main())
    assert complaints == ["Operation exception was never retrieved"]
