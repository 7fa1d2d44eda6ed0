"""What calloff adds to clients, swept itself: called off at every await it leaves nothing behind."""

import asyncio
import importlib.util

import pytest

import calloff
import calloff.http
import calloff.mcp
from calloff.testing import sweep

if importlib.util.find_spec("httpx") is None or importlib.util.find_spec("mcp") is None:
    pytest.skip("runs in the environments of the groups borders and borders-mcp2", allow_module_level=True)

import httpx
import mcp


async def answer(request):
    await asyncio.sleep(0)
    return httpx.Response(200, text=request.headers["request-timeout-ms"])


async def a_request():
    hooks = {"request": [calloff.http.httpx_hook]}
    async with (
        calloff.timeout(30),
        httpx.AsyncClient(transport=httpx.MockTransport(answer), event_hooks=hooks) as client,
    ):
        assert 0 < int((await client.get("http://there/")).text) <= 30_000


async def a_request_by_middleware():
    async def handler(request):
        await asyncio.sleep(0)
        return request.headers

    async with calloff.timeout(30):
        found = await calloff.http.aiohttp_middleware(httpx.Request("GET", "http://there/"), handler)
        assert found["request-timeout-ms"]


async def a_server():
    async with calloff.mcp.stdio(mcp.StdioServerParameters(command="cat"), grace=1) as (reading, _):
        assert reading is not None
        await asyncio.sleep(0)


async def nothing_is_left():
    assert not calloff.operations()


@pytest.mark.parametrize("work", [a_request, a_request_by_middleware, a_server])
def test_it_is_safe(work):
    report = asyncio.run(sweep(work, check=nothing_is_left, timeout=20, isolate=False))
    assert report.verdict == "SAFE", "\n".join(str(finding) for finding in report.findings)
    assert report.points
