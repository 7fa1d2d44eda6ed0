"""What holds for every ladder: whatever the policy, the grace, the lateness of the loop and the further requests."""

from hypothesis import given
from hypothesis import strategies as st
from properties.climbing import START, climb_all

from calloff._words.ladder import Climb, Step, next_step
from calloff._words.policy import Policy

seconds = st.floats(0, 1e4, allow_nan=False)
policies = st.builds(
    Policy,
    last=st.floats(0, 100),
    retry=st.floats(0.01, 10),
    factor=st.floats(1, 10),
    longest=st.floats(0.01, 100),
)
#: when somebody asks again, from the first request on, and with what grace
requests = st.lists(st.tuples(st.floats(0, 200), st.floats(0, 200)), max_size=5).map(sorted)
climbs = st.builds(
    Climb,
    requested_at=st.just(100.0),
    force_at=st.floats(100, 300),
    asked=st.integers(0, 70),
    asked_at=st.floats(100, 300),
    forced_at=st.none() | st.floats(100, 300),
)


@given(policies, st.floats(0, 50), requests, st.booleans())
def test_the_bound_is_kept(policy, grace, requests, insists):
    steps = climb_all(policy, grace, requests, insists)
    *_, (_, forced_due, forced), (_, _, abandoned) = steps
    earliest = min([START + grace] + [START + after + again for after, again in requests])
    if not requests:
        assert forced == forced_due == START + grace
    assert forced <= START + grace
    assert forced >= min(earliest, START + grace)
    assert abandoned == forced + policy.last


@given(policies, st.floats(0, 20), st.floats(0, 3), st.booleans())
def test_a_loop_that_is_late_adds_only_its_own_lateness(policy, grace, late, insists):
    steps = climb_all(policy, grace, insists=insists, late=late)
    *_, (step, _, forced), (_, _, abandoned) = steps
    assert step is Step.FORCE
    assert forced <= START + grace + 2 * late + 1e-6
    assert abandoned <= forced + policy.last + late + 1e-6


@given(policies, st.floats(0, 20), requests, st.booleans())
def test_the_steps_come_in_order_and_each_kind_where_it_belongs(policy, grace, requests, insists):
    steps = climb_all(policy, grace, requests, insists)
    kinds = [step for step, _, _ in steps]
    assert kinds[0] is Step.ASK
    assert steps[0][2] == START, "asked at once"
    assert kinds[-2:] == [Step.FORCE, Step.ABANDON]
    assert set(kinds[1:-2]) <= ({Step.INSIST} if insists else set())
    taken = [at for _, _, at in steps]
    assert taken == sorted(taken)


@given(climbs, policies, st.booleans(), st.floats(0, 400))
def test_a_further_request_never_makes_the_next_step_later(climb, policy, insists, force_at):
    before = next_step(policy, climb, insists=insists)
    after = next_step(policy, climb.hastened(force_at), insists=insists)
    assert after.at <= before.at
    assert climb.hastened(force_at).force_at == min(climb.force_at, force_at)


@given(climbs, policies, st.booleans())
def test_there_is_always_a_next_step_and_force_only_after_grace(climb, policy, insists):
    due = next_step(policy, climb, insists=insists)
    match due.step:
        case Step.ASK:
            assert climb.asked == 0
            assert due.at == climb.requested_at
        case Step.INSIST:
            assert insists
            assert climb.asked_at < due.at < climb.force_at
        case Step.FORCE:
            assert climb.forced_at is None
            assert due.at == climb.force_at
        case Step.ABANDON:
            assert climb.forced_at is not None
            assert due.at == climb.forced_at + policy.last


@given(policies, st.integers(1, 1000))
def test_the_back_off_never_shrinks_nor_passes_its_cap(policy, asked):
    assert 0 < policy.pause(asked) <= policy.pause(asked + 1) <= policy.longest


@given(st.floats(0, 100))
def test_refusing_is_cheap(grace):
    """With the default policy, the askings grow with the logarithm of grace, and then one every two seconds."""
    assert len(climb_all(Policy(), grace)) <= 12 + grace / 2
    assert len(climb_all(Policy(), min(grace, 5.0))) <= 12
