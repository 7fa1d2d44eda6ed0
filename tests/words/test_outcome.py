"""The ending as a value."""

import copy
import dataclasses
import pickle
from dataclasses import FrozenInstanceError
from typing import Any

import pytest

import calloff
from calloff._words.outcome import Abandoned, Cancelled, Completed, Failed
from calloff._words.reason import Kind
from calloff._words.ref import Ref
from calloff._words.report import Rung

REF = Ref("1", "work")


def report(kind=Kind.REQUESTED, rung=Rung.ASKED):
    return calloff.StopReport(calloff.Reason(kind, "within 1 s"), True, 1.0, 1.5, rung)


def test_unwrap_gives_what_await_would():
    assert Completed(3).unwrap() == 3
    with pytest.raises(ZeroDivisionError):
        Failed(ZeroDivisionError()).unwrap()
    for ending in (Cancelled, Abandoned):
        with pytest.raises(calloff.OperationCancelled):
            ending(REF, report()).unwrap()
        for kind in (Kind.DEADLINE, Kind.STALLED):
            with pytest.raises(calloff.TimedOut):
                ending(REF, report(kind)).unwrap()


def test_the_reason_is_that_of_the_report():
    for ending in (Cancelled, Abandoned):
        one = ending(REF, report(Kind.STALLED))
        assert one.reason == one.report.reason


@pytest.mark.parametrize(
    "outcome", [Completed(1), Failed(ValueError()), Cancelled(REF, report()), Abandoned(REF, report())]
)
def test_an_outcome_is_frozen(outcome):
    with pytest.raises((FrozenInstanceError, TypeError, AttributeError)):
        outcome.report = None


def test_equal_by_value():
    assert Completed(1) == Completed(1) != Completed(2)
    assert Cancelled(REF, report()) == Cancelled(REF, report())
    assert Cancelled(REF, report()) != Abandoned(REF, report())


def test_match():
    def told(outcome: "calloff.Outcome[int]") -> str:
        match outcome:
            case calloff.Completed(value):
                return f"completed {value}"
            case calloff.Failed(error):
                return f"failed {error}"
            case calloff.Cancelled(ref, evidence):
                return f"cancelled {ref.name} {evidence.rung}"
            case calloff.Abandoned(ref, evidence):
                return f"abandoned {ref.name} {evidence.rung}"

    assert told(Completed(2)) == "completed 2"
    assert told(Failed(ValueError("x"))) == "failed x"
    assert told(Cancelled(REF, report())) == "cancelled work ASKED"
    assert told(Abandoned(REF, report(rung=Rung.ABANDONED))) == "abandoned work ABANDONED"


def test_an_outcome_is_a_dataclass_for_those_who_ask():
    done = Completed(1)
    assert dataclasses.is_dataclass(Completed)
    assert [field.name for field in dataclasses.fields(Cancelled)] == ["operation", "report"]
    assert dataclasses.replace(done, value=2) == Completed(2)
    assert dataclasses.asdict(done) == {"value": 1, "report": None}
    assert repr(done) == "Completed(value=1, report=None)"
    assert hash(done) == hash(Completed(1))
    assert not hasattr(done, "__dict__")


@pytest.mark.parametrize("again", [copy.copy, copy.deepcopy, lambda one: pickle.loads(pickle.dumps(one))])
def test_an_outcome_travels(again):
    assert again(Completed([1])) == Completed([1])
    assert again(Cancelled(REF, report())) == Cancelled(REF, report())


def test_nothing_is_deleted_from_an_outcome_or_added_to_it():
    done: Any = Completed(1)
    with pytest.raises(FrozenInstanceError):
        del done.value
    with pytest.raises(FrozenInstanceError):
        done.other = 1


def test_an_outcome_that_holds_itself_can_be_shown():
    held: list[Any] = []
    held.append(Completed(held))
    assert repr(held) == "[Completed(value=[...], report=None)]"


def test_what_is_derived_from_an_outcome_may_have_more():
    @dataclasses.dataclass(frozen=True)
    class More(Completed[int]):
        more: int = 0

    assert More(1, None, 2) == More(1, None, more=2) != More(1, None)
    assert [field.name for field in dataclasses.fields(More)] == ["value", "report", "more"]
