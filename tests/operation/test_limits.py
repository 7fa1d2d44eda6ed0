"""Deadlines and stalls: a duration at the door, a point on the clock from then on."""

import asyncio

import pytest
from operation import virtual_time
from operation.virtual_time import START, now

import calloff
from calloff._words.place import Body, Work


async def lasts(seconds):
    await asyncio.sleep(seconds)
    return "value"


# --- deadline


def test_a_deadline_is_a_point_on_the_clock_of_the_loop():
    async def main():
        op = calloff.start(lasts(10), timeout=3)
        assert (op.deadline, op.remaining, op.elapsed) == (START + 3, 3.0, 0.0)
        await asyncio.sleep(1)
        assert (op.deadline, op.remaining, op.elapsed) == (START + 3, 2.0, 1.0)
        with pytest.raises(calloff.TimedOut, match="did not end within 3 s: at lasts"):
            await op
        assert now() == 3.0
        assert (op.remaining, op.elapsed) == (0.0, 3.0)
        assert (op.reason.kind, op.reason.text, op.reason.at) == ("deadline", "within 3 s", START + 3)
        await asyncio.sleep(5)
        assert op.elapsed == 3.0, "stands still after the end"

    virtual_time.run(main)


def test_no_deadline():
    async def main():
        for timeout in (None, float("inf")):
            op = calloff.start(lasts(100), timeout=timeout)
            assert (op.deadline, op.remaining) == (None, None)
            assert await op == "value"

    virtual_time.run(main)


async def test_it_ends_in_time_and_nothing_is_left():
    op = calloff.start(lasts(0), timeout=60)
    assert await op == "value"
    assert op.timer_at == -1.0
    assert op.reason is None


async def test_a_timeout_of_zero():
    with pytest.raises(calloff.TimedOut, match="did not end within 0 s"):
        await calloff.call(lasts(60), timeout=0)


def test_a_far_deadline_is_kept():
    async def main():
        op = calloff.start(lasts(10**9), timeout=86_400 * 365.25)
        await op.outcome()
        return now()

    assert virtual_time.run(main) == pytest.approx(86_400 * 365.25)


def test_two_thousand_deadlines_at_once_are_kept_each_at_its_point():
    async def main():
        ops = [calloff.start(lasts(1000), timeout=0.5 + number / 1000) for number in range(2_000)]
        await asyncio.wait(ops)
        for number, op in enumerate(ops):
            assert op.reason.at == pytest.approx(START + 0.5 + number / 1000, abs=1e-6)
            op.exception()

    virtual_time.run(main)


# --- reschedule


def test_reschedule_counts_from_now():
    async def main():
        op = calloff.start(lasts(100), timeout=3)
        await asyncio.sleep(2)
        op.reschedule(5)
        assert op.remaining == 5.0
        with pytest.raises(calloff.TimedOut, match="within 5 s"):
            await op
        return now()

    assert virtual_time.run(main) == 7.0


def test_reschedule_can_shorten_lift_and_set_a_limit():
    async def main():
        op = calloff.start(lasts(100), timeout=30)
        op.reschedule(1)
        await op.outcome()
        assert now() == 1.0

        op = calloff.start(lasts(100), timeout=30)
        op.reschedule(None)
        assert (op.deadline, op.remaining) == (None, None)
        assert await op == "value"
        assert now() == 101.0

        op = calloff.start(lasts(100))
        op.reschedule(2)
        await op.outcome()
        assert now() == 103.0

    virtual_time.run(main)


def test_reschedule_keeps_the_stall():
    async def main():
        op = calloff.start(lasts(100), timeout=30, stall=5)
        op.reschedule(50)
        assert (await op.outcome()).reason.kind == "stalled"
        return now()

    assert virtual_time.run(main) == 5.0


@pytest.mark.parametrize("bad", [-1, float("nan"), True, "3"])
async def test_reschedule_refuses_what_is_no_duration(bad):
    op = calloff.start(lasts(0), timeout=60)
    before = op.deadline
    with pytest.raises((ValueError, TypeError), match="^timeout must be"):
        op.reschedule(bad)
    assert op.deadline == before
    await op


async def test_reschedule_comes_too_late_once_it_is_stopped_or_over():
    op = calloff.start(lasts(60), name="slow")
    op.cancel()
    with pytest.raises(RuntimeError, match="^'slow' is stopping: its deadline can't be changed"):
        op.reschedule(5)
    await op.outcome()
    with pytest.raises(RuntimeError, match="^'slow' is cancelled"):
        op.reschedule(None)


# --- stall and progress


def test_silence_is_limited_not_the_whole_time():
    async def main():
        async def body():
            for step in range(10):
                calloff.progress(step)
                await asyncio.sleep(0.9)
            await asyncio.sleep(3600)

        op = calloff.start(body(), stall=1, name="copy")
        with pytest.raises(calloff.TimedOut, match="^'copy' made no progress for 1 s: at body"):
            await op
        assert op.progress == 9
        assert (op.reason.kind, op.reason.text) == ("stalled", "for 1 s")
        return now()

    assert virtual_time.run(main) == pytest.approx(9 * 0.9 + 1)


def test_a_body_that_never_reports_has_stalled_after_the_first_silence():
    async def main():
        with pytest.raises(calloff.TimedOut):
            await calloff.call(lasts(60), stall=2.5)
        return now()

    assert virtual_time.run(main) == 2.5


def test_progress_without_a_value_is_progress():
    async def main():
        async def body():
            for _ in range(3):
                await asyncio.sleep(0.9)
                calloff.progress()
            return "value"

        assert await calloff.call(body(), stall=1) == "value"

    virtual_time.run(main)


def test_a_clean_up_may_be_silent():
    async def main():
        async def body():
            try:
                await asyncio.sleep(3600)
            finally:
                await asyncio.sleep(3)

        op = calloff.start(body(), stall=1)
        outcome = await op.outcome()
        assert outcome.report.rung is calloff.Rung.ASKED
        return now()

    assert virtual_time.run(main) == 4.0


def test_the_nearer_of_both_limits_counts():
    async def main():
        assert (await calloff.start(lasts(60), timeout=2, stall=3).outcome()).reason.kind == "deadline"
        assert (await calloff.start(lasts(60), timeout=3, stall=2).outcome()).reason.kind == "stalled"
        return now()

    assert virtual_time.run(main) == 4.0


def test_progress_reaches_the_innermost_operation_only():
    async def main():
        async def inner():
            calloff.progress("inner")
            await asyncio.sleep(0)

        async def outer():
            calloff.progress("outer")
            await calloff.call(inner())
            assert calloff.current().progress == "outer"

        op = calloff.start(outer())
        await op
        assert op.progress == "outer"
        calloff.progress("nobody listens")

    virtual_time.run(main)


# --- what waits for its turn


class Waiting(Body):
    """Waits for a free place, for good."""

    place = "pool"
    name = "waiting"
    queued = True

    def begin(self, sink):
        self.sink = sink

    def ask(self, text):
        self.sink.stopped(calloff.Rung.ASKED)
        return ()

    def force(self):
        return True

    def where(self):
        return ()


class WaitingWork(Work):
    place = "pool"
    name = "waiting"

    def open(self):
        return Waiting()


@pytest.mark.parametrize("limit", [{"stall": 1}, {"timeout": 1}, {"stall": 1, "timeout": 1}])
def test_what_has_not_begun_is_neither_late_nor_silent(limit):
    async def main():
        op = calloff.start(WaitingWork(), **limit)
        await asyncio.sleep(10)
        assert str(op.state) == "pending"
        op.blocked(now() + START)  # whoever finds the loop blocked asks for what is overdue
        assert str(op.state) == "pending"
        op.body.sink.stopped()  # somebody else has ended it
        outcome = await op.outcome()
        assert outcome.reason.kind == "external", "it was over before its limits had begun to count"

    virtual_time.run(main)


def test_the_silence_of_what_waited_counts_from_its_begin():
    async def main():
        op = calloff.start(WaitingWork(), stall=1)
        await asyncio.sleep(10)
        op.entered()
        await asyncio.sleep(0.5)
        assert str(op.state) == "running"
        outcome = await op.outcome()
        assert (outcome.reason.kind, outcome.reason.at) == ("stalled", START + 11)

    virtual_time.run(main)
