"""The cancel of the page, without a browser."""

import asyncio
import json
import threading
from collections.abc import AsyncIterator
from typing import Any

import pytest
from web.fake import FakeSource
from web.serving import Served, served

from calloff.control import Query, Stopped


def cancel(page: Served, **body: Any) -> dict[str, Any]:
    status, text, headers = page.ask("/api/cancel", method="POST", body=body)
    assert (status, headers["content-type"]) == (200, "application/json"), text
    answer: dict[str, Any] = json.loads(text)
    return answer


def test_the_answer_is_the_ending(page: Served, source: FakeSource) -> None:
    source.add("100.1")
    stopped = cancel(page, id="100.1", reason="no longer needed")
    assert (stopped["outcome"], stopped["row"]["rung"]) == ("cancelled", "ASKED")
    assert source.cancelled == [{"id": "100.1", "reason": "no longer needed", "grace": None, "wait": 10.0}]


def test_one_that_goes_on_is_not_called_cancelled(page: Served, source: FakeSource) -> None:
    source.add("100.1")
    source.sturdy.add("100.1")
    stopped = cancel(page, id="100.1", wait=0)
    assert "outcome" not in stopped
    assert stopped["row"]["state"] == "stopping"
    stopped = cancel(page, id="100.1", grace=0)
    assert (stopped["outcome"], stopped["row"]["rung"]) == ("cancelled", "FORCED")


def test_one_that_is_not_there(page: Served) -> None:
    status, text, _ = page.ask("/api/cancel", method="POST", body={"id": "100.9"})
    assert status == 404
    assert "100.9" in text


def test_the_end_of_the_server_does_not_wait_for_an_answer() -> None:
    class Slow(FakeSource):
        async def cancel(self, query: Query, **asked: Any) -> AsyncIterator[Stopped]:
            begun.set()
            await asyncio.sleep(60)
            yield Stopped()

    begun, answers = threading.Event(), []

    def ask(page: Served) -> None:
        answers.append(page.ask("/api/cancel", method="POST", body={"id": "100.1"})[:2])

    with served(Slow().connect) as page:
        asking = threading.Thread(target=ask, args=(page,))
        asking.start()
        assert begun.wait(20)
    asking.join(20)
    assert answers == [(503, "The server ends; what was asked for goes on.")]


@pytest.mark.parametrize(
    ("body", "word"),
    [
        ({}, "id"),
        ({"id": ""}, "id"),
        ({"id": 7}, "id"),
        ({"id": "1" * 101}, "id"),
        ({"id": "100.1", "grace": -1}, "grace"),
        ({"id": "100.1", "grace": "soon"}, "grace"),
        ({"id": "100.1", "wait": 61}, "wait"),
        ({"id": "100.1", "reason": "x" * 501}, "reason"),
        ({"id": "100.1", "everything": True}, "everything"),
        ([], "object"),
        (b"", "cancel"),
        (b"{", "cancel"),
        (b'{"id": NaN}', "cancel"),
        (b"\xff\xfe", "cancel"),
    ],
)
def test_bad_bodies(page: Served, source: FakeSource, body: Any, word: str) -> None:
    status, text, _ = page.ask("/api/cancel", method="POST", body=body, Content_Type="application/json")
    assert status == 400
    assert word in text
    assert source.cancelled == []


def test_a_long_body_is_not_read(page: Served, source: FakeSource) -> None:
    body = b'{"id": "' + b"1" * 5000 + b'"}'
    assert page.ask("/api/cancel", method="POST", body=body, Content_Type="application/json")[0] == 413
    assert source.cancelled == []


@pytest.mark.parametrize("kind", ["text/plain", "application/x-www-form-urlencoded", ""])
def test_a_body_that_a_form_could_send_is_refused(page: Served, source: FakeSource, kind: str) -> None:
    source.add("100.1")
    assert page.ask("/api/cancel", method="POST", body=b'{"id": "100.1"}', Content_Type=kind)[0] == 415
    assert source.cancelled == []
