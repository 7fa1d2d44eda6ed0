"""Conformance: starting, endings of its own, looking at it."""

import asyncio
import traceback
from pathlib import Path
from typing import Any

import pytest

import calloff
from calloff import Cancelled, Completed, Failed, Frame, Operation

from ._conformance import Place, Run

__all__ = ["RunTests"]


class RunTests(Place):
    """What every place does as long as nobody asks for a stop."""

    def test_it_returns(self, run_async: Run) -> None:
        async def main() -> None:
            op: Operation[Any] = calloff.start(self.returns("fish"))
            assert op.place == self.place
            assert not op.done()
            assert str(op.state) in ("pending", "running")
            assert op in calloff.operations()
            assert self.value_of(await op) == "fish"
            assert self.value_of(await op) == "fish", "it may be awaited any number of times"
            assert self.value_of(op.result()) == "fish"
            assert op.done()
            assert not op.cancelled()
            assert op.exception() is None
            assert str(op.state) == "completed"
            outcome = await op.outcome()
            assert isinstance(outcome, Completed)
            assert outcome.report is None
            assert op.place == self.place
            assert op.reason is None
            assert op.where() == ()
            assert op not in calloff.operations()
            assert not op.cancel(), "it has ended"
            assert (await op.stop()) == outcome

        run_async(main)

    def test_it_is_called(self, run_async: Run) -> None:
        async def main() -> None:
            assert self.value_of(await calloff.call(self.returns("fish"), timeout=60)) == "fish"

        run_async(main)

    def test_a_long_value(self, run_async: Run) -> None:
        async def main() -> None:
            value = "calloff " * 8000
            assert self.value_of(await calloff.call(self.returns(value))) == value

        run_async(main)

    def test_id_and_name(self, run_async: Run) -> None:
        async def main() -> None:
            first: Operation[Any] = calloff.start(self.returns("a"), name="first")
            second: Operation[Any] = calloff.start(self.returns("b"))
            assert first.name == "first"
            assert second.name
            assert first.id != second.id
            before = first.id, first.name, second.id, second.name
            await asyncio.gather(first, second)
            assert (first.id, first.name, second.id, second.name) == before

        run_async(main)

    def test_it_is_a_future(self, run_async: Run) -> None:
        async def main() -> None:
            ops: list[Operation[Any]] = [calloff.start(self.returns(text)) for text in "abcde"]
            called: list[Any] = []
            ops[0].add_done_callback(called.append)
            done, pending = await asyncio.wait(ops[:2])
            assert done == set(ops[:2])
            assert not pending
            assert [self.value_of(value) for value in await asyncio.gather(*ops[1:3])] == ["b", "c"]
            assert self.value_of(await asyncio.wait_for(ops[3], 60)) == "d"
            assert self.value_of(await asyncio.shield(ops[4])) == "e"
            for each in asyncio.as_completed(ops):
                assert self.value_of(await each) in "abcde"
            await asyncio.sleep(0)
            assert called == [ops[0]]

        run_async(main)

    def test_it_fails(self, run_async: Run) -> None:
        async def main() -> None:
            op: Operation[Any] = calloff.start(self.raises("no fish today"))
            outcome = await op.outcome()
            assert isinstance(outcome, Failed)
            assert outcome.report is None
            assert isinstance(outcome.error, self.error)
            assert "no fish today" in str(outcome.error)
            assert str(op.state) == "failed"
            assert not op.cancelled()
            assert op.exception() is outcome.error
            with pytest.raises(self.error) as caught:
                await op
            assert caught.value is outcome.error
            assert self.traceback_shows in "".join(traceback.format_exception(caught.value))
            assert op not in calloff.operations()

        run_async(main)

    def test_many_at_once(self, run_async: Run) -> None:
        async def main() -> None:
            ops: list[Operation[Any]] = [calloff.start(self.returns(str(number))) for number in range(40)]
            values = await asyncio.gather(*ops)
            assert [self.value_of(value) for value in values] == [str(number) for number in range(40)]

        run_async(main)

    def test_failures_and_values_side_by_side(self, run_async: Run) -> None:
        async def main() -> None:
            ops: list[Operation[Any]] = []
            for number in range(10):
                ops.append(calloff.start(self.returns(f"value {number}")))
                ops.append(calloff.start(self.raises(f"failure {number}")))
            for number in range(10):
                good, bad = await ops[2 * number].outcome(), await ops[2 * number + 1].outcome()
                assert isinstance(good, Completed)
                assert self.value_of(good.value) == f"value {number}"
                assert isinstance(bad, Failed)
                assert f"failure {number}" in str(bad.error)

        run_async(main)

    def test_where_it_is(self, run_async: Run, tmp_path: Path) -> None:
        async def main() -> None:
            mark = tmp_path / "mark"
            op = await self.started(self.waits(mark), mark)
            await self.until(lambda: str(op.state) == "running", "it is called running")
            if self.where_shows is not None:
                seen: list[Frame] = []

                def shows() -> bool:  # in one look: a busy machine may be late with the next one
                    seen[:] = [frame for frame in op.where() if frame.function == self.where_shows]
                    return bool(seen)

                await self.until(shows, f"where() shows {self.where_shows}")
                frame = seen[0]
                assert Path(frame.file).is_absolute()
                assert frame.line > 0
                assert frame.source
            await op.stop()
            assert op.where() == ()

        run_async(main)

    def test_it_is_watched(self, run_async: Run, tmp_path: Path) -> None:
        async def main() -> None:
            mark = tmp_path / "mark"
            op = await self.started(self.waits(mark), mark, timeout=600)
            await self.until(lambda: str(op.state) == "running", "it is called running")
            numbers = []
            async for tick in op.watch(every=0.02):
                numbers.append(tick.number)
                assert tick.elapsed > 0
                assert tick.remaining is not None
                assert 0 < tick.remaining < 600
                if tick.number == 3:
                    assert str(tick.state) == "running"
                    op.cancel()
                elif tick.number > 3:
                    assert str(tick.state) == "stopping"
            assert numbers[:3] == [1, 2, 3]
            assert op.done()

        run_async(main)

    def test_it_reports_progress(self, run_async: Run, tmp_path: Path) -> None:
        async def main() -> None:
            mark = tmp_path / "mark"
            op = await self.started(self.reports(mark), mark)
            await self.until(lambda: op.progress is not None, "progress comes in")
            seen: list[int] = []
            async for tick in op.watch(every=0.01):
                seen.append(tick.progress)
                if seen[-1] >= 5:
                    break
            assert seen == sorted(seen)
            assert isinstance(await op.stop(), Cancelled)

        run_async(main)

    def test_what_the_body_sees(self, run_async: Run) -> None:
        async def main() -> None:
            name, remaining = await calloff.call(self.needed(self.looks()), name="looker", timeout=300)
            assert name == "looker"
            assert 0 < remaining < 300.001  # which a difference of points on the clock may exceed by rounding

        run_async(main)

    def test_its_parent(self, run_async: Run, tmp_path: Path) -> None:
        async def main() -> None:
            mark = tmp_path / "mark"

            async def around() -> None:
                op = await self.started(self.waits(mark), mark)
                parent = calloff.current()
                assert parent is not None
                assert op.parent is parent
                assert parent.children == (op,)
                await op.stop()
                assert not parent.children

            await calloff.call(around())

        run_async(main)
