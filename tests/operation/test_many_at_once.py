"""Very many that are called off at once: the loop turns in between, and each is told as if it had been the only one."""

import asyncio
import time
from collections import Counter
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

import calloff

#: three turns, and some
MANY = 450


class Turns:
    """Counts the turns of the loop while its block runs."""

    def __init__(self) -> None:
        self.now = 0
        self.over = False

    def __enter__(self) -> "Turns":
        self._count()
        return self

    def _count(self) -> None:
        self.now += 1
        if not self.over:
            asyncio.get_running_loop().call_soon(self._count)

    def __exit__(self, *_: object) -> None:
        self.over = True


async def parked(
    body: Callable[[], Awaitable[Any]], first: Callable[[], Awaitable[Any]] | None = None, *, grace: float = 60
) -> list["calloff.Operation[Any]"]:
    """`MANY` operations that have begun and wait; the last one runs `body`, the others `first`, or the same."""
    works = [first or body] * (MANY - 1) + [body]
    operations = [calloff.start(work(), grace=grace) for work in works]
    for _ in range(3):
        await asyncio.sleep(0)
    return operations


async def told(operations: list["calloff.Operation[Any]"]) -> Counter[tuple[str, str, int]]:
    """What is told of them: the kind of the outcome, the last rung, and the refusals."""
    outcomes = [await operation.outcome() for operation in operations]
    reports = [outcome.report for outcome in outcomes]
    return Counter(
        (type(outcome).__name__, report.rung.name, report.refusals)
        for outcome, report in zip(outcomes, reports, strict=True)
    )


async def forever() -> None:
    await asyncio.sleep(3600)


async def test_so_many_are_asked_in_one_turn_of_the_loop() -> None:
    asked: list[int] = []
    with Turns() as turns:

        async def body() -> None:
            try:
                await forever()
            finally:
                asked.append(turns.now)

        operations = await parked(body)
        for operation in operations:
            operation.cancel("enough")
        assert {str(operation.state) for operation in operations} == {"stopping"}
        assert await told(operations) == {("Cancelled", "ASKED", 0): MANY}
    most = max(Counter(asked).values())
    assert most <= 300, "two shares of a hundred may meet in one turn; with a third on uvloop, where timers come first"
    assert asked == sorted(asked)
    where = [operation.report.where[-2] for operation in operations if operation.report is not None]
    assert {frame.function for frame in where} == {"forever"}


async def test_few_are_asked_at_once_also_one_after_another() -> None:
    for _ in range(30):
        operations = [calloff.start(forever()) for _ in range(90)]
        await asyncio.sleep(0)
        with Turns() as turns:
            for operation in operations:
                operation.cancel()
            await asyncio.wait(operations)
            assert turns.now <= 4


async def test_what_has_not_begun_never_begins() -> None:
    begun: list[object] = []

    async def body() -> None:
        begun.append(None)

    if asyncio.get_running_loop().get_task_factory() is not None:
        pytest.skip("eager tasks begin at once")
    operations = [calloff.start(body()) for _ in range(MANY)]
    for operation in operations:
        operation.cancel()
    assert await told(operations) == {("Cancelled", "ASKED", 0): MANY}
    assert not begun
    assert not any(operation.report.started for operation in operations if operation.report is not None)


async def test_what_ends_before_its_turn_has_ended_by_itself() -> None:
    gate: asyncio.Future[int] = asyncio.get_running_loop().create_future()

    async def waits() -> int:
        return await asyncio.shield(gate)

    operations = await parked(waits, forever)
    for operation in operations:
        operation.cancel()
    gate.set_result(7)
    outcome = await operations[-1].outcome()
    assert isinstance(outcome, calloff.Completed)
    assert outcome.value == 7
    assert outcome.report is not None
    assert outcome.report.refusals == 0
    await told(operations[:-1])


async def test_the_clean_up_that_somebody_else_has_set_going_is_not_disturbed() -> None:
    """As `asyncio.run` does, which cancels all tasks when the last line has called off many."""
    cleaned: list[object] = []

    async def body() -> None:
        try:
            await forever()
        finally:
            await asyncio.sleep(0.05)
            cleaned.append(None)

    operations = await parked(body)
    for operation in operations:
        operation.cancel()
    for operation in operations:
        assert operation.body is not None
        assert operation.body.task is not None
        operation.body.task.cancel()
    assert await told(operations) == {("Cancelled", "ASKED", 0): MANY}
    assert len(cleaned) == MANY


async def test_what_a_block_of_its_own_called_off_in_between_is_asked_once_behind_that() -> None:
    scopes: list[asyncio.Timeout] = []
    heard: list[str] = []

    async def body() -> None:
        try:
            async with asyncio.timeout(None) as scope:
                scopes.append(scope)
                await forever()
        except TimeoutError:
            heard.append("timeout")
            await asyncio.sleep(0.03)
        await forever()

    operations = await parked(body, forever)
    for operation in operations:
        operation.cancel()
    scopes[0].reschedule(0)
    assert await told(operations) == {("Cancelled", "ASKED", 0): MANY}
    assert heard == ["timeout"]


async def test_who_goes_on_all_the_same_is_asked_again_and_forced_as_ever() -> None:
    async def stubborn() -> None:
        while True:
            try:
                await forever()
            except asyncio.CancelledError:
                pass

    operations = await parked(stubborn, grace=0.1)
    for operation in operations:
        operation.cancel()
    found = await told(operations)
    assert {(kind, rung) for kind, rung, _ in found} == {("Cancelled", "FORCED")}
    assert min(refusals for _, _, refusals in found) >= 1


async def test_a_further_request_forces_at_once_what_waits_for_its_turn() -> None:
    async def stubborn() -> None:
        while True:
            try:
                await forever()
            except asyncio.CancelledError:
                pass

    operations = await parked(stubborn, forever)
    for operation in operations:
        operation.cancel()
    operations[-1].cancel(grace=0)
    assert await told(operations[-1:]) == {("Cancelled", "FORCED", 1): 1}
    await told(operations)


def test_what_begins_to_block_the_loop_before_its_turn_is_asked_all_the_same() -> None:
    async def main() -> None:
        gate: asyncio.Future[None] = asyncio.get_running_loop().create_future()

        async def blocks() -> None:
            await gate
            end = time.monotonic() + 30
            while time.monotonic() < end:
                pass

        operations = await parked(blocks, forever)
        for operation in operations:
            operation.cancel()
        gate.set_result(None)
        assert await told(operations[-1:]) == {("Cancelled", "INTERRUPTED", 0): 1}
        await told(operations)

    calloff.run(main())


async def test_one_that_fails_keeps_no_other_from_its_turn() -> None:
    class Strange(asyncio.Future[None]):
        def cancel(self, msg: Any = None) -> bool:
            raise ValueError("strange")

    async def waits() -> None:
        await Strange()

    operations = await parked(forever, waits, grace=0.1)
    for operation in operations:
        operation.cancel()
    assert (await told(operations)).keys() == {("Cancelled", "ASKED", 0), ("Cancelled", "FORCED", 0)}
