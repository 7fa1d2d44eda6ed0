"""What an operation promises although its place is broken: the bound, and a true verdict."""

import asyncio
import logging
from pathlib import Path
from typing import Any

import pytest

import calloff

from .._words.policy import DEFAULT, Policy
from ._conformance import SLACK, Place, Run
from ._glass import BLOCKED, FAULTS, METHODS, Glass, GlassBody

__all__ = ["GlassTests"]

_GRACE = 0.2


_PATIENT = DEFAULT._replace(last=30.0)


class _PolicyOfEach:
    """`Operation.policy`: where force works a busy machine has time for it; where it does not the last second is one."""

    def __get__(self, operation: "calloff.Operation[Any] | None", owner: Any) -> Policy:
        body = None if operation is None else operation.body
        return DEFAULT if isinstance(body, GlassBody) and body.broken == "force" else _PATIENT


class GlassTests(Place):
    """Each method of the body fails, in each way, while the operation is stopped."""

    @pytest.mark.parametrize("fault", FAULTS)
    def test_a_place_that_is_broken_in_one_method(
        self,
        run_async: Run,
        tmp_path: Path,
        fault: str,
        caplog: pytest.LogCaptureFixture,
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        caplog.set_level(logging.CRITICAL, "calloff")  # it logs each failure, with a traceback
        monkeypatch.setattr(calloff.Operation, "policy", _PolicyOfEach())

        async def main() -> None:
            abandoned: list[str] = []
            kinds = [(method, kind) for kind in (self.refuses, self.waits) for method in METHODS]
            for first in range(0, len(kinds), self.at_once):
                group = kinds[first : first + self.at_once]
                abandoned += await self._stopped(group, fault, tmp_path, first)
            assert set(abandoned) <= {"force"}, "what can still be forced is forced"

        run_async(main)

    async def _stopped(self, kinds: list[tuple[str, Any]], fault: str, folder: Path, first: int) -> list[str]:
        """Stop one operation for each method and kind of work; returns the methods of those that were abandoned."""
        marks = [folder / str(first + number) for number in range(len(kinds))]
        glasses = [Glass(kind(mark), method, fault) for mark, (method, kind) in zip(marks, kinds, strict=True)]
        operations: list[calloff.Operation[Any]] = [calloff.start(glass, grace=_GRACE) for glass in glasses]
        for mark in marks:
            await self.begun(mark)
        loop = asyncio.get_running_loop()
        asked_at = loop.time()
        outcomes = await asyncio.gather(*(operation.stop() for operation in operations))
        blocked = BLOCKED * len(kinds) * 4 if fault == "blocks" else 0.0
        assert loop.time() - asked_at < _GRACE + 1 + SLACK + blocked
        abandoned: list[str] = []
        for operation, outcome, glass, (method, _) in zip(operations, outcomes, glasses, kinds, strict=True):
            assert str(operation.report)
            assert isinstance(operation.where(), tuple)
            if isinstance(outcome, calloff.Abandoned):
                abandoned.append(method)
                if operation not in calloff.operations():
                    assert operation.body is None, "it stays listed until it has really ended"
                    continue
                assert glass.body is not None
                glass.body.real.force()
                while operation in calloff.operations():  # until it has really ended
                    await asyncio.sleep(0.01)
            assert operation not in calloff.operations()
        await self.gone(*marks)
        return abandoned
