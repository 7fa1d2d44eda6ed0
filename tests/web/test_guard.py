"""Who is let in: requests over a real socket, as a browser or a foreign page would send them."""

import http.client
import re

import pytest
from web.fake import FakeSource
from web.serving import TOKEN, Served, served

from calloff.web._guard import is_loopback, plain_name

CANCEL = {"id": "100.1"}


@pytest.mark.parametrize(
    "authorization", [None, "", "Bearer", "Bearer ", "Bearer wrong", f"Basic {TOKEN}", TOKEN, "Bearer ü"]
)
@pytest.mark.parametrize("method", ["GET", "POST"])
def test_a_wrong_token_is_refused(page: Served, source: FakeSource, authorization: str | None, method: str) -> None:
    source.add("100.1")
    headers = {} if authorization is None else {"Authorization": authorization.encode().decode("latin-1")}
    path = "/api/events" if method == "GET" else "/api/cancel"
    body = CANCEL if method == "POST" else None
    status, text, answered = page.ask(path, method=method, token=None, body=body, **headers)
    assert status == 401
    assert "token" in text
    assert "100.1" not in text
    assert answered["www-authenticate"] == "Bearer"
    assert (source.asked, source.cancelled) == ([], [])


def test_the_token_is_no_part_of_an_address(page: Served) -> None:
    assert page.ask(f"/api/events?token={TOKEN}", token=None)[0] == 401


@pytest.mark.parametrize(
    "host",
    [
        "evil.example",
        "evil.example:{port}",
        "localhost.evil.example",
        "127.0.0.1.evil.example",
        "10.0.0.7",
        "",
        "[::2]",
    ],
)
def test_a_foreign_host_is_refused_even_with_the_token(page: Served, source: FakeSource, host: str) -> None:
    for path in ("/", "/assets/main.js", "/api/events"):
        status, text, _ = page.ask(path, Host=host.format(port=page.port))
        assert status == 403, path
        assert "host name" in text
    assert source.asked == []


@pytest.mark.parametrize(
    "host", ["localhost", "localhost:{port}", "127.0.0.1:{port}", "LOCALHOST:9000", "[::1]:{port}", "127.0.0.2"]
)
def test_names_of_the_loopback_interface_are_ours(page: Served, host: str) -> None:
    assert page.ask("/", Host=host.format(port=page.port))[0] == 200


def test_two_hosts_are_none(page: Served) -> None:
    connection = http.client.HTTPConnection("127.0.0.1", page.port, timeout=20)
    connection.putrequest("GET", "/", skip_host=True)
    connection.putheader("Host", f"127.0.0.1:{page.port}")
    connection.putheader("Host", "evil.example")
    connection.endheaders()
    assert connection.getresponse().status in (400, 403)
    connection.close()


@pytest.mark.parametrize(
    "origin",
    [
        "http://evil.example",
        "null",
        "http://localhost:1",
        "file://",
        "http://127.0.0.1",
        "http://127.0.0.1:{port}.evil.example",
    ],
)
def test_a_foreign_origin_is_refused_even_with_the_token(page: Served, source: FakeSource, origin: str) -> None:
    source.add("100.1")
    headers = {"Origin": origin.format(port=page.port)}
    assert page.ask("/api/cancel", method="POST", body=CANCEL, **headers)[0] == 403
    assert page.ask("/api/events", **headers)[0] == 403
    assert (source.asked, source.cancelled) == ([], [])


def test_its_own_origin_passes(page: Served, source: FakeSource) -> None:
    source.add("100.1")
    status, _, _ = page.ask("/api/cancel", method="POST", body=CANCEL, Origin=f"http://127.0.0.1:{page.port}")
    assert status == 200


@pytest.mark.parametrize("site", ["cross-site", "same-site"])
def test_a_browser_that_says_cross_site_is_refused(page: Served, site: str) -> None:
    assert page.ask("/api/events", Sec_Fetch_Site=site)[0] == 403
    assert page.ask("/assets/main.js", Sec_Fetch_Site=site)[0] == 403
    assert page.ask("/", Sec_Fetch_Site=site, Sec_Fetch_Mode="no-cors")[0] == 403


def test_the_link_may_be_followed_from_anywhere(page: Served) -> None:
    assert page.ask("/", token=None, Sec_Fetch_Site="cross-site", Sec_Fetch_Mode="navigate")[0] == 200


def test_no_cookie_is_set_or_heard(page: Served) -> None:
    assert "set-cookie" not in page.ask("/")[2]
    assert page.ask("/api/events", token=None, Cookie=f"calloff-token={TOKEN}; token={TOKEN}")[0] == 401


@pytest.mark.parametrize("path", ["/", "/assets/main.js", "/assets/none", "/api/events", "/nowhere"])
def test_every_answer_carries_the_policy(page: Served, path: str) -> None:
    _, _, headers = page.ask(path, token=None)
    policy = headers["content-security-policy"]
    assert "default-src 'none'" in policy
    assert "script-src 'self';" in policy
    assert "unsafe" not in policy
    assert "frame-ancestors 'none'" in policy
    assert headers["x-content-type-options"] == "nosniff"
    assert headers["referrer-policy"] == "no-referrer"
    assert headers["cache-control"] == "no-store"
    assert "access-control-allow-origin" not in headers
    assert "server" not in headers


def test_the_page_and_its_files_are_all_there_and_load_nothing_else(page: Served) -> None:
    seen: set[str] = set()
    ahead = ["/"]
    while ahead:
        path = ahead.pop()
        if path in seen:
            continue
        seen.add(path)
        status, text, headers = page.ask(path, token=None)
        assert status == 200, path
        assert "http://" not in text.replace("http://www.w3.org/2000/svg", ""), path
        assert "https://" not in text, path
        assert "innerHTML" not in text, path
        assert "style=" not in text, path
        assert not re.search(r"<script(?![^>]* src=)", text), path
        ahead += [f"/{link}" for link in re.findall(r'(?:src|href)="(assets/[^"]+)"', text)]
        ahead += [f"/assets/{link}" for link in re.findall(r'from "\./([\w.]+)"', text)]
        if path.endswith(".js"):
            assert headers["content-type"].startswith("text/javascript")
    assert len(seen) >= 10


@pytest.mark.parametrize(
    "path",
    [
        "/assets/..%2f_app.py",
        "/assets/../_app.py",
        "/assets/__init__.py",
        "/assets/",
        "/assets/%00",
        "/docs",
        "/assets/index.html/x",
    ],
)
def test_nothing_else_is_served(page: Served, path: str) -> None:
    assert page.ask(path)[0] in (404, 307)


def test_methods_that_are_not_meant_are_refused(page: Served) -> None:
    assert page.ask("/", method="POST", body=b"")[0] == 405
    assert page.ask("/api/cancel")[0] == 405
    assert page.ask("/api/events", method="POST", body={})[0] == 405


def test_where_others_can_reach_it_only_numbers_and_its_own_names_are_ours(source: FakeSource) -> None:
    with served(source.connect, hosts=("0.0.0.0", "box.example")) as page:
        assert page.ask("/", Host="10.0.0.7:8642")[0] == 200
        assert page.ask("/", Host="BOX.example")[0] == 200
        assert page.ask("/", Host="evil.example")[0] == 403


@pytest.mark.parametrize(
    ("host", "name"),
    [("a:80", "a"), ("A", "a"), ("[::1]:80", "::1"), ("[::1]", "::1"), ("::1", "::1"), ("a:b", "a:b"), ("", "")],
)
def test_names_of_hosts(host: str, name: str) -> None:
    assert plain_name(host) == name


def test_loopback() -> None:
    assert all(map(is_loopback, ["localhost", "127.0.0.1", "127.9.9.9", "::1"]))
    assert not any(map(is_loopback, ["0.0.0.0", "::", "10.0.0.1", "example.org", ""]))
