"""The memory of an item in a process."""

import asyncio
import resource
from typing import Any

import pytest

import calloff
from calloff import Completed, Failed

MIB = 1 << 20


def takes(item):
    return len(bytearray(300 * MIB if item == 7 else 4 * MIB))


async def takes_later(item):
    await asyncio.sleep(0)
    return takes(item)


def limits(item):
    return resource.getrlimit(resource.RLIMIT_DATA)


def keeps(item):
    kept.append(bytearray(24 * MIB))


kept: list[Any] = []


@pytest.mark.parametrize("batch", [1, 8])
@pytest.mark.parametrize("work", [takes, takes_later])
def test_an_item_that_wants_too_much_fails_alone(batch, work):
    options: dict[str, Any] = {"place": calloff.process, "jobs": 2, "batch": batch, "memory": 100 * MIB}
    outcomes = calloff.run(calloff.map(work, range(20), **options))
    assert [item for item, outcome in enumerate(outcomes) if outcome != Completed(4 * MIB)] == [7]
    assert isinstance(outcomes[7], Failed)
    assert isinstance(outcomes[7].error, MemoryError)
    assert str(outcomes[7].error) == f"it wanted more than the {100 * MIB} bytes that it may take"


def test_nothing_of_the_limit_is_left_and_what_others_keep_does_not_count():
    async def main():
        before = await calloff.call(calloff.process(limits, 0))
        options: dict[str, Any] = {"place": calloff.process, "jobs": 1, "batch": 4, "memory": 100 * MIB}
        assert all(isinstance(outcome, Completed) for outcome in await calloff.map(keeps, range(12), **options))
        assert await calloff.call(calloff.process(limits, 0)) == before
        (within,) = await calloff.map(limits, [1], **options)
        assert within.unwrap()[0] != before[0]

    calloff.run(main())
    calloff.process.restart()


@pytest.mark.parametrize(("memory", "error"), [(0, ValueError), (1.5, TypeError), ("1G", TypeError), (True, TypeError)])
def test_wrong_amounts(memory, error):
    with pytest.raises(error, match="memory must be"):
        calloff.map(takes, [1], place=calloff.process, memory=memory)


def test_it_is_for_processes():
    with pytest.raises(ValueError, match="place=calloff.process"):
        calloff.map(takes_later, [1], memory=100 * MIB)
