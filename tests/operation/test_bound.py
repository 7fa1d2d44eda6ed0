"""Whatever a body does, whoever waits gets control back within grace + 1 s, with a true answer.

Every stubborn body meets every way to wait. (Bodies that block the event loop need `calloff.run`; they are tested there.)
"""

import asyncio
import time
from dataclasses import dataclass, field

import pytest
from conftest import loop_factory

import calloff
from calloff import Rung
from calloff._operation.operation import Operation
from calloff._words.policy import DEFAULT

GRACE = 0.2
#: when a body is asked within that grace: at once, and then with the back-off of the policy
ASKED = [0.0] + [at for at in (0.01, 0.03, 0.07, 0.15, 0.31) if at < GRACE]
SLACK = 2.0


@dataclass
class Log:
    """What the body noted."""

    caught: list = field(default_factory=list)
    cleaned: list = field(default_factory=list)


async def a_swallows_for_ever(log):
    try:
        while True:
            try:
                await asyncio.sleep(3600)
            except asyncio.CancelledError as error:
                log.caught.append(type(error).__name__)
    finally:
        await asyncio.sleep(0.01)  # clean-up may await, also when force has come
        log.cleaned.append(True)


async def b_swallows_three_times(log):
    while True:
        try:
            await asyncio.sleep(3600)
        except asyncio.CancelledError as error:
            if len(log.caught) == 3:
                log.cleaned.append(True)
                raise
            log.caught.append(type(error).__name__)


async def c_catches_everything_for_ever(log):
    while True:
        try:
            await asyncio.sleep(3600)
        except GeneratorExit:
            raise  # the test is over
        except BaseException as error:
            log.caught.append(type(error).__name__)


async def d_cleans_up_for_a_while(log):
    try:
        await asyncio.sleep(3600)
    finally:
        await asyncio.sleep(GRACE / 2)
        log.cleaned.append(True)


async def e_cleans_up_for_ever(log):
    try:
        await asyncio.sleep(3600)
    finally:
        await asyncio.sleep(3601)


@dataclass
class Expected:
    ending: type
    rung: Rung
    refusals: int
    at_least: float
    at_most: float
    line: str = "await asyncio.sleep(3600)"
    caught: list = field(default_factory=list)
    cleaned: bool = False


CANCELLED = "CancelledError"
LAST = 0.1

CASES = {
    a_swallows_for_ever: Expected(
        calloff.Cancelled,
        Rung.FORCED,
        refusals=len(ASKED),
        at_least=GRACE,
        at_most=GRACE,
        caught=[CANCELLED] * len(ASKED),
        cleaned=True,
    ),
    b_swallows_three_times: Expected(
        calloff.Cancelled,
        Rung.INSISTED,
        refusals=3,
        at_least=ASKED[3],
        at_most=GRACE,
        caught=[CANCELLED] * 3,
        cleaned=True,
    ),
    c_catches_everything_for_ever: Expected(
        calloff.Abandoned,
        Rung.ABANDONED,
        refusals=len(ASKED) + 1,
        at_least=GRACE + LAST,
        at_most=GRACE + LAST,
        caught=[CANCELLED] * len(ASKED) + ["StopForced"],
    ),
    d_cleans_up_for_a_while: Expected(
        calloff.Cancelled, Rung.ASKED, refusals=0, at_least=GRACE / 2, at_most=GRACE, cleaned=True
    ),
    e_cleans_up_for_ever: Expected(calloff.Cancelled, Rung.FORCED, refusals=0, at_least=GRACE, at_most=GRACE),
}


def check(outcome, log, expected, seconds, *, timed_out, name):
    assert type(outcome) is expected.ending
    report = outcome.report
    assert report.rung is expected.rung
    # a busy machine may swallow an asking, never add one
    assert expected.refusals - 2 <= report.refusals <= expected.refusals
    assert report.refusals == len(log.caught)
    assert set(log.caught) == set(expected.caught)
    assert bool(log.cleaned) is expected.cleaned
    assert report.started
    assert report.reason.kind == ("deadline" if timed_out else "requested")
    assert report.where[0].function == name
    assert report.where[0].source == expected.line
    assert bool(report.stuck_at) is (expected.ending is calloff.Abandoned)
    if report.stuck_at:
        assert report.stuck_at[0].source == expected.line
    assert expected.at_least - 0.005 <= report.seconds <= expected.at_most + SLACK
    assert seconds <= expected.at_most + SLACK
    assert report.survivors == ()


@pytest.fixture(autouse=True)
def the_last_second_takes_a_tenth(monkeypatch, request):
    if "one_second" not in request.node.name:
        monkeypatch.setattr(Operation, "policy", DEFAULT.__class__(last=LAST))


@pytest.fixture
def each(arun):
    """Do it with every body, side by side: ``each(async function of body, log, expected)``."""

    async def one(attempt, body, expected):
        try:
            await attempt(body, Log(), expected)
        except BaseException as error:
            error.add_note(f"with {body.__name__}")
            raise

    async def main(attempt):
        attempts = [asyncio.create_task(one(attempt, *case)) for case in CASES.items()]
        await asyncio.wait(attempts)
        for done in attempts:
            done.result()

    return lambda attempt: arun(main, attempt)


@pytest.mark.parametrize("verb", ["await op", "stop", "outcome"])
def test_cancel(each, verb):
    async def attempt(body, log, expected):
        op = calloff.start(body(log), grace=GRACE)
        await asyncio.sleep(0)
        began = time.monotonic()
        match verb:
            case "await op":
                op.cancel("enough")
                with pytest.raises(calloff.OperationCancelled) as caught:
                    await op
                assert caught.value.report == op.report
                assert ("could not be stopped" in str(caught.value)) is (expected.ending is calloff.Abandoned)
                outcome = await op.outcome()
            case "stop":
                outcome = await op.stop("enough")
            case "outcome":
                op.cancel("enough")
                outcome = await op.outcome()
        check(outcome, log, expected, time.monotonic() - began, timed_out=False, name=body.__name__)

    each(attempt)


def outcome_of(error):
    """The outcome that goes with an error."""
    ending = calloff.Abandoned if error.report.rung is Rung.ABANDONED else calloff.Cancelled
    return ending(error.operation, error.report)


def test_call_with_a_timeout(each):
    async def attempt(body, log, expected):
        began = time.monotonic()
        with pytest.raises(calloff.TimedOut) as caught:
            await calloff.call(body(log), timeout=0.05, grace=GRACE)
        seconds = time.monotonic() - began - 0.05
        check(outcome_of(caught.value), log, expected, seconds, timed_out=True, name=body.__name__)
        assert caught.value.where == caught.value.report.where
        assert "did not end within 0.05 s" in str(caught.value)
        assert "await asyncio.sleep(3600)" in str(caught.value)

    each(attempt)


def test_a_group_with_a_timeout(each):
    async def attempt(body, log, expected):
        began = time.monotonic()
        with pytest.raises(calloff.TimedOut, match=r"the group did not end within 0.05 s"):
            async with calloff.group(timeout=0.05, grace=GRACE) as g:
                op = g.start(body(log))
                await asyncio.sleep(3600)
        seconds = time.monotonic() - began - 0.05
        assert op.done()
        check(await op.outcome(), log, expected, seconds, timed_out=True, name=body.__name__)
        assert asyncio.current_task().cancelling() == 0

    each(attempt)


def test_a_race_waits_for_its_stubborn_losers_and_no_longer(each):
    async def attempt(body, log, expected):
        async def winner():
            await asyncio.sleep(0.01)
            return "first"

        began = time.monotonic()
        assert await calloff.race(body(log), winner(), grace=GRACE) == "first"
        seconds = time.monotonic() - began
        assert expected.at_least - 0.005 <= seconds <= expected.at_most + SLACK
        assert set(log.caught) == set(expected.caught)

    each(attempt)


@pytest.mark.skipif(not hasattr(calloff, "run"), reason="calloff.run is not there yet")
@pytest.mark.parametrize("body", CASES, ids=lambda body: body.__name__.replace("_", " "))
def test_run_with_a_timeout(loop_kind, body):
    expected = CASES[body]
    log = Log()
    began = time.monotonic()
    with pytest.raises(calloff.TimedOut) as caught:
        calloff.run(body(log), timeout=0.05, grace=GRACE, loop_factory=loop_factory(loop_kind))
    seconds = time.monotonic() - began - 0.05
    check(outcome_of(caught.value), log, expected, seconds - 0.5, timed_out=True, name=body.__name__)


def test_the_last_second_is_one_second():
    async def main():
        log = Log()
        op = calloff.start(c_catches_everything_for_ever(log), grace=0.05)
        await asyncio.sleep(0)
        report = (await op.stop()).report
        assert report.rung is Rung.ABANDONED
        assert 1.05 - 0.005 <= report.seconds <= 1.05 + SLACK
        assert log.caught[-1] == "StopForced"

    asyncio.run(main())


def test_grace_zero_asks_and_then_uses_force_at_once(arun):
    async def main():
        seen = []

        async def obeys():
            try:
                await asyncio.sleep(3600)
            except BaseException as error:
                seen.append(type(error))
                raise

        async def swallows():
            try:
                await asyncio.sleep(3600)
            except asyncio.CancelledError as error:
                seen.append(type(error))
            try:
                await asyncio.sleep(3600)
            except BaseException as error:
                seen.append(type(error))
                raise

        for body, refusals in ((obeys, 0), (swallows, 1)):
            op = calloff.start(body())
            await asyncio.sleep(0)
            outcome = await op.stop(grace=0)
            assert isinstance(outcome, calloff.Cancelled)
            assert outcome.report.refusals == refusals
            assert outcome.report.seconds < SLACK
            assert outcome.report.rung is (Rung.FORCED if refusals else Rung.ASKED)
        assert seen == [asyncio.CancelledError, asyncio.CancelledError, calloff.StopForced]

    arun(main)


@pytest.mark.parametrize("again", ["cancel", "stop", "by default"])
def test_a_second_request_only_hastens(arun, again):
    async def main():
        log = Log()
        op = calloff.start(a_swallows_for_ever(log), grace=0.4)
        await asyncio.sleep(0)
        loop = asyncio.get_running_loop()
        began = loop.time()
        op.cancel("first")
        await asyncio.sleep(0.05)
        match again:
            case "cancel":
                op.cancel("faster", grace=0.05)
                outcome = await op.outcome()
                assert loop.time() - began < 0.35
            case "stop":
                outcome = await op.stop("faster", grace=0)
                assert loop.time() - began < 0.35
            case "by default":
                op.cancel("slower", grace=60)
                outcome = await op.stop("the same")
                assert loop.time() - began < 0.4 + SLACK
        assert outcome.report.rung is Rung.FORCED
        assert outcome.report.reason.text == "first"
        assert outcome.report.requested_at == pytest.approx(began, abs=0.04)
        assert log.cleaned == [True]

    arun(main)


def test_a_clean_up_is_not_disturbed_within_its_grace(arun):
    """Insisting is for those who swallowed; who is cleaning up is let alone."""

    async def main():
        seen = []

        async def body():
            try:
                await asyncio.sleep(3600)
            except asyncio.CancelledError:
                for _ in range(15):
                    try:
                        await asyncio.sleep(0.01)
                    except BaseException as error:
                        seen.append(error)
                        raise
                raise

        op = calloff.start(body(), grace=3)
        await asyncio.sleep(0)
        outcome = await op.stop()
        assert seen == []
        assert outcome.report.rung is Rung.ASKED
        assert outcome.report.refusals == 0

    arun(main)
