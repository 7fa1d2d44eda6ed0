"""What blocks the event loop is interrupted also where it has used up all levels of recursion."""

import gc
import sys
import time
from collections.abc import Coroutine, Iterator

import pytest

import calloff
from calloff import Cancelled, Rung
from calloff._operation.operation import Operation
from calloff._words.policy import Policy


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """The last second of the ladder takes a tenth of one; the limit of recursion stays what it is."""
    monkeypatch.setattr(Operation, "policy", Policy(last=0.1, tearing=20.0))
    limit = sys.getrecursionlimit()
    yield
    found = sys.getrecursionlimit()
    sys.setrecursionlimit(limit)
    assert found == limit


@pytest.fixture(autouse=True)
def no_garbage_of_others() -> Iterator[None]:
    """What other tests have left can't run its destructors where the stack is full, and pytest complains of that."""
    gc.collect()
    gc.disable()
    yield
    gc.enable()


async def near_the_limit() -> None:
    def deeper() -> None:
        try:
            deeper()
        except RecursionError:
            time.sleep(0.001)
        deeper()

    while True:
        try:
            deeper()
        except RecursionError:
            pass


async def at_the_limit() -> None:
    def deeper() -> None:
        try:
            deeper()
        except RecursionError:
            while True:
                try:
                    time.sleep(0.001)
                except BaseException:
                    pass

    deeper()


async def ended(work: Coroutine[object, object, None], rungs: tuple[Rung, ...]) -> None:
    outcome = await calloff.start(work, timeout=0.05, grace=0.05).outcome()
    assert isinstance(outcome, Cancelled)
    assert outcome.report.rung in rungs


@pytest.mark.skipif(sys.version_info < (3, 12), reason="functions of C count, too: no handler can run there")
def test_near_the_limit_it_hears_of_the_stop() -> None:
    calloff.run(ended(near_the_limit(), (Rung.INTERRUPTED, Rung.FORCED)), timeout=30)


@pytest.mark.skipif(sys.version_info < (3, 12), reason="functions of C count, too: no handler can run there")
def test_at_the_limit_it_is_ended_for_sure() -> None:
    calloff.run(ended(at_the_limit(), (Rung.FORCED,)), timeout=30)


def test_a_limit_that_the_program_sets_stays() -> None:
    limit = sys.getrecursionlimit()

    async def body() -> int:
        sys.setrecursionlimit(limit + 5000)
        until = time.monotonic() + 0.3
        while time.monotonic() < until:  # it is looked at meanwhile, for its limit is over soon
            time.sleep(0.01)
        return sys.getrecursionlimit()

    async def main() -> int:
        operation = calloff.start(body(), timeout=0.05, grace=0)
        await operation.outcome()
        return sys.getrecursionlimit()

    try:
        assert calloff.run(main(), timeout=30) == limit + 5000
    finally:
        sys.setrecursionlimit(limit)
