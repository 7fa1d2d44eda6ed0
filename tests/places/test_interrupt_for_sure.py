"""What blocks the event loop and catches everything is ended all the same, and the verdict says so."""

import asyncio
import contextlib
import sys
import threading
import time
import weakref
from collections.abc import Callable, Coroutine, Iterator
from pathlib import Path
from typing import Any

import pytest

import calloff
from calloff import Cancelled, Rung
from calloff._operation.operation import Operation
from calloff._places.task.stepping import steps_of
from calloff._words.policy import Policy

Body = Callable[[], Coroutine[Any, Any, Any]]


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """The last second of the ladder takes a tenth of one."""
    monkeypatch.setattr(Operation, "policy", Policy(last=0.1, tearing=20.0))


def block() -> None:
    while True:
        try:
            while True:
                time.sleep(0.01)
        except BaseException:
            pass


async def nested() -> None:
    while True:
        try:
            while True:
                try:
                    time.sleep(0.01)
                except BaseException:
                    pass
        except BaseException:
            block()


async def in_a_handler() -> None:
    try:
        raise ValueError
    except ValueError:
        block()


async def suppressed() -> None:
    while True:
        with contextlib.suppress(BaseException):
            time.sleep(0.01)


async def dropped_by_c() -> None:
    class Seen:
        pass

    while True:
        seen = Seen()
        ref = weakref.ref(seen, lambda _: time.sleep(0.05))
        del seen
        assert ref() is None


async def in_a_destructor() -> None:
    class Slow:
        def __del__(self) -> None:
            time.sleep(0.5)

    while True:
        try:
            Slow()
        except BaseException:
            pass


async def called_by_c() -> None:
    def key(number: int) -> int:
        with contextlib.suppress(BaseException):
            time.sleep(0.01)
        return number

    while True:
        with contextlib.suppress(BaseException):
            sorted(range(100_000), key=key)


async def generator() -> None:
    def steps() -> Any:
        while True:
            with contextlib.suppress(BaseException):
                time.sleep(0.01)
                yield

    it = steps()
    while True:
        try:
            next(it)
        except BaseException:
            it = steps()


async def a_task_that_it_waits_for() -> None:
    async def child() -> None:
        block()

    await asyncio.gather(child(), asyncio.sleep(60))


async def an_operation_that_it_waits_for() -> None:
    async def child() -> None:
        block()

    await calloff.call(child(), grace=1000)


@pytest.mark.parametrize(
    "body",
    [
        nested,
        in_a_handler,
        suppressed,
        dropped_by_c,
        in_a_destructor,
        called_by_c,
        generator,
        a_task_that_it_waits_for,
        an_operation_that_it_waits_for,
    ],
)
def test_it_is_ended(body: Body, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "unraisablehook", lambda _: None)  # what C drops is told there, and is meant here

    async def main() -> None:
        outcome = await calloff.start(body(), timeout=0.05, grace=0.05).outcome()
        assert isinstance(outcome, Cancelled)
        found = outcome.report.rung
        assert found is Rung.FORCED or (
            found is Rung.INTERRUPTED and body is suppressed
        )  # met between two of its blocks

    calloff.run(main(), timeout=30)


def test_what_was_taken_is_given_back() -> None:
    lock = threading.Lock()

    async def body() -> None:
        while True:
            try:
                with lock:
                    time.sleep(0.01)
            except BaseException:
                pass

    async def main() -> None:
        await calloff.start(body(), timeout=0.05, grace=0.05).outcome()

    for _ in range(5):
        calloff.run(main(), timeout=30)
        assert lock.acquire(blocking=False)
        lock.release()


def test_force_without_grace_comes_also_when_the_asking_is_caught() -> None:
    async def body() -> None:
        calloff.current().cancel(grace=0)
        block()

    async def main() -> None:
        outcome = await calloff.start(body()).outcome()
        assert isinstance(outcome, Cancelled)

    calloff.run(main(), timeout=30)


def test_operations_that_nobody_waits_for_keep_no_program_from_its_end() -> None:
    async def child() -> None:
        block()

    async def main() -> None:
        operations = [calloff.start(child(), grace=1000) for _ in range(2)]
        await asyncio.sleep(60)
        del operations

    with pytest.raises(calloff.TimedOut):
        calloff.run(main(), timeout=0.3, grace=0.1)


@pytest.fixture
def never_imported(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Body]:
    """Return a body that imports a module which comes to no end, and look that none of it is left."""
    lines = "import time", "while True:", "    try: time.sleep(0.01)", "    except BaseException: pass"
    (tmp_path / "never_imported.py").write_text("\n".join(lines))
    monkeypatch.syspath_prepend(str(tmp_path))

    async def body() -> None:
        import never_imported  # type: ignore[import-not-found]  # made above

        assert never_imported

    yield body
    assert "never_imported" not in sys.modules


def test_an_import_is_let_finish_for_no_longer_than_the_grace(never_imported: Body) -> None:
    async def main() -> None:
        outcome = await calloff.start(never_imported(), timeout=0.05, grace=0.05).outcome()
        assert isinstance(outcome, Cancelled)
        assert outcome.report.where[-1].file.endswith("never_imported.py")

    calloff.run(main(), timeout=30)


async def in_a_task(body: Body) -> None:
    await asyncio.gather(asyncio.create_task(body()), asyncio.sleep(60))


async def in_an_operation(body: Body) -> None:
    await calloff.call(body(), grace=1000)


async def in_an_operation_of_a_task(body: Body) -> None:
    await in_a_task(lambda: in_an_operation(body))


@pytest.mark.parametrize("whose", [in_a_task, in_an_operation, in_an_operation_of_a_task])
def test_an_import_of_what_it_waits_for_is_let_finish_for_no_longer(
    whose: Callable[[Body], Coroutine[Any, Any, None]], never_imported: Body
) -> None:
    async def main() -> None:
        outcome = await calloff.start(whose(never_imported), timeout=0.05, grace=0.05).outcome()
        assert isinstance(outcome, Cancelled)

    calloff.run(main(), timeout=30)


def test_an_import_outlasts_a_group_by_no_more_than_the_grace(never_imported: Body) -> None:
    async def main() -> None:
        with pytest.raises(calloff.TimedOut, match="the group"):
            async with calloff.group(timeout=0.05, grace=0.05) as group:
                group.start(never_imported())

    calloff.run(main(), timeout=30)


def test_an_import_that_could_not_be_asked_before_gets_no_second_grace(never_imported: Body) -> None:
    async def main() -> None:
        alone = await calloff.start(never_imported(), timeout=0.05, grace=1).outcome()
        with pytest.raises(TimeoutError):
            async with calloff.group(timeout=0.05, grace=1) as group:
                child = group.start(never_imported())
        for outcome in (alone, await child.outcome()):
            assert isinstance(outcome, Cancelled)
            assert outcome.report.seconds < 1, "it was forced as soon as it was asked"

    calloff.run(main(), timeout=30)


def test_an_import_hears_who_calls_it_off_from_another_thread(never_imported: Body) -> None:
    async def main() -> None:
        operation = calloff.start(in_an_operation(never_imported))
        timer = threading.Timer(0.05, operation.cancel, ["enough"], {"grace": 0.05})
        timer.start()
        outcome = await operation.outcome()
        timer.join()
        assert isinstance(outcome, Cancelled)
        assert outcome.report.reason.text == "enough"

    calloff.run(main(), timeout=30)


async def in_a_plain_task(body: Body) -> None:
    task = asyncio.create_task(body())
    await asyncio.sleep(60)
    del task


async def in_a_callback(body: Body) -> None:
    asyncio.get_running_loop().call_soon(body().send, None)
    await asyncio.sleep(60)


@pytest.mark.parametrize("whose", [in_a_plain_task, in_a_callback])
def test_an_import_outlasts_the_program_by_no_more_than_the_grace(
    whose: Callable[[Body], Coroutine[Any, Any, None]], never_imported: Body
) -> None:
    with pytest.raises(calloff.TimedOut):
        calloff.run(whose(never_imported), timeout=0.05, grace=0.05)


class Endless:
    """Catches what would end its destructor, for ever."""

    def __del__(self) -> None:
        block()


async def in_an_endless_destructor() -> None:
    Endless()
    time.sleep(60)


async def in_a_destructor_of_a_task() -> None:
    await in_a_task(in_an_endless_destructor)


@pytest.mark.parametrize("body", [in_an_endless_destructor, in_a_destructor_of_a_task])
def test_a_destructor_that_catches_everything_is_ended_when_the_grace_is_over(
    body: Body, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "unraisablehook", lambda _: None)

    async def main() -> None:
        outcome = await calloff.start(body(), timeout=0.05, grace=0.2).outcome()
        assert isinstance(outcome, Cancelled)

    calloff.run(main(), timeout=30)


def test_a_destructor_in_a_callback_is_ended_when_the_grace_of_the_program_is_over(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(sys, "unraisablehook", lambda _: None)

    async def main() -> None:
        asyncio.get_running_loop().call_soon(lambda: bool(Endless()))
        await asyncio.sleep(60)

    with pytest.raises(calloff.TimedOut):
        calloff.run(main(), timeout=0.05, grace=0.05)


async def a_plain_task() -> None:
    async def plain() -> None:
        block()

    task = asyncio.create_task(plain())
    await asyncio.sleep(60)
    del task


async def a_callback() -> None:
    asyncio.get_running_loop().call_soon(block)
    await asyncio.sleep(60)


async def a_callback_in_c() -> None:
    lock = threading.Lock()
    lock.acquire()
    asyncio.get_running_loop().call_later(0.01, lock.acquire, True, 5.0)
    await asyncio.sleep(60)


@pytest.mark.parametrize("body", [a_plain_task, a_callback, a_callback_in_c])
def test_what_is_no_operation_is_ended_when_the_grace_of_the_program_is_over(body: Body) -> None:
    with pytest.raises(calloff.TimedOut):
        calloff.run(body(), timeout=0.05, grace=0.05)


def test_a_callback_that_blocks_the_end() -> None:
    async def main() -> int:
        calloff.current().add_done_callback(lambda _: block())
        return 7

    assert calloff.run(main(), grace=0.05) == 7


def test_steps_see_each_instruction_of_their_frames_only() -> None:
    seen = []

    def other() -> int:
        return 1 + 1

    def watched() -> int:
        steps = steps_of([sys._getframe()], lambda frame: seen.append(frame.f_code.co_name))
        assert steps is not None
        number = other()
        steps.end()
        steps.end()
        return number + 1

    traced = sys.gettrace()
    watched()
    assert set(seen) == {"watched"}
    count = len(seen)
    watched.__name__  # noqa: B018
    other()
    assert len(seen) == count
    assert sys.gettrace() is traced


def test_steps_see_an_instruction_once_and_nothing_of_the_error_that_leaves_it() -> None:
    """What is raised where another error is on its way would take the place of that."""
    seen: list[int] = []

    def raises() -> None:
        raise KeyError

    def watched() -> None:
        steps = steps_of([sys._getframe()], lambda frame: seen.append(frame.f_lasti))
        assert steps is not None
        try:
            raises()
        except KeyError:
            raises()
        finally:
            steps.end()

    with pytest.raises(KeyError):
        watched()
    assert len(seen) > 10
    assert len(seen) == len(set(seen))
