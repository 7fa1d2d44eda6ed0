"""An operation carries out the ladder and nothing else: step by step what the pure function prescribes."""

import asyncio
import inspect
from contextvars import copy_context
from functools import partial

from hypothesis import given
from hypothesis import strategies as st
from operation import virtual_time
from operation.virtual_time import START
from properties.climbing import climb_all

import calloff
from calloff._operation.beginning import begin as begin_operation
from calloff._operation.operation import Operation
from calloff._words.ladder import Step
from calloff._words.place import Body
from calloff._words.policy import DEFAULT
from calloff._words.reason import Kind
from calloff._words.state import TRANSITIONS


class Stone(Body):
    """A body that notes what it is told, and ends when `ending` says so."""

    place = "stone"
    name = "stone"

    def __init__(self, insists=True, obeys=lambda step, number: False):
        self.insists = insists
        self.obeys = obeys
        self.steps = []
        self.sink = None
        self.reached = False

    def begin(self, sink):
        self.sink = sink
        copy_context().run(sink.entered)

    def _note(self, step):
        self.steps.append((step, asyncio.get_running_loop().time()))
        self.reached = True
        if self.obeys(step, len(self.steps)):
            asyncio.get_running_loop().call_soon(self.sink.stopped)
        return True

    def ask(self, text):
        self._note(Step.ASK)
        return ()

    def insist(self):
        return self._note(Step.INSIST)

    def force(self):
        return self._note(Step.FORCE)

    def abandon(self):
        return self._note(Step.ABANDON)

    def where(self):
        return ()


def begin(body, *, timeout=None, stall=None, grace=5.0):
    return begin_operation(body, body.name, asyncio.get_running_loop(), timeout, stall, grace, None, None)


def drop(operation):
    """A stone never ends: take it off the list."""
    if operation.body is not None:
        operation.stopped()


graces = st.floats(0, 30)
#: never at the very point of a step: which of two things comes first at one point is nobody's promise
requests = st.lists(st.tuples(st.integers(1, 40_000).map(lambda n: n / 1000 + 0.000321), graces), max_size=4).map(
    sorted
)


@given(graces, requests, st.booleans())
def test_the_steps_are_those_of_the_ladder(grace, requests, insists):
    async def main():
        body = Stone(insists)
        operation = begin(body, grace=grace)
        loop = asyncio.get_running_loop()
        for after, again in requests:
            loop.call_at(START + after, partial(operation.cancel, grace=again))
        outcome = await operation.stop()
        assert isinstance(outcome, calloff.Abandoned)
        drop(operation)
        return body.steps, outcome.report

    steps, report = virtual_time.run(main)
    expected = climb_all(DEFAULT, grace, requests, insists)
    assert steps == [(step, at) for step, _, at in expected]
    assert report.refusals == len(steps) - 1, "every asking but the first tells of one refusal"
    assert report.ended_at == expected[-1][2]


@given(st.floats(0, 20), graces)
def test_a_deadline_is_a_request_like_any_other(timeout, grace):
    async def main():
        operation = begin(Stone(), timeout=timeout, grace=grace)
        outcome = await operation.outcome()
        drop(operation)
        return outcome.report

    report = virtual_time.run(main)
    assert report.reason.kind is Kind.DEADLINE
    assert report.requested_at == START + timeout
    assert abs(report.seconds - (grace + DEFAULT.last)) < 1e-6


@given(st.integers(1, 12), graces, requests)
def test_the_rung_is_the_step_that_it_obeyed(number, grace, requests):
    async def main():
        body = Stone(obeys=lambda step, taken: taken >= number and step is not Step.ABANDON)
        operation = begin(body, grace=grace)
        loop = asyncio.get_running_loop()
        for after, again in requests:
            loop.call_at(START + after, partial(operation.cancel, grace=again))
        outcome = await operation.stop()
        drop(operation)
        return body.steps, outcome

    steps, outcome = virtual_time.run(main)
    rungs = {
        Step.ASK: calloff.Rung.ASKED,
        Step.INSIST: calloff.Rung.INSISTED,
        Step.FORCE: calloff.Rung.FORCED,
        Step.ABANDON: calloff.Rung.ABANDONED,
    }
    assert outcome.report.rung is rungs[steps[-1][0]]
    assert isinstance(outcome, calloff.Abandoned if steps[-1][0] is Step.ABANDON else calloff.Cancelled)
    expected = [(step, at) for step, _, at in climb_all(DEFAULT, grace, requests)]
    assert steps == expected[: len(steps)], "nothing is done to a body that has ended"


# --- real bodies, under everything at once

scripts = st.lists(
    st.sampled_from(["sleep", "swallow", "swallow all", "clean up", "turn", "stop me", "progress", "child"]), max_size=5
)
endings = st.sampled_from(["return", "raise", "raise CancelledError", "raise StopForced", "hang"])
actions = st.lists(
    st.tuples(
        st.floats(0, 8),
        st.sampled_from(["cancel", "cancel now", "native cancel", "reschedule", "shorten", "stop", "caller"]),
    ),
    max_size=5,
)


async def play(script, ending):
    for part in script:
        match part:
            case "sleep":
                await asyncio.sleep(1)
            case "swallow" | "swallow all":
                try:
                    await asyncio.sleep(2)
                except asyncio.CancelledError if part == "swallow" else BaseException:
                    pass
            case "clean up":
                try:
                    await asyncio.sleep(1)
                finally:
                    await asyncio.sleep(0.5)
            case "turn":
                await asyncio.sleep(0)
            case "stop me":
                calloff.current().cancel("by itself")
            case "progress":
                calloff.progress(1)
            case "child":
                await calloff.call(asyncio.sleep(1), grace=0.5)
    match ending:
        case "raise":
            raise ValueError("mine")
        case "raise CancelledError":
            raise asyncio.CancelledError
        case "raise StopForced":
            raise calloff.StopForced
        case "hang":
            await asyncio.sleep(3600)
    return "value"


@given(scripts, endings, actions, st.none() | st.floats(0, 5), st.none() | st.floats(0.1, 5), st.floats(0, 3))
def test_any_life_follows_the_transition_table_and_ends_within_the_bound(
    script, ending, actions, timeout, stall, grace
):
    seen = []
    slot = inspect.getattr_static(Operation, "_phase")

    def noted(operation, state):
        seen.append((operation, state))
        slot.__set__(operation, state)

    async def main():
        operation = calloff.start(play(script, ending), timeout=timeout, stall=stall, grace=grace)
        task = operation.body.task
        loop = asyncio.get_running_loop()
        callers = []

        async def caller():
            await operation

        for after, action in actions:
            match action:
                case "cancel":
                    loop.call_at(START + after, lambda: operation.cancel("enough"))
                case "cancel now":
                    loop.call_at(START + after, lambda: operation.cancel("now", grace=0))
                case "native cancel":
                    loop.call_at(START + after, task.cancel)
                case "reschedule" | "shorten":
                    seconds = 2.0 if action == "reschedule" else 0.1

                    def reschedule(seconds=seconds):
                        if operation.reason is None and not operation.done():
                            operation.reschedule(seconds)

                    loop.call_at(START + after, reschedule)
                case "stop":
                    loop.call_at(START + after, lambda: callers.append(asyncio.ensure_future(operation.stop())))
                case "caller":
                    waiting = asyncio.ensure_future(caller())
                    callers.append(waiting)
                    loop.call_at(START + after, waiting.cancel)
        loop.call_at(START + 20, lambda: operation.cancel("long enough"))
        outcome = await operation.outcome()
        listed = operation in calloff.operations()
        assert listed == (operation.body is not None), "abandoned ones are listed until they really end"
        if callers:
            await asyncio.wait(callers)
        for other in callers:
            assert (
                other.cancelled()
                or other.exception() is None
                or isinstance(other.exception(), (ValueError, TimeoutError))
            )
        return operation, outcome, listed

    Operation._phase = property(slot.__get__, noted)  # type: ignore[assignment]  # every change of it is noted
    try:
        operation, outcome, listed = virtual_time.run(main)
    finally:
        Operation._phase = slot
    for one in {operation for operation, _ in seen}:
        states = [state for other, state in seen if other is one]
        for before, after in zip(states, states[1:], strict=False):
            assert after in TRANSITIONS[before], states
    assert operation.state.ended
    assert type(outcome).__name__.lower() == str(operation.state)
    assert listed <= (operation.state.value == "abandoned")
    assert operation.done()
    assert not operation.cancel()
    assert outcome.report == operation.report
    assert (operation.report is None) == (operation.reason is None)
    if operation.report is not None:
        assert operation.report.reason == operation.reason
        assert 0 <= operation.report.seconds <= grace + DEFAULT.last + 1e-6
        assert operation.report.refusals >= 0
        assert operation.report.started or operation.state.value == "cancelled"
        assert bool(operation.report.stuck_at) <= (operation.state.value == "abandoned")
