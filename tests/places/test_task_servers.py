"""Handlers of a server of asyncio's streams are part of the body that has started it, where that waits for their end."""

import asyncio
import sys
from collections.abc import Callable
from typing import Any

import pytest

import calloff
from calloff import Abandoned, Cancelled, Rung

pytestmark = pytest.mark.usefixtures("short_last")

#: whether `Server.serve_forever`, when it is cancelled, waits for its handlers and does not end their connections
LETS_THEM_END = (3, 12, 1) <= sys.version_info < (3, 14)


class Serving:
    """A server with one connection, and what became of its handler."""

    def __init__(self) -> None:
        self.begun = asyncio.Event()
        self.ended = asyncio.Event()
        self.release = asyncio.Event()
        self.address: asyncio.Future[tuple[str, int]] = asyncio.get_running_loop().create_future()

    async def obeys(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.begun.set()
        try:
            await self.release.wait()
        finally:
            self.ended.set()
            writer.close()

    async def refuses(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.begun.set()
        while not self.release.is_set():
            try:
                await self.release.wait()
            except BaseException:
                pass
        self.ended.set()
        writer.close()

    async def serve(self, handler: Any, wait: "Callable[[asyncio.Server], Any]") -> None:
        async with await asyncio.start_server(handler, "127.0.0.1", 0) as server:
            self.address.set_result(server.sockets[0].getsockname())
            await wait(server)

    async def connect(self) -> asyncio.StreamWriter:
        asyncio.get_running_loop().set_exception_handler(lambda *_: None)  # asyncio complains of how the handler ends
        _, writer = await asyncio.open_connection(*await self.address)
        await self.begun.wait()
        return writer


def only_of_asyncio() -> None:
    if not isinstance(asyncio.get_running_loop(), asyncio.SelectorEventLoop):
        pytest.skip("servers of other loops do not wait for their handlers, or can't be looked into")


WAITS = pytest.mark.skipif(not LETS_THEM_END, reason="there it does not wait for the handlers")


@pytest.mark.parametrize("wait", [pytest.param("serve_forever", marks=WAITS), "wait_closed"])
async def test_a_body_that_waits_for_its_server_ends_by_force_with_the_handlers(wait: str) -> None:
    only_of_asyncio()
    serving = Serving()
    op = calloff.start(serving.serve(serving.obeys, getattr(asyncio.Server, wait)), grace=0.05)
    writer = await serving.connect()
    outcome = await op.stop()
    assert isinstance(outcome, Cancelled), outcome
    assert serving.ended.is_set()
    assert (outcome.report.refusals, outcome.report.survivors) == (0, ())
    if wait == "serve_forever":
        assert outcome.report.rung is Rung.FORCED
    writer.close()


@WAITS
async def test_handlers_have_the_grace_to_end_by_themselves() -> None:
    only_of_asyncio()
    serving = Serving()
    op = calloff.start(serving.serve(serving.obeys, asyncio.Server.serve_forever), grace=30)
    writer = await serving.connect()
    stopped = asyncio.ensure_future(op.stop())
    while op._stop is None or op._stop._climb is None:  # until what refuses would have been asked again
        await asyncio.sleep(0.001)
    assert not serving.ended.is_set()
    serving.release.set()
    outcome = await stopped
    assert isinstance(outcome, Cancelled), outcome
    assert (outcome.report.rung, outcome.report.refusals) == (Rung.ASKED, 0)
    writer.close()


async def test_a_handler_that_refuses_everything_is_named_with_its_line() -> None:
    only_of_asyncio()
    serving = Serving()
    op = calloff.start(serving.serve(serving.refuses, asyncio.Server.wait_closed), grace=0.05)
    writer = await serving.connect()
    outcome = await op.stop()
    serving.release.set()
    await serving.ended.wait()
    assert isinstance(outcome, Abandoned), outcome
    (survivor,) = outcome.report.survivors
    assert "refuses (" in survivor
    assert "test_task_servers.py:" in survivor
    writer.close()


async def test_handlers_of_a_server_that_somebody_else_has_started_are_let_alone() -> None:
    only_of_asyncio()
    serving = Serving()
    server = await asyncio.start_server(serving.obeys, "127.0.0.1", 0)
    serving.address.set_result(server.sockets[0].getsockname())
    op = calloff.start(server.wait_closed(), grace=0.05)
    writer = await serving.connect()
    outcome = await op.stop()
    assert isinstance(outcome, Cancelled), outcome
    assert not serving.ended.is_set()
    serving.release.set()
    await serving.ended.wait()
    writer.close()
    server.close()
