"""The filter that a person types."""

import pytest

from calloff.control._filter import read_filter
from calloff.control._records import Query


@pytest.mark.parametrize(
    ("typed", "means"),
    [
        ("", Query()),
        ("fetch", Query(name="*fetch*")),
        ("fetch-*", Query(name="fetch-*")),
        ("  load page ", Query(name="*load page*")),
        ("http://x", Query(name="*http://x*")),
        ("state:stopping,pending state:running", Query(states=("stopping", "pending", "running"))),
        ("fetch place:process older:1m30s", Query(name="*fetch*", places=("process",), older_than=90.0)),
        ("pid:4312", Query(ids=("4312.",))),
        ("place:asyncio", Query(places=("asyncio",), tasks=True)),
        ("place:process node:oak,elm", Query(places=("process oak", "process elm"))),
        ("node:oak", Query(places=("task oak", "thread oak", "process oak", "command oak", "asyncio oak"))),
        ("state:", Query()),
    ],
)
def test_what_it_means(typed, means):
    assert read_filter(typed) == means


@pytest.mark.parametrize(
    ("typed", "told"),
    [
        ("state:stoped", "state is one of pending, running, .*, not 'stoped'"),
        ("place:thred", "place is one of task, thread, .*, not 'thred'"),
        ("pid:x", "pid is the number of a process, not 'x'"),
        ("older:long", "older is a duration, such as 30s: not a duration .*'long'"),
    ],
)
def test_what_it_can_not_mean(typed, told):
    with pytest.raises(ValueError, match=told):
        read_filter(typed)
