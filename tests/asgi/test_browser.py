"""A tab of a real Chromium that is closed while it reads a stream."""

import asyncio
import threading

import pytest

pytest.importorskip("playwright")

from web import browser as browsers

import calloff
from calloff.asgi import Middleware, serving

if browsers.find() is None:
    pytest.skip("there is no Chromium: apt-get install chromium", allow_module_level=True)

LIMIT = 60
PAGE = b"""<!doctype html><title>stream</title><p id=last></p>
<script>new EventSource("/events").onmessage = event => { last.textContent = event.data }</script>"""


async def app(scope, receive, send):
    is_stream = scope["path"] == "/events"
    kind = b"text/event-stream" if is_stream else b"text/html"
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-type", kind)]})
    number = 0
    while is_stream:
        number += 1
        await send({"type": "http.response.body", "body": b"data: %d\n\n" % number, "more_body": True})
        await asyncio.sleep(0.05 if number < 5 else 3600)  # then nothing is sent that could fail
    await send({"type": "http.response.body", "body": PAGE})


def test_closing_the_tab_ends_the_handler():
    ended = []

    async def main():
        async with serving(Middleware(app), port=0, log_level="critical", lifespan="off", drain=0, grace=1) as server:
            url, closed = server.url, threading.Event()
            tab = asyncio.create_task(asyncio.to_thread(visit, url, closed))
            async with asyncio.timeout(LIMIT):
                while not (streams := [op for op in calloff.operations() if op.name == "GET /events"]):
                    await asyncio.sleep(0.01)
                ended.append(await streams[0].outcome())
            closed.set()
            await tab

    asyncio.run(main())
    assert isinstance(ended[0], calloff.Cancelled)
    assert ended[0].reason.kind is calloff.Kind.DISCONNECTED


def visit(url, closed):
    with browsers.chromium() as browser:
        page = browser.new_page()
        page.set_default_timeout(LIMIT * 1000)
        page.goto(url)
        page.wait_for_function("document.getElementById('last').textContent === '5'")
        page.close()
        assert closed.wait(LIMIT)  # the browser is there, only the tab is not
