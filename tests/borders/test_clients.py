"""What clients send, when their requests end with what verdict, and whether their connections are whole afterwards."""

import asyncio
import contextlib
import threading
from concurrent.futures import Future
from typing import Any

import pytest

import calloff
from calloff.http import (
    aiohttp_middleware,
    grpc_client,
    grpc_server,
    httpx_hook,
    httpx_transport,
    requests_adapter,
)

aiohttp = pytest.importorskip("aiohttp", reason="runs in the environment of the group borders")
httpx = pytest.importorskip("httpx")
requests = pytest.importorskip("requests")
from aiohttp import web  # noqa: E402

HEADER = "Request-Timeout-Ms"


class Server:
    """A server in a thread of its own, that notes what it is sent and when a client leaves."""

    def __init__(self):
        self.seen = []
        self.entered = threading.Event()
        self.left = threading.Event()
        started: Future[Any] = Future()
        threading.Thread(target=asyncio.run, args=(self._serve(started),), daemon=True).start()
        self.loop, self._over, self.url = started.result(30)

    async def _serve(self, started):
        app = web.Application()
        app.add_routes([web.get(f"/{name}", getattr(self, name)) for name in ("quick", "slow", "drip", "hop")])
        runner = web.AppRunner(app, handler_cancellation=True)
        await runner.setup()
        site = web.TCPSite(runner, "127.0.0.1", 0)
        await site.start()
        over = asyncio.Event()
        started.set_result((asyncio.get_running_loop(), over, f"http://127.0.0.1:{runner.addresses[0][1]}"))
        await over.wait()
        await runner.cleanup()

    def close(self):
        self.loop.call_soon_threadsafe(self._over.set)

    def _note(self, request):
        value = request.headers.get(HEADER)
        self.seen.append(None if value is None else int(value))

    async def quick(self, request):
        self._note(request)
        return web.Response(text="ok")

    async def slow(self, request):
        self._note(request)
        self.entered.set()
        try:
            await asyncio.sleep(60)
        finally:
            self.left.set()

    async def drip(self, request):
        """Sends the half of what it has announced."""
        self._note(request)
        response = web.StreamResponse(headers={"Content-Length": "20"})
        await response.prepare(request)
        await response.write(b"x" * 10)
        self.entered.set()
        try:
            await asyncio.sleep(60)
        finally:
            self.left.set()

    async def hop(self, request):
        self._note(request)
        await asyncio.sleep(0.05)
        raise web.HTTPFound("/quick")


@pytest.fixture
def server():
    server = Server()
    yield server
    server.close()


@contextlib.asynccontextmanager
async def with_httpx(server):
    limits = httpx.Limits(max_connections=1)
    async with httpx.AsyncClient(
        base_url=server.url, event_hooks={"request": [httpx_hook]}, follow_redirects=True, limits=limits, timeout=60
    ) as client:

        async def get(path, **options):
            return (await client.get(path, **options)).text

        yield get


@contextlib.asynccontextmanager
async def with_aiohttp(server):
    connector = aiohttp.TCPConnector(limit=1)
    async with aiohttp.ClientSession(server.url, middlewares=[aiohttp_middleware], connector=connector) as session:

        async def get(path, **options):
            async with session.get(path, **options) as response:
                return await response.text()

        yield get


@contextlib.asynccontextmanager
async def with_requests(server):
    with requests.Session() as session:
        session.mount("http://", requests_adapter(pool_maxsize=1, pool_block=True))

        async def get(path, place=calloff.thread, **options):
            def blocking():
                return session.get(server.url + path, timeout=60, **options).text

            return await calloff.start(place(blocking), grace=20)

        yield get


@contextlib.asynccontextmanager
async def with_blocking_httpx(server):
    limits = httpx.Limits(max_connections=1)
    transport = httpx_transport(httpx.HTTPTransport(limits=limits))
    with httpx.Client(base_url=server.url, transport=transport, timeout=60, follow_redirects=True) as client:

        async def get(path, **options):
            return await calloff.start(calloff.thread(lambda: client.get(path, **options).text), grace=20)

        yield get


CLIENTS = [with_httpx, with_aiohttp, with_requests, with_blocking_httpx]
every_client = pytest.mark.parametrize("client", CLIENTS, ids=lambda client: client.__name__)


@every_client
def test_the_time_that_is_left_is_sent_and_by_a_redirected_request_anew(server, client):
    async def main():
        async with client(server) as get:
            assert await calloff.call(get("/hop"), timeout=30) == "ok"
            first, second = server.seen
            assert second <= first - 50 <= 30_000 - 50
            server.seen.clear()

            # a limit of the caller's own that is shorter stays; another kind of value does not
            await calloff.call(get("/quick", headers={HEADER: "7"}), timeout=30)
            await calloff.call(get("/quick", headers={HEADER: "soon"}), timeout=30)
            assert server.seen[0] == 7
            assert 7 < server.seen[1] <= 30_000
            server.seen.clear()

            async with calloff.timeout(20):
                await get("/quick")
                await calloff.start(get("/quick"), detached=True)
            await get("/quick")
            assert 0 < server.seen[0] <= 20_000
            assert server.seen[1:] == [None, None]

    asyncio.run(main())


@every_client
@pytest.mark.parametrize("path", ["/slow", "/drip"])
def test_a_stop_ends_the_request_and_the_pool_is_whole(server, client, path):
    async def main():
        async with client(server) as get:
            for _ in range(2):
                server.entered.clear()
                server.left.clear()
                op = calloff.start(get(path), grace=20)
                assert await asyncio.to_thread(server.entered.wait, 30)
                await asyncio.sleep(0.02)  # for the body to arrive
                outcome = await op.stop("not needed")
                assert isinstance(outcome, calloff.Cancelled), outcome
                assert await asyncio.to_thread(server.left.wait, 30), "the server has not heard of it"
            assert await asyncio.wait_for(get("/quick"), 30) == "ok"

    asyncio.run(main())


@every_client
@pytest.mark.parametrize("path", ["/slow", "/drip"])
def test_a_deadline_is_the_verdict(server, client, path):
    async def main():
        async with client(server) as get:
            op = calloff.start(get(path), timeout=0.3, grace=20)
            with pytest.raises(calloff.TimedOut):
                await op
            assert await asyncio.wait_for(get("/quick"), 30) == "ok"

    asyncio.run(main())


@pytest.mark.parametrize("client", [with_httpx, with_aiohttp])
def test_after_the_deadline_clean_up_may_ask_and_nothing_else(server, client):
    async def refuses(get):
        with contextlib.suppress(asyncio.CancelledError):
            await asyncio.sleep(60)
        await get("/quick")

    async def cleans_up(get):
        try:
            await asyncio.sleep(60)
        finally:
            await get("/quick")

    async def main():
        async with client(server) as get:
            for work, seen in ((refuses, []), (cleans_up, [None])):
                op = calloff.start(work(get), timeout=0.01, grace=20)
                with pytest.raises(calloff.TimedOut):
                    await op
                assert server.seen == seen

    asyncio.run(main())


def test_after_the_deadline_clean_up_in_a_thread_may_ask_and_nothing_else(server):
    def get():
        with requests.Session() as session:
            session.mount("http://", requests_adapter())
            assert session.get(f"{server.url}/quick", timeout=60).text == "ok"

    def refuses():
        with contextlib.suppress(asyncio.CancelledError):
            calloff.checkpoint(60)
        get()

    def cleans_up():
        try:
            calloff.checkpoint(60)
        finally:
            get()

    async def cleans_up_in_a_thread():
        try:
            await asyncio.sleep(60)
        finally:
            await calloff.call(calloff.thread(get))

    async def main():
        for work, seen in ((refuses, []), (cleans_up, [None])):
            with pytest.raises(calloff.TimedOut):
                await calloff.call(calloff.thread(work), timeout=0.01, grace=20)
            assert server.seen == seen
        with pytest.raises(calloff.TimedOut):
            await calloff.call(cleans_up_in_a_thread(), timeout=0.01, grace=20)
        assert server.seen == [None, None]

    asyncio.run(main())


def test_clean_up_that_hangs_in_a_request_ends_with_the_grace(server):
    def work():
        try:
            calloff.checkpoint(60)
        finally:
            with requests.Session() as session:
                session.mount("http://", requests_adapter())
                session.get(f"{server.url}/slow", timeout=60)

    async def main():
        op = calloff.start(calloff.thread(work), timeout=0.01, grace=0.5)
        outcome = await op.outcome()
        assert not isinstance(outcome, calloff.Abandoned), outcome

    asyncio.run(main())


@pytest.mark.parametrize("client", [with_requests, with_blocking_httpx])
def test_the_report_names_what_was_done(server, client):
    async def main():
        async with client(server) as get:
            call = asyncio.ensure_future(get("/slow"))
            assert await asyncio.to_thread(server.entered.wait, 30)
            (op,) = calloff.operations()
            outcome = await op.stop()
            assert outcome.report.rung is calloff.Rung.ASKED
            assert len(outcome.report.helped) == 1
            assert outcome.report.helped[0].endswith("shutdown of its socket")
            with pytest.raises(calloff.OperationCancelled):
                await call

    asyncio.run(main())


def test_requests_in_a_process(server):
    async def main():
        op = calloff.start(calloff.process(get_in_a_process, server.url), grace=20)
        assert await asyncio.to_thread(server.entered.wait, 30)
        outcome = await op.stop()
        assert isinstance(outcome, calloff.Cancelled), outcome
        assert outcome.report.rung is calloff.Rung.ASKED
        with pytest.raises(calloff.TimedOut):
            await calloff.call(calloff.process(get_in_a_process, server.url), timeout=5)
        assert server.seen[0] is None
        assert 0 < server.seen[1] <= 5000

    asyncio.run(main())


def get_in_a_process(url):
    with requests.Session() as session:
        session.mount("http://", requests_adapter())
        return session.get(f"{url}/slow", timeout=60).text


def test_the_errors_of_a_client_without_a_stop_are_its_own(server):
    def refused():
        with requests.Session() as session:
            session.mount("http://", requests_adapter())
            session.get("http://127.0.0.1:1/")

    async def main():
        with pytest.raises(requests.ConnectionError):
            await calloff.call(calloff.thread(refused))

        def impatient():
            with requests.Session() as session:
                session.mount("http://", requests_adapter())
                session.get(f"{server.url}/slow", timeout=(5, 0.05))

        with pytest.raises(requests.ReadTimeout):
            await calloff.call(calloff.thread(impatient), timeout=30)
        with httpx.Client(transport=httpx_transport()) as client, pytest.raises(httpx.ReadTimeout):
            await calloff.call(calloff.thread(client.get, f"{server.url}/slow", timeout=0.05), timeout=30)

    asyncio.run(main())


def test_outside_any_operation_clients_work_as_without():
    server = Server()
    with requests.Session() as session:
        session.mount("http://", requests_adapter())
        assert session.get(f"{server.url}/quick").text == "ok"
        with session.get(f"{server.url}/quick", stream=True) as response:
            assert response.raw.read() == b"ok"
    with httpx.Client(transport=httpx_transport()) as client:
        assert client.get(f"{server.url}/quick").text == "ok"
        with client.stream("GET", f"{server.url}/quick") as response:
            assert b"".join(response.iter_bytes()) == b"ok"
    assert server.seen == [None] * 4
    server.close()


# --- gRPC


class Service:
    """Handlers of each kind, that note what they have and how they end."""

    def __init__(self):
        self.seen = []
        self.entered = asyncio.Event()
        self.ended = asyncio.Event()

    async def _wait(self, context):
        self.seen.append(calloff.remaining())
        self.entered.set()
        try:
            await asyncio.sleep(60)
        finally:
            self.ended.set()

    async def unary_unary(self, request, context):
        await self._wait(context)

    async def unary_stream(self, request, context):
        yield b"first"
        await self._wait(context)

    async def stream_unary(self, requests, context):
        async for _ in requests:
            break
        await self._wait(context)

    async def stream_stream(self, requests, context):
        async for request in requests:
            await context.write(request)
            break
        await self._wait(context)

    async def echo(self, request, context):
        return request

    async def count(self, request, context):
        for number in range(3):
            yield bytes([number])

    async def stubborn(self, request, context):
        self.entered.set()
        while True:
            with contextlib.suppress(asyncio.CancelledError):
                await asyncio.sleep(60)


KINDS = ["unary_unary", "unary_stream", "stream_unary", "stream_stream"]


@contextlib.asynccontextmanager
async def grpc_service(grace=5.0):
    grpc = pytest.importorskip("grpc")
    pytest.importorskip("grpc.aio")
    service = Service()
    made = {kind: getattr(grpc, f"{kind}_rpc_method_handler")(getattr(service, kind)) for kind in KINDS}
    made["echo"] = grpc.unary_unary_rpc_method_handler(service.echo)
    made["count"] = grpc.unary_stream_rpc_method_handler(service.count)
    made["stubborn"] = grpc.unary_unary_rpc_method_handler(service.stubborn)
    server = grpc.aio.server(interceptors=[grpc_server(grace=grace)])
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler("s", made),))
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    async with grpc.aio.insecure_channel(f"127.0.0.1:{port}", interceptors=grpc_client()) as channel:
        yield service, channel
    await server.stop(None)


async def calls(channel, kind):
    async def messages():
        yield b"first"

    call = getattr(channel, kind)(f"/s/{kind}")(b"" if kind.startswith("unary") else messages())
    if kind.endswith("unary"):
        return await call
    return [message async for message in call]


def test_grpc_passes_values_on():
    async def main():
        async with grpc_service() as (_, channel):
            assert await calloff.call(channel.unary_unary("/s/echo")(b"x"), timeout=30) == b"x"

            async def counted():
                return [message async for message in channel.unary_stream("/s/count")(b"")]

            assert await calloff.call(counted(), timeout=30) == [b"\0", b"\1", b"\2"]

    asyncio.run(main())


@pytest.mark.parametrize("kind", KINDS)
def test_grpc_calls_have_the_deadline_of_their_caller_and_end_with_it(kind):
    async def main():
        async with grpc_service() as (service, channel):
            op = calloff.start(calls(channel, kind), timeout=20, grace=20)
            await asyncio.wait_for(service.entered.wait(), 30)
            assert 0 < service.seen[0] <= 21  # gRPC rounds it up
            (handler,) = [other for other in calloff.operations() if other.name == f"/s/{kind}"]
            outcome = await op.stop()
            assert isinstance(outcome, calloff.Cancelled), outcome
            ended = await handler.outcome()
            assert isinstance(ended, calloff.Cancelled), ended
            assert ended.reason.kind is calloff.Kind.DISCONNECTED
            assert service.ended.is_set()

    asyncio.run(main())


def test_grpc_deadlines_and_stops_on_the_server():
    async def main():
        grpc = pytest.importorskip("grpc")
        async with grpc_service(grace=0.2) as (service, channel):
            # a header that any client may send
            metadata = (("request-timeout-ms", "100"),)
            with pytest.raises(grpc.aio.AioRpcError) as caught:
                await channel.unary_unary("/s/stubborn")(b"", metadata=metadata)
            assert caught.value.code() is grpc.StatusCode.DEADLINE_EXCEEDED
            service.entered.clear()
            call = asyncio.ensure_future(calls(channel, "unary_unary"))
            await asyncio.wait_for(service.entered.wait(), 30)
            (handler,) = [op for op in calloff.operations() if op.name == "/s/unary_unary"]
            handler.cancel("maintenance")
            with pytest.raises(grpc.aio.AioRpcError) as caught:
                await call
            assert caught.value.code() is grpc.StatusCode.UNAVAILABLE

    asyncio.run(main())
