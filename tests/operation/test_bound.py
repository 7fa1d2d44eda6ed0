"""Whatever a body does, whoever waits gets control back within grace + 1 s, with a true answer.

Every stubborn body meets every way to wait. (Bodies that block the event loop need `calloff.run`; they are tested there.)
"""

import asyncio
import time
from dataclasses import dataclass, field

import pytest
from conftest import loop_factory
from operation import virtual_time
from properties.climbing import climb_all

import calloff
from calloff import Rung
from calloff._operation.operation import Operation
from calloff._words.ladder import Step
from calloff._words.policy import DEFAULT

SLACK = 5.0
CLEAN_UP = 2 / 3  # how long a clean-up takes at most, however long its grace is


@dataclass
class Log:
    """What the body was given, and what it noted."""

    grace: float
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
        await asyncio.sleep(0)  # clean-up may await, also when force has come
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
        await asyncio.sleep(min(log.grace / 3, CLEAN_UP))
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
    seconds: float
    caught: list = field(default_factory=list)
    cleaned: bool = False


BODIES = [
    a_swallows_for_ever,
    b_swallows_three_times,
    c_catches_everything_for_ever,
    d_cleans_up_for_a_while,
    e_cleans_up_for_ever,
]


def expected_of(body, grace, last):
    """What is to come of a body."""
    asked = [step for step, _, _ in climb_all(DEFAULT, grace)].count(Step.INSIST) + 1
    cancelled, abandoned = calloff.Cancelled, calloff.Abandoned
    refusals = ["CancelledError"] * asked
    return {
        a_swallows_for_ever: Expected(cancelled, Rung.FORCED, grace, refusals, cleaned=True),
        b_swallows_three_times: Expected(cancelled, Rung.INSISTED, 0.13, refusals[:3], cleaned=True),
        c_catches_everything_for_ever: Expected(abandoned, Rung.ABANDONED, grace + last, [*refusals, "StopForced"]),
        d_cleans_up_for_a_while: Expected(cancelled, Rung.ASKED, min(grace / 3, CLEAN_UP), cleaned=True),
        e_cleans_up_for_ever: Expected(cancelled, Rung.FORCED, grace),
    }[body]


class Attempt:
    """One body, one way to wait for its end. On the virtual loop all is exact, on a real one the machine may be busy."""

    def __init__(self, body, grace, last):
        self.body = body
        self.grace = grace
        self.log = Log(grace)
        self.expected = expected_of(body, grace, last)
        self.loop = asyncio.get_running_loop()
        self.exact = isinstance(self.loop, virtual_time.VirtualLoop)
        self.limit = 0.05 if self.exact else 1  # a busy machine may take that long until the body begins
        self.began = self.loop.time()

    @property
    def work(self):
        return self.body(self.log)

    def check_time(self, after=0.0):
        seconds = self.loop.time() - self.began - after
        if self.exact:
            assert seconds == pytest.approx(self.expected.seconds, abs=1e-6)
        assert self.expected.seconds - 0.01 <= seconds <= self.expected.seconds + SLACK

    def check(self, outcome, *, timed_out=False, after=0.0):
        expected, log = self.expected, self.log
        self.check_time(after)
        assert type(outcome) is expected.ending
        report = outcome.report
        assert report.rung is expected.rung
        assert report.refusals == len(log.caught)
        if self.exact:
            assert report.seconds == pytest.approx(expected.seconds, abs=1e-6)
            assert log.caught == expected.caught
        else:  # a busy machine may leave out an asking, never add one
            assert len(log.caught) <= len(expected.caught)
            assert set(log.caught) == set(expected.caught)
        assert bool(log.cleaned) is expected.cleaned
        assert report.started
        assert report.survivors == ()
        assert report.reason.kind == ("deadline" if timed_out else "requested")
        assert report.where[0].function == self.body.__name__
        assert report.where[0].source == "await asyncio.sleep(3600)"
        assert bool(report.stuck_at) is (expected.ending is calloff.Abandoned)
        if report.stuck_at:
            assert report.stuck_at[0].source == "await asyncio.sleep(3600)"

    async def awaits_it(self):
        op = calloff.start(self.work, grace=self.grace)
        await asyncio.sleep(0)
        self.began = self.loop.time()
        op.cancel("enough")
        with pytest.raises(calloff.OperationCancelled) as caught:
            await op
        assert caught.value.report == op.report
        abandoned = self.expected.ending is calloff.Abandoned
        assert ("could not be stopped" in str(caught.value)) is abandoned
        self.check(await op.outcome())

    async def stops_it(self):
        op = calloff.start(self.work, grace=self.grace)
        await asyncio.sleep(0)
        self.began = self.loop.time()
        self.check(await op.stop("enough"))

    async def waits_for_the_outcome(self):
        op = calloff.start(self.work, grace=self.grace)
        await asyncio.sleep(0)
        self.began = self.loop.time()
        op.cancel("enough")
        self.check(await op.outcome())

    async def calls_it_with_a_timeout(self):
        with pytest.raises(calloff.TimedOut) as caught:
            await calloff.call(self.work, timeout=self.limit, grace=self.grace)
        self.check(outcome_of(caught.value), timed_out=True, after=self.limit)
        assert caught.value.where == caught.value.report.where
        assert f"did not end within {self.limit} s" in str(caught.value)
        assert "await asyncio.sleep(3600)" in str(caught.value)

    async def has_a_group_with_a_timeout(self):
        with pytest.raises(calloff.TimedOut, match=f"the group did not end within {self.limit} s"):
            async with calloff.group(timeout=self.limit, grace=self.grace) as g:
                op = g.start(self.work)
                await asyncio.sleep(3600)
        assert op.done()
        assert asyncio.current_task().cancelling() == 0
        self.check(await op.outcome(), timed_out=True, after=self.limit)

    async def races_it(self):
        """A race waits for its stubborn losers, and no longer."""

        async def winner():
            await asyncio.sleep(0.01)
            return "first"

        assert await calloff.race(self.work, winner(), grace=self.grace) == "first"
        self.check_time(after=0.01)


def outcome_of(error):
    """The outcome that goes with an error."""
    ending = calloff.Abandoned if error.report.rung is Rung.ABANDONED else calloff.Cancelled
    return ending(error.operation, error.report)


WAYS = [
    Attempt.awaits_it,
    Attempt.stops_it,
    Attempt.waits_for_the_outcome,
    Attempt.calls_it_with_a_timeout,
    Attempt.has_a_group_with_a_timeout,
    Attempt.races_it,
]


@pytest.mark.parametrize("way", WAYS, ids=lambda way: way.__name__.replace("_", " "))
@pytest.mark.parametrize("body", BODIES, ids=lambda body: body.__name__.replace("_", " "))
def test_each_way_and_each_body_to_the_point(body, way):
    """With the numbers of the contract, on a clock that is exact."""

    async def main():
        await way(Attempt(body, DEFAULT.grace, DEFAULT.last))

    virtual_time.run(main)


async def test_all_of_them_side_by_side_on_real_loops(monkeypatch):
    grace, last = 0.35, 0.35  # not near a point at which it is asked
    long = {
        b_swallows_three_times: 30,
        d_cleans_up_for_a_while: 30,
    }  # what ends before has time for it on a busy machine
    monkeypatch.setattr(Operation, "policy", DEFAULT._replace(last=last))

    async def attempt(body, way):
        try:
            await way(Attempt(body, long.get(body, grace), last))
        except BaseException as error:
            error.add_note(f"{body.__name__}, {way.__name__}")
            raise

    attempts = [asyncio.create_task(attempt(body, way)) for body in BODIES for way in WAYS]
    await asyncio.wait(attempts)
    for done in attempts:
        done.result()


@pytest.mark.parametrize("body", BODIES, ids=lambda body: body.__name__.replace("_", " "))
@pytest.mark.usefixtures("begins_first")
def test_run_with_a_timeout(loop_kind, body, monkeypatch):
    last = 0.3
    grace = {b_swallows_three_times: 30, d_cleans_up_for_a_while: 30}.get(body, 0.3)
    monkeypatch.setattr(Operation, "policy", DEFAULT._replace(last=last))
    limit = 0.3  # on a busy machine the first step comes late, and without it there is nothing to see
    expected = expected_of(body, grace, last)
    log = Log(grace)
    began = time.monotonic()
    with pytest.raises(calloff.TimedOut) as caught:
        calloff.run(body(log), timeout=limit, grace=grace, loop_factory=loop_factory(loop_kind))
    assert time.monotonic() - began <= limit + expected.seconds + 0.5 + SLACK
    outcome = outcome_of(caught.value)
    assert type(outcome) is expected.ending
    assert outcome.report.rung is expected.rung
    assert outcome.report.refusals == len(log.caught)
    assert outcome.report.where[0].source == "await asyncio.sleep(3600)"
    assert bool(log.cleaned) is expected.cleaned


def test_the_last_second_is_one_second():
    async def main():
        log = Log(0.05)
        op = calloff.start(c_catches_everything_for_ever(log), grace=0.05)
        await asyncio.sleep(0)
        report = (await op.stop()).report
        assert report.rung is Rung.ABANDONED
        assert 1.05 - 0.005 <= report.seconds <= 1.05 + SLACK
        assert log.caught[-1] == "StopForced"

    asyncio.run(main())


async def test_grace_zero_asks_and_then_uses_force_at_once():
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


@pytest.mark.parametrize("again", ["cancel", "stop", "by default"])
async def test_a_second_request_only_hastens(again):
    log = Log(0.4)
    grace = 0.3 if again == "by default" else 10
    op = calloff.start(a_swallows_for_ever(log), grace=grace)
    await asyncio.sleep(0)
    loop = asyncio.get_running_loop()
    began = loop.time()
    op.cancel("first")
    await asyncio.sleep(0.05)
    match again:
        case "cancel":
            op.cancel("faster", grace=0.05)
            outcome = await op.outcome()
        case "stop":
            outcome = await op.stop("faster", grace=0)
        case "by default":
            op.cancel("slower", grace=60)
            outcome = await op.stop("the same")
    assert outcome.report.rung is Rung.FORCED
    assert outcome.report.reason.text == "first"
    assert 0 <= outcome.report.requested_at - began < 1
    assert outcome.report.seconds < 0.3 + SLACK
    assert log.cleaned == [True]


async def test_a_clean_up_is_not_disturbed_within_its_grace():
    """Insisting is for those who swallowed; who is cleaning up is let alone."""
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

    op = calloff.start(body(), grace=60)
    await asyncio.sleep(0)
    outcome = await op.stop()
    assert seen == []
    assert outcome.report.rung is Rung.ASKED
    assert outcome.report.refusals == 0
