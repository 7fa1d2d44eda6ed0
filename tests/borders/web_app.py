"""An application whose handlers wait until they are stopped, and write down what became of them; $APP says whose.

Run by the servers of test_web.py: a file, and not a pipe, since these have workers and loggers of their own.
"""

import asyncio
import os
import time

import calloff
from calloff.asgi import Middleware, install

LONG = 3600


def say(*words):
    with open(os.environ["EVENTS"], "a") as events:
        print(*words, file=events)


async def work(tag):
    say(tag, "began")
    try:
        await asyncio.sleep(LONG)
    except asyncio.CancelledError:
        op = calloff.current()
        say(tag, "stopped", op.reason.kind, op.name)
        raise


def fastapi(behind_base):
    from fastapi import BackgroundTasks, Depends, FastAPI, Request, WebSocket
    from fastapi.responses import JSONResponse, StreamingResponse
    from starlette.middleware.base import BaseHTTPMiddleware

    app = FastAPI()

    async def async_resource():
        try:
            yield
        finally:
            await asyncio.sleep(0.01)
            say("async resource cleaned")

    def resource():
        try:
            yield
        finally:
            time.sleep(0.01)
            say("resource cleaned")

    @app.get("/wait/{id}")
    async def wait(id: int):
        await work("wait")

    @app.get("/thread")
    def thread():
        say("thread began")
        try:
            while True:
                calloff.checkpoint(0.01)
        except asyncio.CancelledError:
            say("thread stopped")
            raise

    @app.get("/depends")
    async def depends(a=Depends(async_resource), b=Depends(resource)):  # noqa: B008
        await work("depends")

    @app.get("/stream")
    async def stream():
        async def parts():
            yield b"first"
            say("stream began")
            try:  # Starlette listens itself here, and stops what makes the stream
                await asyncio.sleep(LONG)
            finally:
                say("stream stopped")

        return StreamingResponse(parts())

    @app.post("/body")
    async def body(request: Request):
        say("body of", len(await request.body()))
        await work("body")

    @app.post("/unread")
    async def unread():
        await work("unread")

    @app.get("/background")
    async def background(tasks: BackgroundTasks):
        async def later():
            await asyncio.sleep(0.3)
            say("background done")

        tasks.add_task(later)
        return {}

    @app.get("/boom")
    async def boom():
        raise ValueError("boom")

    @app.exception_handler(ValueError)
    async def handler(request, error):
        return JSONResponse({"handled": str(error)}, status_code=418)

    @app.websocket("/ws")
    async def ws(socket: WebSocket):
        await socket.accept()
        await work("ws")

    if behind_base:

        class Base(BaseHTTPMiddleware):
            async def dispatch(self, request, call_next):
                return await call_next(request)

        app.add_middleware(Base)
    install(app, heard=0.1)
    return app


def litestar():
    from litestar import Litestar, get
    from litestar.middleware import DefineMiddleware

    @get("/wait/{id:int}")
    async def wait(id: int) -> dict[str, int]:
        await work("wait")
        return {}

    return Litestar([wait], middleware=[DefineMiddleware(Middleware, heard=0.1)])


APP = os.environ.get("APP")
app = litestar() if APP == "litestar" else fastapi(APP == "behind") if APP else None
