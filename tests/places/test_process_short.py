"""Calls and values that are plain go in a short form: it means what the pickle means, and nothing else takes it."""

import enum
import functools
import json
import math
import os
import pickle
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

import calloff
from calloff._child import short
from calloff._child.short import SHORT, load_call, load_value, short_call, short_value

PLAIN = st.one_of(
    st.none(), st.booleans(), st.integers(), st.floats(), st.complex_numbers(), st.binary(), st.text(st.characters())
)


class Number(int):
    pass


class Colour(enum.IntEnum):
    RED = 1


def double(value):
    return value * 2


inner = double
#: the name stands for this one now
double = functools.wraps(inner)(lambda value: inner(value))


def same(value, other):
    return type(value) is type(other) and (value == other or repr(value) == repr(other))


@given(PLAIN)
def test_a_plain_value_is_the_same_afterwards(value):
    assert same(load_value(memoryview(short_value(value) or b"")), value)


@given(st.lists(PLAIN), st.dictionaries(st.text(), PLAIN))
def test_so_is_a_call(args, kwargs):
    function, positional, named = load_call(memoryview(short_call(json.dumps, tuple(args), kwargs) or b""))
    assert function is json.dumps
    found = [*positional, *named.values()]
    assert all(map(same, found, [*args, *kwargs.values()]))
    assert list(named) == list(kwargs)


@pytest.mark.parametrize("value", [Number(3), Colour.RED, True.__class__, [1], (1,), {}, b"x" * 5000, "x" * 5000])
def test_nothing_else_has_a_short_form(value):
    assert short_value(value) is None
    assert short_call(abs, (value,), {}) is None
    assert short_call(print, (), {"end": value}) is None


@pytest.mark.parametrize(
    "function",
    [
        inner,
        lambda: 1,
        [].append,
        "x".join,
        functools.partial(abs),
        Number,
        json.JSONEncoder.encode,
        json.JSONEncoder().encode,
    ],
)
def test_a_function_that_its_name_does_not_lead_to_has_none(function):
    assert short_call(function, (), {}) is None


def test_one_that_was_called_before_has_none_once_its_name_leads_elsewhere(monkeypatch):
    monkeypatch.delitem(sys.modules, "colorsys", raising=False)
    import colorsys

    function = colorsys.rgb_to_hsv
    assert short_call(function, (1, 2, 3), {})
    with monkeypatch.context() as patch:
        patch.setattr(colorsys, "rgb_to_hsv", lambda r, g, b: None)
        assert short_call(function, (1, 2, 3), {}) is None
    assert short_call(function, (1, 2, 3), {})
    monkeypatch.delitem(sys.modules, "colorsys")
    assert short_call(function, (1, 2, 3), {}) is None


def test_of_many_functions_only_the_last_ones_are_remembered():
    functions = [function for function in vars(os).values() if short_call(function, (), {})]
    assert len(functions) > len(short._known)
    assert all(short_call(function, (), {}) for function in functions)


def test_no_pickle_begins_like_it():
    assert not any(pickle.dumps(None, protocol).startswith(SHORT) for protocol in range(6))


def test_what_is_not_there_is_told_as_by_a_pickle():
    data = (short_call(json.dumps, (), {}) or b"").replace(b"dumps", b"dumbs")
    with pytest.raises(AttributeError, match="dumbs"):
        load_call(data)


@pytest.mark.parametrize("change", ["math.sqrt = len", "del math.sqrt"])
async def test_the_name_is_looked_up_in_the_worker(change):
    """What a function changes there it finds there, as ever."""
    calloff.process.configure(size=1, spares=0)
    try:
        assert await calloff.call(calloff.process(math.sqrt, 4.0)) == 2.0
        await calloff.call(calloff.process(exec, f"import math; {change}"))
        with pytest.raises((TypeError, AttributeError)):
            await calloff.call(calloff.process(math.sqrt, 4.0))
    finally:
        calloff.process.restart()
        calloff.process.configure(size=4, spares=1)


async def test_a_function_by_its_name_and_one_by_value_are_called_alike():
    assert await calloff.call(calloff.process(sys.intern, "x")) == "x"
    assert await calloff.call(calloff.process(inner, 2)) == 4
    assert await calloff.call(calloff.process(double, "x")) == "xx"
    assert type(await calloff.call(calloff.process(double, Number(2)))) is int
