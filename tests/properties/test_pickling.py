"""What crosses processes comes out equal: reasons, reports, errors, outcomes."""

import copy
import pickle

import pytest
from hypothesis import given
from hypothesis import strategies as st

import calloff
from calloff._words.errors import CommandFailed, WorkerDied, ended_error
from calloff._words.reason import Kind
from calloff._words.ref import Ref

texts = st.text(max_size=40)
points = st.floats(0, 1e9)
refs = st.builds(Ref, texts, texts)
reasons = st.builds(calloff.Reason, st.sampled_from(Kind), texts, st.none() | texts, points)
frames = st.builds(calloff.Frame, texts, st.integers(1, 10_000), texts, texts)
stacks = st.lists(frames, max_size=3).map(tuple)
reports = st.builds(
    calloff.StopReport,
    reasons,
    st.booleans(),
    points,
    points,
    st.sampled_from(calloff.Rung),
    st.integers(0, 100),
    stacks,
    stacks,
    st.lists(texts, max_size=2).map(tuple),
)
errors = st.builds(ended_error, refs, reports) | st.builds(
    calloff.TimedOut, st.none() | refs, reasons, st.none() | reports, texts
)
outcomes = (
    st.builds(calloff.Completed, st.integers(), st.none() | reports)
    | st.builds(calloff.Cancelled, refs, reports)
    | st.builds(calloff.Abandoned, refs, reports)
)
ways = st.sampled_from(
    [
        *(lambda value, protocol=protocol: pickle.loads(pickle.dumps(value, protocol)) for protocol in range(2, 6)),
        copy.copy,
        copy.deepcopy,
    ]
)


@given(reasons | reports | refs | frames | outcomes, ways)
def test_plain_data_comes_out_equal(value, way):
    again = way(value)
    assert again == value
    assert type(again) is type(value)
    assert repr(again) == repr(value)


@given(errors, ways)
def test_errors_come_out_with_all_that_they_carry(error, way):
    again = way(error)
    assert type(again) is type(error)
    assert str(again) == str(error)
    assert (again.operation, again.reason, again.report) == (error.operation, error.reason, error.report)
    assert again.where == error.where
    assert isinstance(again.reason.kind, Kind)
    assert again.report is None or isinstance(again.report.rung, calloff.Rung)


@given(texts, st.none() | st.integers(), st.none() | st.integers(), ways)
def test_a_dead_worker(text, signal, status, way):
    error = WorkerDied(text, signal=signal, status=status)
    again = way(error)
    assert (type(again), str(again), again.signal, again.status) == (WorkerDied, text, signal, status)


@given(st.lists(texts, min_size=1).map(tuple), st.integers(-64, 255), texts, ways)
def test_a_failed_command(argv, status, stderr, way):
    error = CommandFailed(argv, status, stderr, b"out")
    again = way(error)
    assert (again.argv, again.status, again.stderr, again.stdout) == (argv, status, stderr, b"out")
    assert str(again) == str(error)


@given(errors)
def test_the_text_names_operation_and_reason(error):
    if error.operation is not None and not error._text:
        assert repr(error.operation.name) in str(error)
        assert error.reason.text in str(error)
        if error.report is not None and error.report.rung is calloff.Rung.ABANDONED:
            assert "could not be stopped" in str(error)


def test_an_error_inside_a_failed_outcome():
    outcome = pickle.loads(pickle.dumps(calloff.Failed(ValueError("x"))))
    assert isinstance(outcome.error, ValueError)
    with pytest.raises(ValueError, match="x"):
        outcome.unwrap()
