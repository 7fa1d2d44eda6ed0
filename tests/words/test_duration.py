"""Durations at the door: what is let in, and the sentence that the rest gets."""

from math import inf, nan

import pytest

from calloff._words.duration import delay, limit, period


@pytest.mark.parametrize(("value", "seconds"), [(0, 0.0), (0.0, 0.0), (3, 3.0), (0.25, 0.25), (1e9, 1e9)])
def test_a_limit_is_zero_or_more_seconds(value, seconds):
    assert limit(value, "timeout") == seconds
    assert isinstance(limit(value, "timeout"), float)


@pytest.mark.parametrize("value", [None, inf])
def test_none_and_infinity_mean_no_limit(value):
    assert limit(value, "timeout") is None


def test_a_delay_may_be_infinite_but_not_none():
    assert delay(inf, "grace") == inf
    assert delay(10**400, "grace") == inf
    with pytest.raises(TypeError, match=r"^grace must be a number of seconds \(0 or more\), not None$"):
        delay(None, "grace")  # type: ignore[arg-type]  # on purpose


@pytest.mark.parametrize("value", [-1, -0.001, -inf, nan])
@pytest.mark.parametrize("check", [limit, delay, period])
def test_negative_and_nan_are_refused_by_name(check, value):
    with pytest.raises(ValueError, match=rf"^stall must be 0 or more seconds, not {value!r}$"):
        check(value, "stall")


@pytest.mark.parametrize("value", [True, False, "3", "3s", b"3", [3], 3j, object()])
@pytest.mark.parametrize("check", [limit, delay, period])
def test_what_is_no_number_is_refused_by_name(check, value):
    with pytest.raises(TypeError, match="^grace must be a number of seconds"):
        check(value, "grace")


@pytest.mark.parametrize("value", [0, 0.0, inf])
def test_a_period_is_finite_and_more_than_zero(value):
    assert period(0.5, "every") == 0.5
    with pytest.raises(ValueError, match="^every must be more than 0 and finite, not"):
        period(value, "every")
