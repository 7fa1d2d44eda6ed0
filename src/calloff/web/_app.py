"""The routes of the page.

    GET  /                     the page, and its files below /assets/
    GET  /api/events?...       what runs and what has ended, live (see `_stream`; the parameters: `_view`)
    POST /api/cancel           {"id", "reason", "grace", "wait"}; answered when it has ended, or after `wait` seconds

The answer to a cancel is the process's own word: how the operation ended, or that it still runs and where it is stuck.
"""

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from importlib.resources import files
from typing import Annotated, Any

from msgspec import DecodeError as NotJson
from msgspec import Meta, Struct, ValidationError, json, to_builtins
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.requests import ClientDisconnect, Request
from starlette.responses import PlainTextResponse, Response, StreamingResponse
from starlette.routing import Route

from ..control import ControlError, Query, Stopped, Unreachable
from ..control._verdict import verdict
from ._guard import Guard
from ._source import Source
from ._stream import Shared, events
from ._view import View

__all__ = ["make_app"]

LONGEST_BODY = 4096
MOST_STREAMS = 32
_TYPES = {
    "html": "text/html; charset=utf-8",
    "css": "text/css; charset=utf-8",
    "js": "text/javascript; charset=utf-8",
    "svg": "image/svg+xml",
}


class _Cancel(Struct, forbid_unknown_fields=True):
    """The body of a cancel. Durations in seconds."""

    id: Annotated[str, Meta(min_length=1, max_length=100)]
    reason: Annotated[str, Meta(max_length=500)] = ""
    grace: Annotated[float, Meta(ge=0, le=86400)] | None = None
    wait: Annotated[float, Meta(ge=0, le=60)] = 10.0


def make_app(
    connect: Callable[[], AbstractAsyncContextManager[Source]],
    *,
    token: str,
    hosts: tuple[str, ...],
    stopping: asyncio.Event,
) -> Starlette:
    """The application.

    Args:
        connect: opens the client of the control sockets; it is closed when the application ends.
        token: what a browser has to know.
        hosts: names under which it is served, beside those of the loopback interface.
        stopping: when set, the streams end.
    """
    page = _Page(stopping)

    @asynccontextmanager
    async def lifespan(_app: Starlette) -> AsyncGenerator[None, None]:
        async with connect() as source:
            page.shared = Shared(source)
            yield

    return Starlette(
        routes=[
            Route("/", page.file),
            Route("/assets/{name}", page.file),
            Route("/api/events", page.events),
            Route("/api/cancel", page.cancel, methods=["POST"]),
        ],
        middleware=[Middleware(Guard, token=token, hosts=hosts)],
        lifespan=lifespan,
    )


class _Page:
    shared: Shared

    def __init__(self, stopping: asyncio.Event) -> None:
        self._stopping = stopping
        self._streams = 0
        self._files = {
            entry.name: entry.read_bytes()
            for entry in files("calloff.web").joinpath("assets").iterdir()
            if entry.is_file()
        }

    async def file(self, request: Request) -> Response:
        name = request.path_params.get("name", "index.html")
        content, media_type = self._files.get(name), _TYPES.get(name.rpartition(".")[2])
        if content is None or media_type is None:
            return _refused("There is no such file.", 404)
        return Response(content, media_type=media_type)

    async def events(self, request: Request) -> Response:
        try:
            view = View.read(request.query_params)
        except ValueError as error:
            return _refused(str(error), 400)
        if self._streams >= MOST_STREAMS:
            return _refused(f"There are {self._streams} streams open already; close a tab.", 503)
        return StreamingResponse(self._counted(view), media_type="text/event-stream")

    async def _counted(self, view: View) -> AsyncIterator[bytes]:
        self._streams += 1
        try:
            async for event in events(self.shared, view, self._stopping):
                yield event
        finally:
            self._streams -= 1

    async def cancel(self, request: Request) -> Response:
        if request.headers.get("content-type", "").partition(";")[0].strip() != "application/json":
            return _refused("The body must be application/json.", 415)
        try:
            asked = json.decode(await _body(request), type=_Cancel)
        except _TooLong:
            return _refused(f"The body must have at most {LONGEST_BODY} bytes.", 413)
        except (ValidationError, NotJson, UnicodeDecodeError) as error:
            return _refused(f"The body is not a cancel: {error}", 400)
        except ClientDisconnect:
            return _refused("", 400)
        answer = asyncio.create_task(self._call_off(asked))
        end = asyncio.create_task(self._stopping.wait())
        try:
            await asyncio.wait((answer, end), return_when=asyncio.FIRST_COMPLETED)
            return answer.result() if answer.done() else _refused("The server ends; what was asked for goes on.", 503)
        finally:
            answer.cancel()
            end.cancel()

    async def _call_off(self, asked: _Cancel) -> Response:
        query = Query(ids=(asked.id,))
        try:
            async for stopped in self.shared.source.cancel(
                query, reason=asked.reason, grace=asked.grace, wait=asked.wait
            ):
                return Response(json.encode(_told(stopped)), media_type="application/json")
        except ControlError as error:
            return _refused(str(error), 502 if isinstance(error, Unreachable) else 404)
        return _refused(f"{asked.id} has ended already.", 404)


def _told(stopped: Stopped) -> dict[str, Any]:
    """The answer to a cancel, with its verdict in words."""
    told = verdict(stopped)
    words = {"kind": told.kind, "head": told.head, "rest": told.rest, "left": told.left}
    return {**to_builtins(stopped), "verdict": words}


class _TooLong(Exception):
    pass


async def _body(request: Request) -> bytes:
    body = b""
    async for chunk in request.stream():
        body += chunk
        if len(body) > LONGEST_BODY:
            raise _TooLong
    return body


def _refused(text: str, status: int) -> PlainTextResponse:
    return PlainTextResponse(text, status)
