"""Not a program: what type checkers are to make of calloff. Checked by test_typing.py with mypy --strict and pyright.

An ``ignore`` comment stands where a mistake has to be found: both checkers complain about one that is of no use.
"""

import asyncio
from collections.abc import AsyncIterator, Awaitable
from typing import Any, assert_never, assert_type

import calloff
import calloff.cluster
from calloff import Abandoned, Cancelled, Completed, Failed, Operation, Outcome


async def number() -> int:
    return 3


async def text(times: int) -> str:
    return "x" * times


async def starting() -> None:
    op = calloff.start(number())
    assert_type(op, Operation[int])
    assert_type(await op, int)
    assert_type(op.result(), int)
    assert_type(op.exception(), BaseException | None)
    assert_type(calloff.start(number), Operation[int])
    assert_type(calloff.start(lambda: text(3)), Operation[str])
    assert_type(await calloff.tool(number)(), int | str)
    assert_type(await calloff.tool(on_timeout="raise")(text)(3), str)
    assert_type(await calloff.call(text(3), timeout=3, stall=1.5, grace=0), str)
    assert_type(op.cancel("enough", grace=1), bool)
    assert_type(await op.stop("enough"), Outcome[int])
    assert_type(await op.outcome(), Completed[int] | Failed | Cancelled | Abandoned)


async def as_a_future(op: Operation[int], other: Operation[str]) -> None:
    future: asyncio.Future[int] = op
    awaitable: Awaitable[int] = op
    assert_type(await future, int)
    assert_type(await awaitable, int)
    assert_type(await asyncio.gather(op, other), tuple[int, str])
    assert_type(await asyncio.wait_for(op, 3), int)
    assert_type(await asyncio.shield(other), str)
    done, pending = await asyncio.wait([op])
    assert_type(done, set[Operation[int]])
    assert_type(pending, set[Operation[int]])


async def of_several_kinds() -> None:
    several = [calloff.start(number()), calloff.start(text(3))]
    for op in several:
        print(op.name, (await op.stop()).report, await op)
    await asyncio.wait(several)
    anything: Operation[object] = calloff.start(number())
    await anything


def nodes_by_name(name: str, argv: list[str]) -> None:
    nodes = {name: argv}
    calloff.cluster.commands(nodes)
    calloff.cluster.commands({calloff.cluster.Node(name): argv})
    calloff.cluster.commands({name: argv, calloff.cluster.Node("other"): argv})


def every_ending(outcome: Outcome[int]) -> str:
    match outcome:
        case Completed(value, report):
            assert_type(value, int)
            assert_type(report, calloff.StopReport | None)
            return "completed"
        case Failed(error):
            assert_type(error, BaseException)
            return "failed"
        case Cancelled(report=report):
            assert_type(report, calloff.StopReport)
            return "cancelled"
        case Abandoned() as abandoned:
            assert_type(abandoned.reason, calloff.Reason)
            return "abandoned"
        case _:
            assert_never(outcome)


def one_ending_forgotten(outcome: Outcome[int]) -> str:
    match outcome:
        case Completed() | Failed() | Cancelled():
            return "ended"
        case _:
            assert_never(outcome)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]


def unwrapping(outcome: Outcome[int]) -> int:
    return outcome.unwrap()


async def looking(op: Operation[int]) -> None:
    async for tick in op.watch(every=1):
        assert_type(tick, calloff.Tick)
        assert_type(tick.number, int)
        assert_type(tick.remaining, float | None)
        assert_type(tick.where, tuple[calloff.Frame, ...])
    ticks: AsyncIterator[calloff.Tick] = op.watch()
    assert_type(await anext(ticks), calloff.Tick)
    assert_type(op.where(), tuple[calloff.Frame, ...])
    assert_type((op.id, op.name, op.place), tuple[str, str, str])
    assert_type(op.parent, Operation[Any] | None)
    assert_type(op.children, tuple[Operation[Any], ...])
    assert_type((op.deadline, op.remaining, op.elapsed), tuple[float | None, float | None, float])
    assert_type(op.report, calloff.StopReport | None)
    assert_type(calloff.current(), Operation[Any] | None)
    assert_type(calloff.operations(), tuple[Operation[Any], ...])
    assert_type(calloff.remaining(), float)
    calloff.progress((1, 10))
    await calloff.checkpoint()


async def length(text: str) -> int:
    return len(text)


async def many() -> None:
    async with calloff.group(timeout=60, grace=1, on_error="collect") as g:
        op = g.start(number(), name="one")
        g.cancel("enough")
    assert_type(op, Operation[int])
    assert_type(await calloff.race(number(), number(), stagger=0.2), int)
    async with calloff.map(length, ["a"], jobs=3, timeout=1) as results:
        async for item, outcome in results:
            assert_type(item, str)
            assert_type(outcome, Outcome[int])
    assert_type(await calloff.map(length, ["a"]), list[Outcome[int]])
    assert_type(calloff.run(calloff.map(length, ["a"])), list[Outcome[int]])
    assert_type(await calloff.map(len, ["a"], place=calloff.process), list[Outcome[int]])
    for done in await calloff.map("gzip {}", ["a"], place=calloff.command):
        if isinstance(done, Completed):
            assert_type(done.value.status, int)


def errors() -> None:
    try:
        ...
    except calloff.TimedOut as error:
        assert_type(error.reason, calloff.Reason)
        assert_type(error.report, calloff.StopReport | None)
    except calloff.OperationCancelled as cancelled:
        assert_type(cancelled.reason.text, str)


async def mistakes(op: Operation[int]) -> None:
    calloff.start(3)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    calloff.start(number(), timeout="3")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    calloff.start(number(), patients=3)  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]
    calloff.group(on_error="ignore")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    calloff.strat(number())  # type: ignore[attr-defined]  # pyright: ignore[reportAttributeAccessIssue,reportUnknownMemberType]
    value: str = await op  # type: ignore[assignment]  # pyright: ignore[reportAssignmentType]
    print(value)
