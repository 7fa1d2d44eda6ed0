"""A line for each ending, and its fields."""

import asyncio
import logging
import re

import pytest

import calloff
from calloff.logs import LEVELS, log_endings

FIELDS = {
    "operation_id", "operation_name", "parent_id", "place", "outcome", "elapsed", "error", "reason_kind", "reason",
    "reason_by", "rung", "refusals", "clean_up", "where", "survivors",
}  # fmt: skip


@pytest.fixture
def logged(caplog):
    caplog.set_level(logging.DEBUG, "calloff.operations")
    with log_endings():
        yield lambda name: next(record for record in caplog.records if getattr(record, "operation_name", None) == name)


async def waits():
    await asyncio.sleep(3600)


async def fails():
    raise ValueError("no such luck")


async def refuses():
    try:
        await asyncio.sleep(3600)
    except asyncio.CancelledError:
        return 1


@pytest.mark.usefixtures("begins_first")
async def test_the_endings(logged):
    await calloff.call(asyncio.sleep(0), name="good")
    await calloff.start(fails(), name="bad").outcome()
    await calloff.start(waits(), name="late", timeout=0.3).outcome()  # it has begun by then
    for work, name in ((waits(), "stopped"), (refuses(), "stubborn")):
        operation = calloff.start(work, name=name)
        await asyncio.sleep(0)
        await operation.stop("enough")
    await calloff.start(calloff.thread(print), name="never begun").stop()
    good = logged("good")
    assert set(vars(good)) >= FIELDS
    assert (good.levelno, good.name, good.outcome, good.place) == (10, "calloff.operations", "completed", "task")
    assert {getattr(good, field) for field in ("error", "reason", "rung", "refusals", "clean_up", "where")} == {None}
    assert good.elapsed < 5
    assert re.search(r" completed after [\d.]+ m?s$", good.getMessage())  # as people say it

    bad = logged("bad")
    assert (bad.levelno, bad.outcome, bad.error) == (logging.WARNING, "failed", "ValueError: no such luck")
    assert bad.getMessage().endswith("ValueError: no such luck")

    late = logged("late")
    assert (late.levelno, late.outcome, late.reason_kind) == (logging.WARNING, "cancelled", "deadline")
    assert (late.rung, late.refusals, late.reason_by) == ("ASKED", 0, None)
    assert "waits (" in late.where
    assert "await asyncio.sleep(3600)" in late.where
    assert "deadline: within 0.3 s; it stopped when asked (ASKED)" in late.getMessage()

    stopped = logged("stopped")
    assert (stopped.levelno, stopped.outcome, stopped.reason) == (logging.INFO, "cancelled", "enough")
    assert 0 <= stopped.clean_up < 5
    stubborn = logged("stubborn")
    assert (stubborn.levelno, stubborn.outcome, stubborn.refusals) == (logging.INFO, "completed", 1)
    assert "1 refusal" in stubborn.getMessage()
    assert "it never began to run" in logged("never begun").getMessage()


def test_an_abandoned_one_and_parents(arun, logged, monkeypatch):
    monkeypatch.setattr(calloff.Operation, "policy", calloff.Operation.policy._replace(last=0.1))

    async def stubborn():
        while True:
            try:
                await asyncio.sleep(3600)
            except BaseException:  # noqa: B036
                pass

    async def parent():
        child = calloff.start(stubborn())
        await asyncio.sleep(0.01)
        return await child.stop("enough", grace=0)

    outcome = arun(lambda: calloff.call(parent(), name="parent"))
    assert isinstance(outcome, calloff.Abandoned)
    record = logged("stubborn")
    assert (record.levelno, record.outcome, record.rung) == (logging.ERROR, "abandoned", "ABANDONED")
    assert record.parent_id == logged("parent").operation_id
    assert record.reason_by == f"operation {record.parent_id} 'parent'"
    assert "stuck at stubborn (" in record.getMessage()
    assert "await asyncio.sleep(3600)" in record.where


def test_not_by_itself_and_not_after_close(caplog):
    caplog.set_level(logging.DEBUG, "calloff")

    async def main():
        await calloff.call(asyncio.sleep(0))

    asyncio.run(main())
    endings = log_endings()
    endings.close()
    endings.close()
    asyncio.run(main())
    assert not caplog.records


def test_other_levels_and_another_logger(caplog):
    caplog.set_level(logging.INFO, "mine")
    with log_endings("mine", levels={"completed": "INFO"}), log_endings(logging.getLogger("mine.own")):
        asyncio.run(calloff_call())
    assert [(record.name, record.levelname) for record in caplog.records] == [("mine", "INFO")]
    with pytest.raises(ValueError, match="levels must be for some of completed, refused, .* not ended"):
        log_endings(levels={"ended": 10})
    with pytest.raises(ValueError, match="a level must be a number or one of .*, not 'LOUD'"):
        log_endings(levels={"failed": "LOUD"})
    with pytest.raises(TypeError, match="a level must be a number or a name .*, not None"):
        log_endings(levels={"failed": None})  # type: ignore[dict-item]  # on purpose
    with pytest.raises(TypeError):
        LEVELS["failed"] = 0  # type: ignore[index]  # on purpose


async def calloff_call():
    await calloff.call(asyncio.sleep(0))


async def test_it_is_one_line_whatever_a_client_has_sent(logged):
    name = "GET /x\nINFO audit: admin\x1b[2J"
    await calloff.start(waits(), name=name).stop("why\nnot")
    text = logged(name).getMessage()
    assert text.isprintable()
    assert "'GET /x INFO audit: admin [2J' cancelled" in text


def test_an_error_whose_text_is_broken(logged):
    class Broken(Exception):
        def __str__(self):
            raise RuntimeError

    async def breaks():
        raise Broken

    async def main():
        await calloff.start(breaks(), name="broken").outcome()

    asyncio.run(main())
    assert logged("broken").error == "Broken"
