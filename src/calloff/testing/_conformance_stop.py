"""Conformance: being called off, each rung, the bound and the truth of the report."""

import asyncio
import logging
import pickle
import threading
import time
from asyncio import CancelledError
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

import calloff
from calloff import Abandoned, Cancelled, Completed, Operation, OperationCancelled, Rung, TimedOut

from ._conformance import SLACK, Place, Run

__all__ = ["StopTests"]


class StopTests(Place):
    """How every place stops."""

    def test_asked(self, run_async: Run, tmp_path: Path) -> None:
        async def main() -> None:
            mark = tmp_path / "mark"
            op = await self.started(self.waits(mark), mark, name="waiter")
            assert op.cancel("enough")
            outcome = await op.outcome()
            await self.gone(mark)
            assert isinstance(outcome, Cancelled)
            assert outcome.operation == (op.id, "waiter")
            report = outcome.report
            assert report.started
            assert report.rung is self.polite
            assert report.refusals == 0
            assert report.survivors == ()
            assert report.stuck_at == ()
            assert (report.reason.kind, report.reason.text) == ("requested", "enough")
            assert report.requested_at <= report.ended_at < report.requested_at + SLACK
            if self.where_shows is not None:
                assert self.where_shows in [frame.function for frame in report.where]
            assert op.cancelled()
            assert str(op.state) == "cancelled"
            assert op.place == self.place
            assert op.where() == ()
            assert op not in calloff.operations()
            assert not op.cancel()

        run_async(main)

    def test_what_awaiting_it_raises(self, run_async: Run, tmp_path: Path) -> None:
        async def main() -> None:
            mark = tmp_path / "mark"
            op = await self.started(self.waits(mark), mark, name="waiter")
            op.cancel("enough")
            with pytest.raises(OperationCancelled) as caught:
                await op
            copy: OperationCancelled = pickle.loads(pickle.dumps(caught.value))
            for error in (caught.value, copy):
                assert isinstance(error, CancelledError)
                assert isinstance(error, OperationCancelled)
                assert "'waiter' was cancelled: enough" in str(error)
                assert error.operation == (op.id, "waiter")
                assert error.reason.text == "enough"
                assert error.report is not None
                assert error.report.rung is self.polite

        run_async(main)

    def test_cancelled_at_once(self, run_async: Run, tmp_path: Path) -> None:
        async def main() -> None:
            mark = tmp_path / "mark"
            op: Operation[Any] = calloff.start(self.waits(mark))
            assert op.cancel()
            outcome = await op.outcome()
            assert isinstance(outcome, Cancelled)
            existed = mark.exists()
            await self.gone(mark)
            assert outcome.report.started or not mark.exists(), "it was said never to have run"
            assert existed or not mark.exists(), "it began after its end was told"

        run_async(main)

    def test_cancelled_while_it_starts(self, run_async: Run, tmp_path: Path) -> None:
        async def main() -> None:
            marks = [tmp_path / f"mark{number}" for number in range(10)]
            for number, mark in enumerate(marks):
                op: Operation[Any] = calloff.start(self.waits(mark))
                await asyncio.sleep(number * 0.001)
                outcome = await op.stop()
                assert isinstance(outcome, Cancelled)
                assert outcome.report.rung in (Rung.ASKED, self.polite)
                assert outcome.report.started or not mark.exists()
            await self.gone(*marks)

        run_async(main)

    def test_a_deadline(self, run_async: Run, tmp_path: Path) -> None:
        async def main() -> None:
            mark = tmp_path / "mark"
            op: Operation[Any] = calloff.start(self.waits(mark), name="waiter", timeout=0.2)
            with pytest.raises(TimeoutError) as caught:
                await op
            error = caught.value
            assert isinstance(error, TimedOut)
            assert "'waiter' did not end within 0.2 s" in str(error)
            assert error.reason.kind == "deadline"
            assert op.deadline is not None  # also where it is known only once the body has begun
            assert op.elapsed >= 0.19
            assert op.elapsed < 0.2 + SLACK
            await self.gone(mark)

        run_async(main)

    def test_a_stall(self, run_async: Run, tmp_path: Path) -> None:
        async def main() -> None:
            mark = tmp_path / "mark"
            with pytest.raises(TimedOut, match=r"'waiter' made no progress for 0\.2 s") as caught:
                await calloff.call(self.waits(mark), name="waiter", stall=0.2)
            assert caught.value.reason.kind == "stalled"
            await self.gone(mark)

        run_async(main)

    @pytest.mark.usefixtures("patience")
    def test_forced_after_its_grace(self, run_async: Run, tmp_path: Path) -> None:
        async def main() -> None:
            mark = tmp_path / "mark"
            op = await self.started(self.refuses(mark), mark)
            before = time.monotonic()
            outcome = await op.stop("enough", grace=0.3)
            took = time.monotonic() - before
            await self.gone(mark)
            assert isinstance(outcome, Cancelled), outcome
            assert outcome.report.rung is self.forced
            assert outcome.report.survivors == ()
            assert 0.29 <= took < 0.3 + 1 + SLACK
            assert outcome.report.ended_at - outcome.report.requested_at >= 0.29

        run_async(main)

    @pytest.mark.usefixtures("patience")
    def test_forced_at_once(self, run_async: Run, tmp_path: Path) -> None:
        async def main() -> None:
            mark = tmp_path / "mark"
            op = await self.started(self.refuses(mark), mark)
            before = time.monotonic()
            outcome = await op.stop(grace=0)
            assert time.monotonic() - before < 1 + SLACK
            assert isinstance(outcome, Cancelled), outcome
            assert outcome.report.rung is self.forced
            await self.gone(mark)

        run_async(main)

    @pytest.mark.usefixtures("patience")
    def test_forced_by_its_deadline(self, run_async: Run, tmp_path: Path) -> None:
        async def main() -> None:
            mark = tmp_path / "mark"
            op = await self.started(self.refuses(mark), mark, grace=0.1)
            op.reschedule(0.1)
            with pytest.raises(TimedOut):
                await op
            assert op.report is not None
            assert op.report.rung is self.forced
            await self.gone(mark)

        run_async(main)

    @pytest.mark.usefixtures("patience")
    def test_a_second_request_hastens(self, run_async: Run, tmp_path: Path) -> None:
        async def main() -> None:
            mark = tmp_path / "mark"
            op = await self.started(self.refuses(mark), mark)
            op.cancel("first", grace=600)
            await self.goes_on(op, mark)
            assert not op.done()
            assert op.cancel("second", grace=0)
            before = time.monotonic()
            outcome = await op.outcome()
            assert time.monotonic() - before < 1 + SLACK
            assert isinstance(outcome, Cancelled)
            assert outcome.reason.text == "first"
            assert outcome.report.refusals >= 1 or not self.counts_refusals

        run_async(main)

    @pytest.mark.usefixtures("patience")
    def test_a_second_request_never_slows(self, run_async: Run, tmp_path: Path) -> None:
        async def main() -> None:
            mark = tmp_path / "mark"
            op = await self.started(self.refuses(mark), mark)
            before = time.monotonic()
            op.cancel(grace=0.2)
            op.cancel(grace=600)
            assert isinstance(await op.outcome(), Cancelled)
            assert time.monotonic() - before < 0.2 + 1 + SLACK

        run_async(main)

    @pytest.mark.usefixtures("patience")
    def test_side_by_side(self, run_async: Run, tmp_path: Path) -> None:
        async def main() -> None:
            marks = [tmp_path / f"mark{number}" for number in range(8)]
            ops: list[Operation[Any]] = [calloff.start(self.refuses(mark)) for mark in marks]
            await self.begun(marks[0])
            outcomes = await asyncio.gather(*(op.stop(grace=0.5) for op in ops))
            ends = sorted(op.report.ended_at for op in ops if op.report)
            assert min(late - early for early, late in pairwise(ends)) < 0.5, "not one after another"
            for outcome, mark in zip(outcomes, marks, strict=True):
                assert isinstance(outcome, Cancelled), outcome
                assert outcome.report.started or not mark.exists()
            await self.gone(*marks)
            assert self.value_of(await calloff.call(self.returns("next"))) == "next", "there is room again"

        run_async(main)

    def test_it_declines(self, run_async: Run, tmp_path: Path) -> None:
        async def main() -> None:
            mark = tmp_path / "mark"
            op = await self.started(self.declines(mark, "no"), mark)
            outcome = await op.stop("please")
            assert isinstance(outcome, Completed), outcome
            assert self.value_of(outcome.value) == "no"
            assert outcome.report is not None
            assert outcome.report.refusals >= 1
            assert outcome.report.reason.text == "please"
            assert self.value_of(await op) == "no"

        run_async(main)

    def test_its_clean_up_gets_its_grace(self, run_async: Run, tmp_path: Path) -> None:
        async def main() -> None:
            mark, done = tmp_path / "mark", tmp_path / "done"
            op = await self.started(self.cleans_up(mark, done), mark)
            outcome = await op.stop(grace=60)
            assert done.exists()
            assert isinstance(outcome, Cancelled), outcome
            assert outcome.report.rung is self.polite
            assert outcome.report.refusals == 0
            assert outcome.report.seconds >= 0.19

        run_async(main)

    def test_abandoned(self, run_async: Run, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
        async def main() -> None:
            mark, release = tmp_path / "mark", tmp_path / "release"
            op = await self.started(self.unstoppable(mark, release), mark, name="stuck")
            before = time.monotonic()
            try:
                outcome = await op.stop(grace=0.1)
                assert 1.09 <= time.monotonic() - before < 0.1 + 1 + SLACK
                assert isinstance(outcome, Abandoned), outcome
                assert outcome.report.rung is Rung.ABANDONED
                assert outcome.report.stuck_at
                assert str(op.state) == "abandoned"
                assert op.done()
                with pytest.raises(OperationCancelled, match="could not be stopped: stuck at"):
                    await op
                assert op in calloff.operations(), "it is listed as long as it runs"
                assert op.where()
            finally:
                release.touch()
            await self.until(lambda: op not in calloff.operations(), "it is listed no more")
            assert str(op.state) == "abandoned", "an ending is final"

        with caplog.at_level(logging.WARNING, "calloff"):
            run_async(main)
        assert "'stuck' could not be stopped and was abandoned" in caplog.text
        assert "'stuck', abandoned" in caplog.text, "its late ending is logged"

    def test_its_parent_ends(self, run_async: Run, tmp_path: Path) -> None:
        async def main() -> None:
            mark, free = tmp_path / "mark", tmp_path / "free"
            ops: list[Operation[Any]] = []

            async def around() -> str:
                ops.append(await self.started(self.waits(mark), mark))
                ops.append(await self.started(self.waits(free), free, detached=True))
                return "left"

            parent = calloff.start(around())
            assert await parent == "left"
            outcome = await ops[0].outcome()
            assert isinstance(outcome, Cancelled)
            assert outcome.reason.kind == "parent"
            assert outcome.reason.by is not None
            assert parent.id in outcome.reason.by
            await self.gone(mark)
            await asyncio.sleep(0.05)
            assert not ops[1].done(), "it is detached"
            await ops[1].stop()

        run_async(main)

    def test_the_reason_goes_down_the_tree(self, run_async: Run, tmp_path: Path) -> None:
        async def main() -> None:
            mark = tmp_path / "mark"
            ops: list[Operation[Any]] = []

            async def around() -> None:
                ops.append(await self.started(self.waits(mark), mark))
                await ops[0]

            parent = calloff.start(around())
            await self.until(lambda: ops, "the body beats")
            await parent.stop("the user went home")
            outcome = await ops[0].outcome()
            assert isinstance(outcome, Cancelled)
            assert outcome.reason.kind == "parent"
            assert outcome.reason.text == "the user went home"

        run_async(main)

    def test_who_asked(self, run_async: Run, tmp_path: Path) -> None:
        async def main() -> None:
            mark = tmp_path / "mark"
            op = await self.started(self.waits(mark), mark)

            async def asker() -> None:
                op.cancel("because")

            asking = calloff.start(asker(), name="asker")
            await asking
            outcome = await op.outcome()
            assert isinstance(outcome, Cancelled)
            assert outcome.reason.by is not None
            assert "asker" in outcome.reason.by

        run_async(main)

    def test_the_cancel_of_who_awaits_it(self, run_async: Run, tmp_path: Path) -> None:
        async def main() -> None:
            mark = tmp_path / "mark"
            op = await self.started(self.waits(mark), mark)

            async def awaiting() -> None:
                await op

            task = asyncio.create_task(awaiting())
            await asyncio.sleep(0.02)
            task.cancel()
            with pytest.raises(CancelledError) as caught:
                await task
            assert not isinstance(caught.value, OperationCancelled)
            assert task.cancelled()
            outcome = await op.outcome()
            assert isinstance(outcome, Cancelled)
            assert outcome.reason.kind == "parent"
            await self.gone(mark)

        run_async(main)

    @pytest.mark.usefixtures("patience")
    def test_the_cancel_of_who_stops_it(self, run_async: Run, tmp_path: Path) -> None:
        async def main() -> None:
            mark = tmp_path / "mark"
            op = await self.started(self.refuses(mark), mark)
            task = asyncio.create_task(op.stop(grace=0.2))
            await asyncio.sleep(0.05)
            in_time = task.cancel()  # a busy machine may have ended it before
            await asyncio.wait([task])
            assert task.cancelled() or not in_time, "the cancel is not lost"
            assert op.done(), "and the stop was seen to its end"
            await self.gone(mark)

        run_async(main)

    def test_wait_for(self, run_async: Run, tmp_path: Path) -> None:
        async def main() -> None:
            mark = tmp_path / "mark"
            op = await self.started(self.waits(mark), mark)
            with pytest.raises(TimeoutError):
                await asyncio.wait_for(op, 0.05)
            assert isinstance(await op.outcome(), Cancelled)
            await self.gone(mark)

        run_async(main)

    def test_from_another_thread(self, run_async: Run, tmp_path: Path) -> None:
        async def main() -> None:
            mark = tmp_path / "mark"
            op = await self.started(self.waits(mark), mark)
            thread = threading.Thread(target=op.cancel, args=("from outside",))
            thread.start()
            outcome = await op.outcome()
            thread.join()
            assert isinstance(outcome, Cancelled)
            assert outcome.reason.text == "from outside"

        run_async(main)
