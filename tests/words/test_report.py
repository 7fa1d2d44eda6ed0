"""Reasons, reports, rungs and states: small words, pinned."""

import pytest

import calloff
from calloff._words.reason import Kind
from calloff._words.ref import Ref
from calloff._words.state import TRANSITIONS, State


def test_the_kinds_are_those_of_the_contract():
    assert [str(kind) for kind in Kind] == [
        "requested",
        "deadline",
        "stalled",
        "parent",
        "sibling",
        "shutdown",
        "disconnected",
        "external",
    ]
    assert Kind.DEADLINE == "deadline"


def test_the_rungs_are_those_of_the_contract_from_gentle_to_last():
    names = ["ASKED", "INSISTED", "INTERRUPTED", "FORCED", "TERMINATED", "KILLED", "ABANDONED"]
    assert [str(rung) for rung in calloff.Rung] == names
    assert sorted(calloff.Rung) == list(calloff.Rung)
    assert calloff.Rung.ASKED < calloff.Rung.FORCED < calloff.Rung.ABANDONED


@pytest.mark.parametrize(
    ("reason", "text"),
    [
        (calloff.Reason(Kind.PARENT), "parent"),
        (calloff.Reason(Kind.DEADLINE, "within 3 s"), "deadline: within 3 s"),
        (calloff.Reason(Kind.REQUESTED, "enough", "alice"), "requested: enough (by alice)"),
        (calloff.Reason(Kind.SHUTDOWN, "", "SIGINT"), "shutdown (by SIGINT)"),
    ],
)
def test_a_reason_in_words(reason, text):
    assert str(reason) == text


def test_a_report_knows_how_long_the_stop_took():
    report = calloff.StopReport(calloff.Reason(Kind.PARENT), True, 2.0, 2.5, calloff.Rung.ASKED)
    assert report.seconds == 0.5
    assert (report.refusals, report.where, report.stuck_at, report.survivors) == (0, (), (), ())


def test_a_ref_in_words():
    assert str(Ref("3", "call-api")) == "operation 3 'call-api'"


def test_endings_are_final_and_everything_can_end():
    for state, following in TRANSITIONS.items():
        assert state.ended is (not following)
        assert state not in following
        if not state.ended:
            assert {State.COMPLETED, State.FAILED, State.CANCELLED} <= following
    assert set(TRANSITIONS) == set(State)
    assert State.ABANDONED in TRANSITIONS[State.STOPPING], "only what was asked to stop can be abandoned"
    assert State.ABANDONED not in TRANSITIONS[State.RUNNING] | TRANSITIONS[State.PENDING]
    assert list(State) == [
        "pending",
        "running",
        "stopping",
        "completed",
        "failed",
        "cancelled",
        "abandoned",
    ]
