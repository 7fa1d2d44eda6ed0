"""Durations: every text that is read means its parts, everything that is no duration is refused."""

import math

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from calloff._words.duration import delay, limit, period
from calloff._words.durations_text import UNITS, read_duration, spoken

units = st.lists(st.sampled_from(list(UNITS)), min_size=1, unique=True).map(
    lambda some: [u for u in UNITS if u in some]
)


@given(st.data(), units)
def test_parts_add_up(data, units):
    numbers = [data.draw(st.integers(0, 10_000)) for _ in units]
    text = "".join(f"{number}{unit}" for number, unit in zip(numbers, units, strict=True))
    assert read_duration(text) == pytest.approx(sum(n * UNITS[u] for n, u in zip(numbers, units, strict=True)))


@given(st.floats(0, 1e12, allow_nan=False))
def test_plain_seconds_are_read_back(seconds):
    text = f"{seconds:.6f}"
    assert read_duration(text) == float(text)
    assert read_duration(f"{text}s") == float(text)


@given(st.text(max_size=12))
def test_any_text_is_a_duration_of_zero_or_more_or_a_value_error(text):
    try:
        seconds = read_duration(text)
    except ValueError as error:
        assert repr(text) in str(error)
    else:
        assert seconds >= 0
        assert math.isfinite(seconds)
        assert text.isascii()


@given(st.floats(0, 1e9))
def test_any_duration_can_be_spoken(seconds):
    assert spoken(seconds)


@given(st.floats() | st.integers())
def test_a_number_is_let_in_or_refused_by_name(value):
    if math.isnan(value) or value < 0:
        for check in (limit, delay, period):
            with pytest.raises(ValueError, match="^timeout must be 0 or more"):
                check(value, "timeout")
        return
    try:
        as_float = float(value)
    except OverflowError:
        assume(False)
    assert delay(value, "timeout") == as_float
    assert limit(value, "timeout") == (None if value == math.inf else as_float)


@given(st.text() | st.booleans() | st.lists(st.integers()) | st.binary() | st.complex_numbers())
def test_no_number_at_all(value):
    with pytest.raises(TypeError, match="^timeout must be a number of seconds"):
        limit(value, "timeout")
