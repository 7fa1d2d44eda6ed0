"""The ladder by example; what holds for all of them is in properties/test_ladder.py."""

import pytest

from calloff._words.ladder import Climb, Step, next_step
from calloff._words.policy import DEFAULT, Policy


def climbed(policy, grace, *, insists=True):
    """The steps of a body that refuses everything, with their times from the request on."""
    steps = []
    climb = Climb(0.0, grace)
    while True:
        step, at = next_step(policy, climb, insists=insists)
        steps.append((step, round(at, 6)))
        if step in (Step.ASK, Step.INSIST):
            climb = climb.asked_again(at)
        elif step is Step.FORCE:
            climb = climb.forced(at)
        else:
            return steps


def test_the_contracts_own_numbers():
    assert (DEFAULT.grace, DEFAULT.last, DEFAULT.retry, DEFAULT.factor, DEFAULT.longest) == (5.0, 1.0, 0.01, 3.0, 2.0)


def test_a_body_that_refuses_for_ever_is_asked_seven_times_in_five_seconds():
    """A refused cancel costs next to no CPU: the back-off, not the body, decides how often it is asked."""
    steps = climbed(DEFAULT, 5.0)
    insisted = [at for step, at in steps if step is Step.INSIST]
    assert insisted == pytest.approx([0.01, 0.04, 0.13, 0.40, 1.21, 3.21])
    assert steps[0] == (Step.ASK, 0.0)
    assert steps[-2:] == [(Step.FORCE, 5.0), (Step.ABANDON, 6.0)]
    assert len(steps) == 9


def test_a_long_grace_asks_every_two_seconds_at_most():
    steps = climbed(DEFAULT, 3600.0)
    assert len(steps) < 3600 / 2 + 20


def test_without_grace_force_follows_the_asking():
    assert climbed(DEFAULT, 0.0) == [(Step.ASK, 0.0), (Step.FORCE, 0.0), (Step.ABANDON, 1.0)]


def test_where_insisting_means_nothing_it_is_left_out():
    assert climbed(DEFAULT, 5.0, insists=False) == [(Step.ASK, 0.0), (Step.FORCE, 5.0), (Step.ABANDON, 6.0)]


def test_a_further_request_only_brings_force_nearer():
    climb = Climb(0.0, 5.0, 1, 0.0)
    assert climb.hastened(2.0).force_at == 2.0
    assert climb.hastened(9.0) is climb
    assert climb.hastened(2.0).hastened(4.0).force_at == 2.0


def test_the_pause_grows_and_is_capped_without_overflow():
    policy = Policy(retry=0.5, factor=10.0, longest=30.0)
    assert [policy.pause(asked) for asked in (1, 2, 3, 4, 10**9)] == [0.5, 5.0, 30.0, 30.0, 30.0]
