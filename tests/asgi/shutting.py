"""An application in which all that can hold up the end of a server may be open; tells on stdout what it lives through."""

import asyncio
import contextlib
import os
import sys
import time
from typing import Any

from starlette.applications import Starlette
from starlette.responses import PlainTextResponse, StreamingResponse
from starlette.routing import Route, WebSocketRoute

LONG = 3600


def say(text):
    print(text, flush=True)


@contextlib.asynccontextmanager
async def lifespan(app):
    how = os.environ.get("LIFESPAN", "")
    if how == "never up":
        say("starting")
        await asyncio.sleep(LONG)
    if how == "refuses":
        raise ValueError("no database")
    yield
    say("shutdown began")
    if how == "never down":
        await asyncio.sleep(LONG)
    if how == "blocked":
        time.sleep(LONG)
    say("shutdown done")


async def short(request):
    say("open")
    await asyncio.sleep(0.2)
    say("short ended well")
    return PlainTextResponse("done")


async def slow(request):
    say("open")
    await asyncio.sleep(LONG)


async def stubborn(request):
    say("open")
    while True:
        with contextlib.suppress(asyncio.CancelledError):
            await asyncio.sleep(LONG)


async def blocked(request):
    say("open")
    time.sleep(LONG)


def thread(request):
    say("open")
    time.sleep(LONG)


async def sse(request):
    async def events():
        say("open")
        while True:
            yield b"data: x\n\n"
            await asyncio.sleep(0.05)

    return StreamingResponse(events(), media_type="text/event-stream")


async def ws(websocket):
    await websocket.accept()
    say("open")
    while True:
        await asyncio.sleep(0.05)
        await websocket.send_text("x")


async def quick(request):
    return PlainTextResponse("quick")


KINDS = [short, slow, stubborn, blocked, thread, sse, quick]
app = Starlette(routes=[*(Route(f"/{f.__name__}", f) for f in KINDS), WebSocketRoute("/ws", ws)], lifespan=lifespan)

if __name__ == "__main__":
    import calloff.asgi

    numbers: dict[str, Any] = dict(zip(("leave", "drain", "grace", "closing"), map(float, sys.argv[1:]), strict=True))
    try:
        calloff.asgi.serve(app, port=0, **numbers)
    finally:
        say("after")
