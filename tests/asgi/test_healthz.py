"""`healthz`: how the program is, as JSON."""

import asyncio
import contextlib
import json

import pytest
from asgi.wire import Wire

import calloff
from calloff.asgi import Middleware, healthz


async def ask(app):
    wire = Wire("/healthz")
    await app(wire.scope, wire.receive, wire.send)
    return wire.status, json.loads(wire.body)


async def test_a_program_that_is_well():
    async def slow(scope, receive, send):
        await asyncio.sleep(3600)

    wire = Wire("/slow", headers=[("request-timeout", "soon")])
    before = (await ask(healthz(late=60)))[1]["malformed_deadlines"]
    serving = asyncio.ensure_future(Middleware(slow)(wire.scope, wire.receive, wire.send))
    await asyncio.sleep(0.01)
    status, facts = await ask(healthz(late=60))
    assert status == 200
    assert facts["ok"] is True
    assert (facts["operations"], facts["requests"], facts["malformed_deadlines"]) == (1, 1, before + 1)
    assert facts["oldest"]["name"] == "GET /slow"
    assert "where" not in facts["oldest"]
    assert "test_healthz.py" in (await ask(healthz(late=60, detail=True)))[1]["oldest"]["where"]
    serving.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await serving
    assert (await ask(healthz(late=60)))[1]["requests"] == 0


async def test_a_program_that_is_not():
    gone = asyncio.Event()

    async def stubborn():
        while not gone.is_set():
            with contextlib.suppress(BaseException):
                await asyncio.sleep(0.01)

    op = calloff.start(stubborn, grace=0)
    await asyncio.sleep(0)
    await op.stop()
    status, facts = await ask(healthz(late=60, abandoned=0))
    assert (status, facts["ok"]) == (503, False)
    assert [work["name"] for work in facts["abandoned"]] == ["stubborn"]
    gone.set()
    async with asyncio.timeout(60):
        while calloff.operations():
            await asyncio.sleep(0.01)


def test_bad_input():
    with pytest.raises(ValueError, match="late"):
        healthz(late=-1)
