"""A body that blocks the event loop with calls of asyncio and calloff, one after the other, is interrupted between two."""

import asyncio
import time
from collections.abc import Callable
from typing import Any

import pytest

import calloff
from calloff import Cancelled, Rung

pytestmark = pytest.mark.usefixtures("begins_first")

LATE = 12.0  # how late an ending may be on a busy machine


def nothing() -> None:
    pass


def calls_soon() -> None:
    loop = asyncio.get_running_loop()
    while True:
        loop.call_soon(nothing).cancel()


def creates_tasks() -> None:
    while True:
        asyncio.get_running_loop().create_task(asyncio.sleep(0)).cancel()


def puts_and_gets() -> None:
    queue = asyncio.Queue[int]()
    while True:
        queue.put_nowait(1)
        queue.get_nowait()


def looks_at_an_event() -> None:
    event = asyncio.Event()
    while not event.is_set():
        pass


def looks_at_the_clock() -> None:
    loop = asyncio.get_running_loop()
    while loop.time() >= 0:
        pass


def opens_scopes() -> None:
    while True:
        with calloff.timeout(50):
            pass


def starts_operations() -> None:
    while True:
        calloff.start(asyncio.sleep(0)).cancel()


async def puts_and_gets_and_awaits() -> None:
    queue = asyncio.Queue[int]()
    while True:
        await queue.put(1)
        await queue.get()


WAYS = [
    calls_soon,
    creates_tasks,
    puts_and_gets,
    looks_at_an_event,
    looks_at_the_clock,
    opens_scopes,
    starts_operations,
    puts_and_gets_and_awaits,
]


@pytest.mark.filterwarnings("ignore:coroutine .* was never awaited")
@pytest.mark.parametrize("way", WAYS)
def test_it_is_interrupted_in_its_own_code(crun: Callable[..., Any], way: Callable[[], Any]) -> None:
    async def body() -> None:
        found = way()
        if found is not None:
            await found

    async def main() -> None:
        began = time.thread_time()
        outcome = await calloff.start(body(), timeout=0.1).outcome()
        assert time.thread_time() - began < LATE
        assert isinstance(outcome, Cancelled)
        assert outcome.report.rung is Rung.INTERRUPTED
        assert outcome.report.refusals == 0
        ours = [frame.function for frame in outcome.report.where if frame.file == __file__]
        assert ours == ["body", way.__name__]

    crun(main())


@pytest.mark.filterwarnings("ignore:coroutine .* was never awaited")
@pytest.mark.parametrize("way", [calls_soon, opens_scopes])
def test_one_that_catches_everything_ends_too(crun: Callable[..., Any], way: Callable[[], Any]) -> None:
    async def body() -> None:
        while True:
            try:
                way()
            except BaseException:
                pass

    async def main() -> None:
        outcome = await calloff.start(body(), timeout=0.1, grace=0.2).outcome()
        assert isinstance(outcome, Cancelled)
        assert outcome.report.rung is Rung.FORCED

    crun(main())


@pytest.mark.parametrize("way", [calls_soon, looks_at_an_event])
def test_a_plain_callback_is_interrupted(crun: Callable[..., Any], way: Callable[[], Any]) -> None:
    raised: list[Any] = []

    def callback() -> None:
        try:
            way()
        except BaseException as error:
            raised.append(type(error))
            raise

    async def main() -> None:
        asyncio.get_running_loop().set_exception_handler(lambda loop, context: None)
        asyncio.get_running_loop().call_soon(callback)
        await asyncio.sleep(60)

    with pytest.raises(calloff.TimedOut):
        crun(main(), timeout=0.2, grace=0.2)
    assert raised


def test_a_lock_of_asyncio_is_given_back(crun: Callable[..., Any]) -> None:
    """What an `__aexit__` has returned has to be awaited: it gives nothing back before."""

    async def step(lock: asyncio.Lock, done: list[asyncio.Future[int]]) -> Any:
        async with lock:
            return asyncio.gather(*done)

    async def body(lock: asyncio.Lock, done: list[asyncio.Future[int]]) -> None:
        while True:
            await step(lock, done)

    async def main() -> None:
        done = [asyncio.get_running_loop().create_future() for _ in range(20)]
        for future in done:
            future.set_result(1)
        for _ in range(10):
            lock = asyncio.Lock()
            await calloff.start(body(lock, done), timeout=0.02).outcome()
            assert not lock.locked()

    crun(main())


class Step:
    """What a body does again and again."""

    def __init__(self) -> None:
        self.futures = [asyncio.get_running_loop().create_future() for _ in range(20)]
        self.begun = 0
        self.done: list[int] = []

    def returns(self) -> Any:
        try:
            self.begun += 1
            return asyncio.gather(*self.futures)
        finally:
            self.done.append(1)
            self.done.append(2)

    def breaks(self) -> None:
        while True:
            try:
                self.begun += 1
                asyncio.gather(*self.futures)
                break
            finally:
                self.done.append(1)
                asyncio.gather(*self.futures)
                self.done.append(2)

    def calls(self) -> Any:
        self.begun += 1
        try:
            return asyncio.gather(*self.futures)
        finally:
            self.close()

    def close(self) -> None:
        self.done.append(1)
        for number in range(30):
            hash(number)
        self.done.append(2)

    def ends(self) -> None:
        try:
            self.begun += 1
            if self.futures:
                asyncio.gather(*self.futures)
        except ValueError:
            self.begun = 0
        finally:
            try:
                self.done.append(1)
            finally:
                self.done.append(2)


@pytest.mark.parametrize("way", [Step.returns, Step.breaks, Step.calls, Step.ends])
def test_a_finally_is_not_passed_by(crun: Callable[..., Any], way: Callable[[Step], Any]) -> None:
    """Behind the last call of its `try` that has been left already; and one that has begun comes to its end."""

    async def main() -> None:
        for _ in range(5):
            step = Step()

            async def body(step: Step = step) -> None:
                while True:
                    way(step)

            outcome = await calloff.start(body(), timeout=0.02).outcome()
            assert isinstance(outcome, Cancelled)
            assert step.done == [1, 2] * (len(step.done) // 2)
            assert step.begun <= len(step.done) // 2

    crun(main())


def test_a_finally_that_does_not_end_is_interrupted(crun: Callable[..., Any]) -> None:
    async def body() -> None:
        futures = Step().futures
        try:
            pass
        finally:
            while True:
                asyncio.gather(*futures)

    async def main() -> None:
        outcome = await calloff.start(body(), timeout=0.1).outcome()
        assert isinstance(outcome, Cancelled)
        assert outcome.report.rung is Rung.INTERRUPTED

    crun(main())
