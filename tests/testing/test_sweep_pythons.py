"""A fault of Python's own is told as Python's, in the versions that have it."""

import asyncio
import sys

from .test_sweep_truth import swept


class Pool:
    """Who waits for the one connection waits for a Condition."""

    def __init__(self) -> None:
        self.free: list[str] = []
        self.condition = asyncio.Condition()

    async def put(self, connection: str) -> None:
        async with self.condition:
            self.free.append(connection)
            self.condition.notify()


async def pool() -> Pool:
    made = Pool()
    asyncio.get_running_loop().call_later(0.005, lambda: asyncio.ensure_future(made.put("connection")))
    return made


async def use(pool: Pool) -> None:
    async with pool.condition:
        while not pool.free:
            await pool.condition.wait()
        connection = pool.free.pop()
    await asyncio.shield(asyncio.ensure_future(pool.put(connection)))


def test_a_condition_that_loses_its_notify_at_a_cancel() -> None:
    report = swept(use, setup=pool, bystander=use, phases=("late",), timeout=1)
    waits = [finding for finding in report.findings if finding.at.source == "await pool.condition.wait()"]
    if sys.version_info >= (3, 13):
        assert report.verdict == "SAFE", str(report)
        return
    assert [finding.oracles for finding in waits] == [{"bystander"}], str(report)
    (finding,) = waits
    assert finding.at_fault.function == "wait"
    assert finding.at_fault.file == asyncio.locks.__file__
    assert finding.python == "Python's own fault: Condition.wait loses a notify at a cancel, before 3.13"
    assert "at fault: " in str(report)
    assert "(Python's own fault: Condition.wait loses a notify at a cancel, before 3.13)" in str(report)
