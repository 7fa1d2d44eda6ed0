"""``calloff sweep app --request``: a request to an ASGI application, called off, or its client gone."""

import json
import shlex
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from calloff import cli
from calloff.testing._sweep.request import Request

APP = """
import asyncio
import calloff.asgi

POOLS = []

class Pool:
    def __init__(self):
        self.free = 1
        POOLS.append(self)

    async def take(self):
        while not self.free:
            await asyncio.sleep(0.001)
        self.free -= 1

async def plain(scope, receive, send):
    if scope["type"] == "lifespan":
        await receive()
        scope["state"]["pool"] = Pool()
        await send({"type": "lifespan.startup.complete"})
        await receive()
        await send({"type": "lifespan.shutdown.complete"})
        return
    pool = scope["state"]["pool"]
    assert scope["query_string"] == b"page=2" and (b"x-user", b"ada") in scope["headers"], scope
    assert (await receive())["body"] == b"hello"
    await pool.take()
    try:
        await asyncio.sleep(0.3 if scope["path"].startswith("/slow") else 0.01)
    except asyncio.CancelledError:
        if scope["path"].endswith("/mended"):
            pool.free += 1
        raise
    pool.free += 1
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": b"ok"})

app = calloff.asgi.Middleware(plain)

async def no_lifespan(scope, receive, send):
    if scope["type"] != "http":
        raise NotImplementedError(scope["type"])
    await asyncio.sleep(0)
    await send({"type": "http.response.start", "status": 204, "headers": []})
    await send({"type": "http.response.body"})

async def does_not_start(scope, receive, send):
    await receive()
    await send({"type": "lifespan.startup.failed", "message": "no database"})

async def setup():
    return POOLS

async def check(pools):
    return pools[-1].free == 1
"""
ALL = ("--header", "X-User: ada", "--body", "hello", "--json")
Swept = Callable[..., tuple[int, dict[str, Any]]]


@pytest.fixture
def swept(tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Swept:
    monkeypatch.chdir(tmp_path)
    Path("shop.py").write_text(APP)

    def run(app: str, *words: str) -> tuple[int, dict[str, Any]]:
        status = cli.main(["sweep", f"shop.py:{app}", *words])
        return status, json.loads(capsys.readouterr().out)

    return run


def line_of(text: str) -> int:
    return next(number for number, line in enumerate(APP.splitlines(), 1) if text in line)


@pytest.mark.parametrize("app", ["plain", "app"])
def test_an_endpoint_that_keeps_its_place_is_found_at_its_line(swept: Swept, app: str) -> None:
    status, report = swept(app, "--request", "POST /items?page=2", "--phases", "early", *ALL)
    assert status == 1
    lines = {step["line"] for finding in report["findings"] for step in finding["stack"]}
    assert line_of("0.01)") in lines
    assert {violation["oracle"] for finding in report["findings"] for violation in finding["violations"]} == {"restart"}


def test_the_command_that_shows_it_again_has_the_request(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("shop.py").write_text(APP)
    words = ["shop.py:plain", "--request", "POST /items?page=2", *ALL[:-1], "--phases", "early"]
    assert cli.main(["sweep", *words]) == 1
    text = capsys.readouterr().out
    again = next(line for line in text.splitlines() if "again: " in line).partition("again: calloff sweep ")[2]
    assert "--request 'POST /items?page=2' --header 'X-User: ada' --body hello" in again
    assert cli.main(["sweep", *shlex.split(again)]) == 1


def test_the_mended_one_is_safe_and_the_check_gets_the_setup(swept: Swept) -> None:
    words = ("--setup", "setup", "--check", "check")
    assert swept("plain", "--request", "POST /mended?page=2", *words, *ALL)[0] == 0
    status, report = swept("plain", "--request", "POST /items?page=2", "--without", "restart", *words, *ALL)
    assert status == 1
    assert {violation["oracle"] for finding in report["findings"] for violation in finding["violations"]} == {"check"}


def test_a_client_that_goes_away_in_place_of_a_cancel(swept: Swept) -> None:
    words = ("--how", "disconnect", "--phases", "early", "--max", "1", "--timeout", "2")
    status, report = swept("app", "--request", "POST /slow?page=2", *words, *ALL)
    assert status == 1, report
    assert swept("app", "--request", "POST /slow/mended?page=2", *words, *ALL)[0] == 0
    assert swept("plain", "--request", "POST /slow?page=2", *words, *ALL)[0] == 0  # it does not listen, and goes on


def test_an_application_without_a_lifespan_and_one_that_does_not_start(swept: Swept) -> None:
    assert swept("no_lifespan", "--request", "GET /", "--json")[0] == 0
    status, report = swept("does_not_start", "--request", "GET /", "--json")
    assert status == 2
    assert "the application did not start: no database" in report["error"]


@pytest.mark.parametrize(
    ("words", "text"),
    [
        (("plain", "--request", "items"), "a method and a path, as in 'GET /items', not 'items'"),
        (("plain", "--request", "GET /", "--header", "none"), "--header: 'name: value', not 'none'"),
        (("plain", "--request", "GET /", "--bystander", "check"), "--bystander is not for a --request"),
        (("POOLS", "--request", "GET /"), "is not an ASGI application"),
        (("check", "--how", "disconnect"), "--how disconnect, --header and --body are for a --request"),
    ],
)
def test_what_is_wrong_is_said(
    words: tuple[str, ...], text: str, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: Any
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("shop.py").write_text(APP)
    assert cli.main(["sweep", f"shop.py:{words[0]}", *words[1:]]) == 2
    assert text in capsys.readouterr().err


def test_a_request_is_read() -> None:
    request = Request.read("get /a%20b?x=1", ["Accept: text/html"], "é")
    scope = request.scope({})
    assert (scope["method"], scope["path"], scope["query_string"]) == ("GET", "/a b", b"x=1")
    assert (b"accept", b"text/html") in scope["headers"]
    assert (b"content-length", b"2") in scope["headers"]
