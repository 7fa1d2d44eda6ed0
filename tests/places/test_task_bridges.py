"""What lies between a body and its frames: greenlets, task factories that wrap, and objects that break when looked at."""

import asyncio
import contextlib
import logging
import sys
import time
from collections.abc import Callable
from typing import Any

import pytest
from places.own_classes import OwnCoroutine

import calloff
from calloff import Abandoned, Cancelled, Rung

greenlet = pytest.importorskip("greenlet")


# --- greenlets: SQLAlchemy's bridge, as short as it can be


async def spawn(function: Callable[[], Any]) -> Any:
    """Run sync code whose `wait` waits here; like `sqlalchemy.util.greenlet_spawn`, errors are passed in and forgotten."""
    context = greenlet.greenlet(function)
    result = context.switch()
    while not context.dead:
        try:
            value = await result
        except BaseException:
            result = context.throw(*sys.exc_info())
        else:
            result = context.switch(value)
    return result


def wait(awaitable: Any) -> Any:
    return greenlet.getcurrent().parent.switch(awaitable)


class Rollback:
    def __init__(self, done: list[str], seconds: float) -> None:
        self.done = done
        self.seconds = seconds

    def __enter__(self) -> None:
        pass

    def __exit__(self, *_: object) -> None:
        wait(asyncio.sleep(self.seconds))
        self.done.append("rolled back")


def by_with(done: list[str], seconds: float) -> None:
    with Rollback(done, seconds):
        wait(asyncio.sleep(60))


def by_except(done: list[str], seconds: float) -> None:
    try:
        wait(asyncio.sleep(60))
    except BaseException:
        with contextlib.suppress(KeyError):
            dict[str, str]()["nothing"]
        Rollback(done, seconds).__exit__()
        raise


def by_clause(done: list[str], seconds: float) -> None:
    try:
        wait(asyncio.sleep(60))
    except asyncio.CancelledError:
        wait(asyncio.sleep(seconds))
        done.append("rolled back")
        raise


def by_named_clause(done: list[str], seconds: float) -> None:
    try:
        wait(asyncio.sleep(60))
    except asyncio.CancelledError as error:
        wait(asyncio.sleep(seconds))
        done.append("rolled back")
        raise error  # noqa: TRY201  # what it is called by is what matters here


def by_finally(done: list[str], seconds: float) -> None:
    def inner() -> None:
        try:
            wait(asyncio.sleep(60))
        finally:
            Rollback(done, seconds).__exit__()

    inner()


@pytest.mark.parametrize("way", [by_with, by_except, by_clause, by_named_clause, by_finally])
@pytest.mark.parametrize("in_a_task", [False, True])
async def test_clean_up_behind_a_greenlet_is_let_alone(
    way: Callable[[list[str], float], None], in_a_task: bool
) -> None:
    done: list[str] = []

    async def body() -> None:
        work = spawn(lambda: way(done, 0.6))
        await (asyncio.create_task(work) if in_a_task else work)

    op = calloff.start(body())
    await asyncio.sleep(0.05)
    outcome = await op.stop()
    assert done == ["rolled back"]
    assert isinstance(outcome, Cancelled)
    assert outcome.report.rung is Rung.ASKED
    assert outcome.report.refusals == 0


@pytest.mark.parametrize(("seconds", "done"), [(0.01, ["rolled back"]), (60, [])])
@pytest.mark.usefixtures("patient")
async def test_an_except_behind_a_greenlet_is_not_passed_by_and_may_not_hang(seconds: float, done: list[str]) -> None:
    seen: list[str] = []

    async def clean_up() -> None:
        try:
            await asyncio.sleep(60)
        finally:
            await spawn(lambda: by_clause(seen, seconds))

    op = calloff.start(clean_up(), grace=0.1)
    await asyncio.sleep(0.05)
    outcome = await op.stop()
    assert isinstance(outcome, Cancelled)
    assert outcome.report.rung is Rung.FORCED
    assert seen == done


def blocks_before_its_first_wait() -> None:
    time.sleep(60)


def blocks_after_a_wait() -> None:
    wait(asyncio.sleep(0))
    time.sleep(60)


def blocks_in_a_greenlet_of_its_own() -> None:
    greenlet.greenlet(blocks_before_its_first_wait).switch()


def blocks_and_refuses() -> None:
    while True:
        with contextlib.suppress(BaseException):
            time.sleep(1)


@pytest.mark.parametrize(
    ("code", "rung"),
    [
        (blocks_before_its_first_wait, Rung.INTERRUPTED),
        (blocks_after_a_wait, Rung.INTERRUPTED),
        (blocks_in_a_greenlet_of_its_own, Rung.INTERRUPTED),
        (blocks_and_refuses, Rung.FORCED),
    ],
)
def test_code_in_a_greenlet_that_blocks_the_loop_is_interrupted(code: Callable[[], None], rung: Rung) -> None:
    async def main() -> None:
        outcome = await calloff.start(spawn(code), timeout=0.1, grace=0.1).outcome()
        assert isinstance(outcome, Cancelled)
        assert outcome.report.rung is rung

    calloff.run(main(), timeout=40)


async def test_a_refusal_behind_a_greenlet_is_one() -> None:
    """It is recognised after a quarter of a second at the earliest, and then asked again."""
    asked: list[float] = []

    def refuses() -> None:
        while True:
            try:
                wait(asyncio.sleep(60))
            except asyncio.CancelledError:
                asked.append(time.monotonic())

    op = calloff.start(spawn(refuses), grace=1)
    await asyncio.sleep(0.05)
    outcome = await op.stop()
    assert outcome.report.rung is Rung.FORCED
    assert len(asked) >= 2
    assert asked[1] - asked[0] >= 0.2


# --- task factories


def by_async_function(loop: Any, coro: Any, **options: Any) -> asyncio.Task[Any]:
    async def wrapped() -> Any:
        return await coro

    return asyncio.Task(wrapped(), loop=loop, **options)


def by_class(loop: Any, coro: Any, **options: Any) -> asyncio.Task[Any]:
    return asyncio.Task(OwnCoroutine(coro), loop=loop, **options)


class Traced(asyncio.Task[Any]):
    """A subclass that wraps in its constructor."""

    def __init__(self, coro: Any, **options: Any) -> None:
        async def wrapped() -> Any:
            try:
                return await coro
            finally:
                await asyncio.sleep(0)

        super().__init__(wrapped(), **options)


def by_subclass(loop: Any, coro: Any, **options: Any) -> asyncio.Task[Any]:
    return Traced(coro, loop=loop, **options)


factories = pytest.mark.parametrize("factory", [by_async_function, by_class, by_subclass])


async def stubborn() -> None:
    while True:
        with contextlib.suppress(asyncio.CancelledError):
            await asyncio.sleep(60)


async def blocks() -> None:
    time.sleep(30)


async def immortal() -> None:
    until = time.monotonic() + 30
    while time.monotonic() < until:
        with contextlib.suppress(BaseException):
            await asyncio.sleep(60)


@factories
@pytest.mark.usefixtures("begins_first")
def test_the_ladder_behind_a_task_factory(factory: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    from calloff._operation.operation import Operation

    monkeypatch.setattr(Operation, "policy", Operation.policy._replace(last=0.2))

    async def main() -> None:
        asyncio.get_running_loop().set_task_factory(factory)
        since = time.monotonic()
        blocked = await calloff.start(blocks(), timeout=0.2).outcome()
        assert isinstance(blocked, Cancelled)
        assert blocked.report.rung is Rung.INTERRUPTED
        assert time.monotonic() - since < 10
        forced = await calloff.start(stubborn(), timeout=0.05, grace=0.1).outcome()
        assert isinstance(forced, Cancelled)
        assert forced.report.rung is Rung.FORCED
        left = await calloff.start(immortal(), timeout=0.05, grace=0.1).outcome()
        assert isinstance(left, Abandoned)

    calloff.run(main(), grace=0.3)


@factories
def test_the_end_of_a_program_with_a_task_factory(factory: Any, caplog: pytest.LogCaptureFixture) -> None:
    async def main() -> "calloff.Operation[None]":
        asyncio.get_running_loop().set_task_factory(factory)
        op = calloff.start(stubborn(), detached=True)
        await asyncio.sleep(0.05)
        return op

    with caplog.at_level(logging.WARNING):
        op = calloff.run(main(), grace=0.2)
    assert op.report is not None
    assert op.report.rung is Rung.FORCED
    assert not caplog.records


# --- objects that break when they are looked at


class Broken(BaseException):
    """Nobody catches this by accident."""


def breaks(*_: object) -> Any:
    raise Broken


class Hostile:
    """Raises at every look, and is what task groups are like."""

    __getattr__ = __eq__ = __bool__ = __len__ = __iter__ = __hash__ = __contains__ = breaks
    _tasks = waits_in = is_shield = insists = coro = _children = property(breaks)
    __class__ = property(breaks)

    def __repr__(self) -> str:
        raise Broken

    async def __aenter__(self) -> None:
        pass

    async def __aexit__(self, *_: object) -> None:
        await asyncio.sleep(60)

    async def outcome(self) -> None:
        await asyncio.sleep(60)

    async def stop(self) -> None:
        await self.outcome()


class HostileFuture(asyncio.Future[None]):
    __eq__ = __bool__ = __len__ = __iter__ = breaks
    __hash__ = asyncio.Future.__hash__
    _children = waits_in = property(breaks)


class HostileError(asyncio.CancelledError):
    __eq__ = __bool__ = breaks
    __hash__ = asyncio.CancelledError.__hash__


async def in_an_exit() -> None:
    async with Hostile():
        pass


async def in_a_block() -> None:
    async with Hostile():
        await asyncio.sleep(60)


async def in_methods() -> None:
    await Hostile().stop()


async def at_a_future() -> None:
    await HostileFuture()


async def in_a_group_that_lies() -> None:
    class Group:
        def __init__(self) -> None:
            self._tasks = Hostile()

        async def __aexit__(self) -> None:
            await asyncio.sleep(60)

    await Group().__aexit__()


async def with_an_error_of_its_own() -> None:
    try:
        await asyncio.sleep(60)
    except asyncio.CancelledError as error:
        raise HostileError from error


@pytest.mark.parametrize(
    "odd", [in_an_exit, in_a_block, in_methods, at_a_future, in_a_group_that_lies, with_an_error_of_its_own]
)
async def test_an_odd_object_takes_the_ladder_from_nobody(
    odd: Callable[[], Any], caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.WARNING):
        complaints: list[Any] = []
        asyncio.get_running_loop().set_exception_handler(lambda _, context: complaints.append(context))

        async def refuses() -> None:
            while True:
                try:
                    await odd()
                except asyncio.CancelledError:
                    pass

        ops = [calloff.start(odd(), grace=0.1), calloff.start(refuses(), grace=0.1)]
        ops += [calloff.start(stubborn(), grace=0.1) for _ in range(3)]
        await asyncio.sleep(0.02)
        for op in ops:
            op.where()
            op.cancel()
        outcomes = [await op.outcome() for op in ops]
        assert all(isinstance(outcome, Cancelled) for outcome in outcomes)
        assert outcomes[0].report is not None
        assert outcomes[0].report.where
        assert [outcome.report.rung for outcome in outcomes[1:]] == [Rung.FORCED] * 4
        assert complaints == []
    assert not caplog.records


async def test_a_stop_asks_no_process_where_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    from calloff._places.process.body import ProcessBody

    def where(self: object) -> Any:
        raise AssertionError("a stop must not wait for this")

    async def above() -> None:
        while True:
            with contextlib.suppress(asyncio.CancelledError):
                await calloff.start(calloff.process(time.sleep, 30), grace=0.1)

    op = calloff.start(above(), grace=0.1)
    while not any(child.state.value == "running" for child in op.children):
        await asyncio.sleep(0.01)
    monkeypatch.setattr(ProcessBody, "where", where)
    outcome = await op.stop()
    assert outcome.report.rung is Rung.FORCED
    assert any(frame.function == "above" for frame in outcome.report.where)


class CancelRaises(asyncio.Future[None]):
    def cancel(self, msg: Any = None) -> bool:
        raise RuntimeError("not today")


class CancelLies(asyncio.Future[None]):
    def cancel(self, msg: Any = None) -> bool:
        return True


class CancelRefuses(asyncio.Future[None]):
    def cancel(self, msg: Any = None) -> bool:
        return False


@pytest.mark.parametrize("kind", [CancelRaises, CancelLies, CancelRefuses])
@pytest.mark.parametrize("cleans_up", [False, True])
@pytest.mark.usefixtures("patient")
async def test_a_body_that_waits_for_what_can_not_be_cancelled_is_forced(
    kind: type[asyncio.Future[None]], cleans_up: bool, caplog: pytest.LogCaptureFixture
) -> None:
    cleaned = []

    async def waits() -> None:
        try:
            await kind(loop=asyncio.get_running_loop())
        finally:
            if cleans_up:
                await asyncio.sleep(0.01)
            cleaned.append(1)

    operation = calloff.start(waits())
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    outcome = await operation.stop(grace=0.05)
    assert isinstance(outcome, Cancelled), outcome
    assert outcome.report.rung is Rung.FORCED
    assert outcome.report.where[-1].function == "waits"
    assert cleaned == [1]
    raised = [f"what 'waits' waits for can't be cancelled: its cancel() raised {RuntimeError('not today')!r}"]
    assert caplog.messages == (raised if kind is CancelRaises else [])
    assert not any(record.exc_info for record in caplog.records)


@pytest.mark.parametrize("turns", [0, 1, 2])
def test_a_wrapped_body_that_is_called_off_at_once_has_ended_at_once(turns: int) -> None:
    """The cancel hits the wrapper before its first step: the body never hears of it."""

    def factory(loop: asyncio.AbstractEventLoop, coro: Any, **options: Any) -> Any:
        async def traced() -> Any:
            return await coro

        return asyncio.Task(traced(), loop=loop, **options)

    async def waits() -> None:
        await asyncio.sleep(60)

    async def main() -> None:
        asyncio.get_running_loop().set_task_factory(factory)
        operation = calloff.start(waits(), grace=30)
        for _ in range(turns):
            await asyncio.sleep(0)
        async with asyncio.timeout(20):
            outcome = await operation.stop()
        assert isinstance(outcome, Cancelled)
        assert outcome.report.rung is Rung.ASKED
        assert outcome.report.started is bool(turns)
        assert operation not in calloff.operations()

    asyncio.run(main())
