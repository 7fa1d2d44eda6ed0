"""The live stream and its parameters."""

import asyncio
import time
from typing import Any
from urllib.parse import quote

import pytest
from msgspec.structs import replace
from web.fake import FakeSource
from web.serving import Served

from calloff.control import Frame, Overview, Query
from calloff.web._stream import Shared
from calloff.web._view import View


def test_what_runs_and_what_has_ended(page: Served, source: FakeSource) -> None:
    source.add("100.1", "main")
    source.add("100.2", "old", state="failed", outcome="failed", ended_at=time.time(), error="ValueError: 1")
    with page.stream() as events:
        event, data = next(events)
    assert event == "listing"
    assert (data["running"], data["ended"]) == ({"order": ["100.1"], "total": 1}, {"order": ["100.2"], "total": 1})
    assert {row["id"]: row["name"] for row in data["rows"]} == {"100.1": "main", "100.2": "old"}
    assert data["counts"] == {"running": 1, "failed": 1}
    assert data["processes"] == [{"pid": 100, "argv": ["python", "program.py"]}]


def test_only_what_changed_is_sent_again(page: Served, source: FakeSource) -> None:
    first = source.add("100.1", "main", age=1.0, deadline_at=5.0, remaining=3.0)
    source.add("100.2", "other")
    with page.stream() as events:
        assert len(next(events)[1]["rows"]) == 2
        source.rows["100.1"] = replace(first, age=2.0, remaining=2.0)  # merely older: nothing is sent
        source.add("100.3", "new")
        data = next(data for _, data in events if data["rows"])
        assert [row["id"] for row in data["rows"]] == ["100.3"]
        assert data["running"]["order"] == ["100.1", "100.2", "100.3"]
        # at one stroke, since the page may look at any moment; it looks twice, and may tell of the counts alone before
        source.rows = {"100.1": replace(first, progress=0.5), "100.3": source.rows["100.3"]}
        data = next(data for _, data in events if data["rows"])
        assert [(row["id"], row["progress"]) for row in data["rows"]] == [("100.1", 0.5)]
        assert data["running"]["order"] == ["100.1", "100.3"]


def test_an_abandoned_one_that_still_runs_is_told_among_what_runs(page: Served, source: FakeSource) -> None:
    source.add("100.1", state="abandoned", outcome="abandoned", ended_at=time.time())
    with page.stream() as events:
        data = next(events)[1]
    assert data["running"] == {"order": ["100.1"], "total": 1}
    assert data["ended"] == {"order": [], "total": 0}


def test_details_come_with_the_stream(page: Served, source: FakeSource) -> None:
    source.add("100.1", "main")
    source.stacks["100.1"] = (Frame("a.py", 3, "main", "await work()"),)
    with page.stream("show=100.1") as events:
        assert next(events)[0] == "listing"
        event, data = next(events)
    assert event == "detail"
    assert data["row"]["id"] == "100.1"
    assert data["stack"] == [{"file": "a.py", "line": 3, "function": "main", "source": "await work()"}]


def test_trouble_is_told_and_the_stream_goes_on(page: Served, source: FakeSource) -> None:
    source.broken = "the directory is open to other users"
    with page.stream("show=100.9") as events:
        assert next(events) == ("trouble", {"about": "listing", "text": source.broken})
        event, data = next(events)
        assert (event, data["about"]) == ("trouble", "detail")
        assert "100.9" in data["text"]
        source.broken = ""
        source.add("100.1")
        assert next(events)[0] == "listing"


def test_a_page_of_ten_thousand(page: Served, source: FakeSource) -> None:
    for number in range(10_000):
        source.add(f"100.{number}", f"job-{number}")
    with page.stream("limit=50&offset=9980") as events:
        data = next(events)[1]
    assert data["running"]["total"] == 10_000
    assert data["running"]["order"] == [f"100.{number}" for number in range(9980, 10_000)]
    assert len(data["rows"]) == 20
    assert all(query.limit == 50 for query in source.asked)


async def test_tabs_that_look_at_the_same_share_the_looking() -> None:
    source = FakeSource()
    source.add("100.1")
    shared, query = Shared(source), Query()
    one, two, other = await asyncio.gather(shared.look(query), shared.look(query), shared.look(Query(limit=1)))
    assert one is two
    assert other is not one
    assert source.asked == [query, Query(limit=1)]


async def test_a_tab_that_goes_leaves_the_others_their_answer() -> None:
    class Slow(FakeSource):
        async def list(self, query: Query) -> Overview:
            await asyncio.sleep(0.05)
            return await super().list(query)

    shared = Shared(Slow())
    first = asyncio.ensure_future(shared.look(Query()))
    second = asyncio.ensure_future(shared.look(Query()))
    await asyncio.sleep(0)
    first.cancel()
    assert (await second).total == 0


def test_streams_are_limited_and_given_back(page: Served, source: FakeSource, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("calloff.web._app.MOST_STREAMS", 1)
    with page.stream() as events:
        next(events)
        assert page.ask("/api/events")[0] == 503
    deadline = time.monotonic() + 20
    while time.monotonic() < deadline:  # the server notices with the next thing that it sends
        try:
            with page.stream() as events:
                next(events)
                return
        except AssertionError:
            time.sleep(0.05)
    pytest.fail("the stream of a tab that was closed is still counted")


@pytest.mark.parametrize(
    ("parameters", "word"),
    [
        ("limit=0", "limit"),
        ("limit=201", "200"),
        ("limit=many", "limit"),
        ("offset=-1", "offset"),
        ("past=99999999999", "past"),
        ("sort=size", "sort"),
        ("state=asleep", "state"),
        ("place=moon", "place"),
        ("reverse=perhaps", "reverse"),
        ("colour=red", "colour"),
    ],
)
def test_bad_parameters(page: Served, source: FakeSource, parameters: str, word: str) -> None:
    status, text, _ = page.ask(f"/api/events?{parameters}")
    assert status == 400
    assert word in text
    assert source.asked == []


def test_a_name_is_searched_for_and_a_pattern_is_one() -> None:
    for given, asked in (("ab", "*ab*"), ("a?b", "a?b"), ("*", "*"), ("", "")):
        view = View.read({"name": given})
        assert view.running is not None
        assert view.running.name == asked


def test_a_filter_of_states_asks_only_for_the_sides_that_it_leaves() -> None:
    view = View.read({"state": "running,stopping"})
    assert view.running is not None
    assert (view.running.states, view.ended) == (("running", "stopping"), None)
    view = View.read({"state": "failed"})
    assert view.ended is not None
    assert (view.running, view.ended.states) == (None, ("failed",))
    assert view.counts is not None
    assert View.read({}).counts is None


def test_odd_text_in_names_stays_text(page: Served, source: FakeSource) -> None:
    name = "a\n\ndata: {}\n\nevent: listing <script>\u2028"
    source.add("100.1", name)
    with page.stream(f"name={quote('<script>')}") as events:
        assert next(events)[1]["rows"][0]["name"] == name


PRESSED = [
    ({"state": "running,failed"}, ("running",), ("failed",)),
    ({"state": "running,failed", "name": "state:failed,stopping"}, None, ("failed",)),
    ({"state": "running", "name": "state:failed"}, None, None),
    ({"name": "state:stopping"}, ("stopping",), None),
    ({"name": "x"}, (), ("completed", "failed", "cancelled", "abandoned")),
]


@pytest.mark.parametrize(("parameters", "running", "ended"), PRESSED)
def test_buttons_narrow_the_filter(parameters: dict[str, str], running: Any, ended: Any) -> None:
    view = View.read(parameters)
    assert (view.running and view.running.states) == running
    assert (view.ended and view.ended.states) == ended


def test_the_place_and_the_filter_must_both_hold() -> None:
    view = View.read({"place": "process", "name": "place:process,thread node:oak"})
    assert view.running is not None
    assert view.running.places == ("process oak",)
    view = View.read({"place": "thread", "name": "place:process"})
    assert (view.running, view.ended, view.counts) == (None, None, None)


def test_what_ends_in_each_second_is_told(page: Served, source: FakeSource) -> None:
    source.over = {100: 5}
    with page.stream() as events:
        assert next(events)[1]["rates"] == []
        source.over = {100: 17}
        while not (rates := next(events)[1]["rates"]):
            pass
    assert 0 < sum(rates) <= 12
