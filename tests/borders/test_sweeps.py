"""What calloff adds to clients, swept itself: called off at every await it leaves nothing behind, and pools are whole."""

import asyncio
import contextlib
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


# --- clients that block, each in a thread, with a pool of one connection


class Blocking:
    """A server in this loop, and a client whose only connection each request needs."""

    def __init__(self, make):
        self._make = make

    async def __call__(self):
        self.server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        self.url = f"http://127.0.0.1:{self.server.sockets[0].getsockname()[1]}/"
        self.client = self._make()
        self.writers = set()
        return self

    async def _serve(self, reader, writer):
        self.writers.add(writer)
        with contextlib.suppress(OSError, asyncio.IncompleteReadError):
            while True:
                head = await reader.readuntil(b"\r\n\r\n")
                assert b"request-timeout-ms: " in head.lower()
                writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\no")
                await asyncio.sleep(0.001)
                writer.write(b"k")
        self.writers.discard(writer)
        writer.close()

    async def request(self):
        work = calloff.thread(lambda: self.client.get(self.url, timeout=20).text)
        assert await calloff.call(work, timeout=30, grace=10) == "ok"

    async def check(self):
        assert not calloff.operations()
        await self.request()

    async def close(self):
        self.client.close()
        self.server.close()
        for writer in self.writers:
            writer.close()
        while self.writers:
            await asyncio.sleep(0.001)


def of_requests():
    requests = pytest.importorskip("requests")
    session = requests.Session()
    session.mount("http://", calloff.http.requests_adapter(pool_maxsize=1, pool_block=True))
    return session


def of_httpx():
    limits = httpx.Limits(max_connections=1)
    return httpx.Client(transport=calloff.http.httpx_transport(httpx.HTTPTransport(limits=limits)))


@pytest.mark.parametrize("make", [of_requests, of_httpx])
def test_a_client_that_blocks_is_safe(make):
    report = asyncio.run(
        sweep(
            Blocking.request,
            setup=Blocking(make),
            check=Blocking.check,
            teardown=Blocking.close,
            timeout=20,
            isolate=False,
        )
    )
    assert report.verdict == "SAFE", "\n".join(str(finding) for finding in report.findings)
    assert report.points


# --- gRPC, both of its ends in this loop


class Grpc:
    """A server and a channel, each with its interceptors."""

    async def __call__(self):
        grpc = pytest.importorskip("grpc")
        aio = pytest.importorskip("grpc.aio")

        async def echo(request, context):
            assert calloff.remaining() < 60
            await asyncio.sleep(0)
            return request

        async def count(request, context):
            for number in range(2):
                yield bytes([number])
                await asyncio.sleep(0)
            await self.read.wait()

        made = {
            "echo": grpc.unary_unary_rpc_method_handler(echo),
            "count": grpc.unary_stream_rpc_method_handler(count),
        }
        self.ok, self.read = grpc.StatusCode.OK, asyncio.Event()
        self.server = aio.server(interceptors=[calloff.http.grpc_server(grace=1)])
        self.server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler("s", made),))
        port = self.server.add_insecure_port("127.0.0.1:0")
        await self.server.start()
        self.channel = aio.insecure_channel(f"127.0.0.1:{port}", interceptors=calloff.http.grpc_client())
        await self.channel.channel_ready()
        return self

    async def unary(self):
        async with calloff.timeout(30):
            assert await self.channel.unary_unary("/s/echo")(b"x") == b"x"

    async def stream(self):
        self.read.clear()
        async with calloff.timeout(30):
            call, found = self.channel.unary_stream("/s/count")(b""), []
            async for each in call:
                found.append(each)
                if len(found) == 2:  # else the status would come now with the end, now behind it: an await more or less
                    self.read.set()
                    assert await call.code() == self.ok
            assert found == [b"\0", b"\1"]

    async def check(self):
        self.read.set()  # a call that gRPC itself forgot ends, too
        async with asyncio.timeout(20):
            while any(op.name.startswith("/s/") for op in calloff.operations()):  # the server hears of it from the wire
                await asyncio.sleep(0.001)
        await self.unary()

    async def close(self):
        await self.channel.close()
        await self.server.stop(None)


@pytest.mark.parametrize("work", [Grpc.unary, Grpc.stream])
def test_grpc_is_safe(work):
    report = asyncio.run(sweep(work, setup=Grpc(), check=Grpc.check, teardown=Grpc.close, timeout=20, isolate=False))
    assert report.verdict == "SAFE", "\n".join(str(finding) for finding in report.findings)
    assert report.points
