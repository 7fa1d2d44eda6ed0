"""Clients that leave at any moment, at random: afterwards nothing is left of any.

Once without any limit: each has to be noticed. Once with a limit, and with those that can't be noticed: a server stops
reading from clients that pipeline requests, or that send more than anybody reads, and nobody listens to a client that
waits to be asked for a body which the handler does not want.

A few hundred in every run. ``CALLOFF_ABORTS=10000 scripts/test tests/asgi/test_aborts.py`` is the whole.
"""

import asyncio
import gc
import os
import random
from typing import Any

import pytest

pytest.importorskip("uvicorn")

from starlette.applications import Starlette
from starlette.background import BackgroundTask
from starlette.responses import PlainTextResponse, StreamingResponse
from starlette.routing import Route, WebSocketRoute

import calloff
from calloff.asgi import install, serving
from calloff.asgi._count import requests

ABORTS = int(os.environ.get("CALLOFF_ABORTS", "300"))
AT_ONCE = 50
LIMIT = 600
open_now: set[Any] = set()


async def busy(request):
    mine = object()
    open_now.add(mine)
    try:
        if request.method == "POST":
            async for _ in request.stream():
                await asyncio.sleep(0)
        await asyncio.sleep(random.choice((0, 0.001, 0.01, 3600)))
    finally:
        try:
            await asyncio.sleep(0.001)
        finally:
            open_now.discard(mine)
    return PlainTextResponse("x" * 1000, background=BackgroundTask(asyncio.sleep, 0.005))


async def stream(request):
    async def parts():
        mine = object()
        open_now.add(mine)
        try:
            while True:
                yield b"x" * 1000
                await asyncio.sleep(0.001)
        finally:
            open_now.discard(mine)

    return StreamingResponse(parts())


async def unread(request):
    await asyncio.sleep(random.choice((0.001, 0.1, 3600)))
    return PlainTextResponse("done")


async def ws(socket):
    await socket.accept()
    while True:
        await socket.send_text("x")
        await asyncio.sleep(0.001)


def application(timeout):
    app = Starlette(
        routes=[
            Route("/busy", busy, methods=["GET", "POST"]),
            Route("/stream", stream),
            Route("/unread", unread, methods=["POST"]),
            WebSocketRoute("/ws", ws),
        ]
    )
    install(app, lazy=0.002, heard=0.05, timeout=timeout, grace=1)
    return app


async def abort(port, chance, hidden):
    """One client: sends a part of a request or all of it, perhaps reads a little, and leaves in one of two ways."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    kind = chance.choice(("GET /busy", "GET /busy", "POST /busy", "POST /unread", "GET /stream"))
    sizes = (10, 1000, 200_000) if hidden or kind == "POST /busy" else (10, 1000)
    body = b"x" * chance.choice(sizes) if kind.startswith("POST") else b""
    may_expect = body and (hidden or kind == "POST /busy")
    expect = "Expect: 100-continue\r\n" if may_expect and chance.random() < 0.1 else ""
    head = f"{kind} HTTP/1.1\r\nHost: x\r\nContent-Length: {len(body)}\r\n{expect}\r\n".encode()
    whole = head + body
    if chance.random() < 0.4:
        whole = whole[: chance.randrange(1, len(whole) + 1)]
    elif hidden and kind == "GET /busy" and chance.random() < 0.1:
        whole *= 2  # the second one comes before the first is answered
    try:
        writer.write(whole)
        await asyncio.sleep(chance.choice((0, 0, 0.002, 0.01, 0.03)))
        if chance.random() < 0.3:
            async with asyncio.timeout(0.02):
                await reader.read(chance.choice((1, 500, 5000)))
    except (OSError, TimeoutError):
        pass
    if chance.random() < 0.5:
        writer.transport.abort()
    else:
        writer.close()


@pytest.mark.parametrize("timeout", [None, 0.5], ids=["noticed", "limited"])
def test_clients_that_leave_at_random(timeout):
    seed = random.randrange(10**9)
    chance = random.Random(seed)

    async def main():
        before = asyncio.all_tasks()
        async with serving(application(timeout), port=0, log_level="critical", drain=0, grace=2, ready=None) as server:
            left = ABORTS
            while left > 0:
                async with asyncio.timeout(LIMIT):
                    await asyncio.gather(*[abort(server.port, chance, timeout) for _ in range(min(left, AT_ONCE))])
                left -= AT_ONCE
            async with asyncio.timeout(LIMIT):
                while requests or open_now:
                    await asyncio.sleep(0.01)
            assert {op.name for op in calloff.operations()} <= {f"server 127.0.0.1:{0}", "lifespan"}
        async with asyncio.timeout(LIMIT):
            while asyncio.all_tasks() - before or calloff.operations():
                await asyncio.sleep(0.01)

    print("seed", seed)
    files = len(os.listdir("/proc/self/fd")) if os.path.isdir("/proc/self/fd") else 0
    asyncio.run(main())
    gc.collect()
    assert not requests
    if files:
        assert len(os.listdir("/proc/self/fd")) <= files
