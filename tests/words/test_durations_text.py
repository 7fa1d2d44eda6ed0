"""Durations as people write and read them."""

from math import inf

import pytest

from calloff._words.durations_text import read_duration, spoken


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("0", 0.0),
        ("3", 3.0),
        (" 3 ", 3.0),
        ("3s", 3.0),
        (".5", 0.5),
        ("0.5s", 0.5),
        ("500ms", 0.5),
        ("1m30s", 90.0),
        ("2h", 7200.0),
        ("1h1s", 3601.0),
        ("1d2h3m4s5ms", 93784.005),
        ("1.5m", 90.0),
    ],
)
def test_reads(text, seconds):
    assert read_duration(text) == pytest.approx(seconds)


@pytest.mark.parametrize(
    "text",
    ["", " ", "s", "ms", "-1", "+1", "1e3", "1_000", "nan", "inf", "1s1m", "1s1s", "3x", "1m30", "1..5", "1 s x", "٣"],
)
def test_refuses_with_examples(text):
    with pytest.raises(ValueError, match=r"^not a duration such as 3, 3s, 500ms, 1m30s or 2h: ") as caught:
        read_duration(text)
    assert repr(text) in str(caught.value)


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0, "0.0 s"),
        (0.25, "0.25 s"),
        (0.996, "1.0 s"),
        (3, "3.0 s"),
        (59.9, "59.9 s"),
        (60, "1m00s"),
        (90, "1m30s"),
        (7500, "2h05m"),
        (inf, "no limit"),
    ],
)
def test_speaks(seconds, text):
    assert spoken(seconds) == text
