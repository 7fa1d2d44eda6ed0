"""`install`: the right place inside an application of Starlette, and the names of its routes."""

import asyncio
import logging
from typing import Any

import pytest
from asgi.wire import Wire
from starlette.applications import Starlette
from starlette.background import BackgroundTask
from starlette.middleware.base import BaseHTTPMiddleware
from starlette.responses import PlainTextResponse
from starlette.routing import Mount, Route

import calloff
import calloff._operation.observers
from calloff.asgi import Middleware, install

seen: list[Any] = []


class Base(BaseHTTPMiddleware):
    async def dispatch(self, request, call_next):
        seen.append("base")
        return await call_next(request)


async def item(request):
    seen.append(calloff.current())
    return PlainTextResponse(request.path_params.get("id", "none"))


async def boom(request):
    raise ValueError("boom")


async def handled(request, error):
    seen.append(calloff.current())
    return PlainTextResponse("handled", status_code=418)


async def slow(request):
    await asyncio.sleep(60)


async def later():
    await asyncio.sleep(0.8)  # longer than the limit of the request
    seen.append("in the background")


async def with_background(request):
    return PlainTextResponse("ok", background=BackgroundTask(later))


def make(**options):
    seen.clear()
    routes = [
        Route("/items/{id}", item),
        Route("/boom", boom),
        Route("/slow/{id}", slow),
        Route("/background", with_background),
        Mount("/api", routes=[Route("/users/{id}", item)]),
    ]
    app = Starlette(routes=routes, exception_handlers={ValueError: handled})
    app.add_middleware(Base)
    install(app, **options)
    app.add_middleware(Base)
    return app


async def get(app, path, **options):
    wire = Wire(path, **options)
    await app(wire.scope, wire.receive, wire.send)
    return wire


@pytest.mark.parametrize(("path", "name"), [("/items/7", "GET /items/{id}"), ("/api/users/9", "GET /api/users/{id}")])
def test_it_is_innermost_and_named_by_the_route(path, name):
    app = make()
    wire = asyncio.run(get(app, path))
    assert wire.body.decode() == path[-1]
    assert seen[:2] == ["base", "base"]
    assert seen[2].name == name
    assert [entry.cls for entry in app.user_middleware] == [Base, Base, Middleware]


def test_a_request_that_is_stopped_before_it_answers_has_the_name_of_its_route():
    async def main():
        app, wire = make(), Wire("/slow/7")
        serving = asyncio.ensure_future(app(wire.scope, wire.receive, wire.send))
        names = set()
        async with asyncio.timeout(30):
            while "GET /slow/{id}" not in names:
                names = {op.name for op in calloff.operations()}
                await asyncio.sleep(0.005)
        (op,) = calloff.operations()
        op.cancel()
        await serving
        assert wire.status == 503
        assert op.name == "GET /slow/{id}"

    asyncio.run(main())


def test_a_path_that_no_route_has_is_no_name():
    """Whoever tries paths at random would make a name of each."""
    names = []

    class Names(calloff._operation.observers.Observer):
        def ended(self, operation, /):
            names.append(operation.name)

    watching = Names()
    calloff._operation.observers.listen(watching)
    try:
        wire = asyncio.run(get(make(), "/wp-admin.php"))
    finally:
        calloff._operation.observers.ignore(watching)
    assert wire.status == 404
    assert names == ["GET (no route)"]


def test_a_limit_is_answered_through_the_middlewares_around():
    wire = asyncio.run(get(make(timeout=0.05), "/slow/7"))
    assert (wire.status, wire.headers["content-type"]) == (504, "application/problem+json")


def test_exception_handlers_are_as_before():
    wire = asyncio.run(get(make(), "/boom"))
    assert (wire.status, wire.body) == (418, b"handled")
    assert seen[2].name == "GET /boom"


def test_background_tasks_outlive_client_and_limit():
    asyncio.run(get(make(timeout=0.6, lazy=0), "/background"))
    assert seen[-1] == "in the background"


def test_it_is_installed_once_and_before_the_first_request():
    app = make()
    with pytest.raises(RuntimeError, match="already"):
        install(app)
    asyncio.run(get(app, "/items/1"))
    with pytest.raises(RuntimeError, match="has begun to serve"):
        install(app)


def test_it_is_for_starlette_and_options_are_looked_at_at_once():
    with pytest.raises(TypeError, match=r"not function: use app = calloff.asgi.Middleware\(app\)"):
        install(get)  # type: ignore[arg-type]  # no application
    with pytest.raises(ValueError, match="timeout"):
        install(Starlette(), timeout=-1)
    with pytest.raises(TypeError, match="tiemout"):
        install(Starlette(), tiemout=1)


def test_whoever_wraps_a_task_group_is_told(caplog):
    with caplog.at_level(logging.WARNING, "calloff"):
        Middleware(Base(Starlette()))
        assert "is around Base" in caplog.text
        assert "calloff.asgi.install(app)" in caplog.text
        caplog.clear()
        Middleware(Starlette())
        assert not caplog.text
