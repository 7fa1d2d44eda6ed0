"""A request is an operation: what stops it, what its client is told, and what is left as it was."""

import asyncio
import json
import sys
import time
from contextlib import suppress
from typing import Any

import pytest
from asgi.wire import Wire, answer

import calloff
from calloff._operation.hooks import hooks
from calloff.asgi import BrokenOff, Middleware, RequestOver, keep
from calloff.asgi._count import counts, requests

LIMITS = [("request-timeout", "0.05"), ("request-timeout-ms", "50"), ("x-envoy-expected-rq-timeout-ms", "50")]


@pytest.fixture(autouse=True)
def nothing_is_left_open():
    yield
    assert not requests


class Handler:
    """An application that tells where it is, and that goes on when it is let."""

    def __init__(self, before=None, after=None):
        self.began, self.go_on, self.ended = asyncio.Event(), asyncio.Event(), asyncio.Event()
        self.op = None
        self.saw = None
        self._before, self._after = before, after

    async def __call__(self, scope, receive, send):
        self.op = calloff.current()
        try:
            if self._before:
                await self._before(receive, send)
            self.began.set()
            await self.go_on.wait()
            await (self._after or _plain)(receive, send)
        except BaseException as error:
            self.saw = error
            raise
        finally:
            self.ended.set()


async def _plain(receive, send):
    await answer(send)


async def within(awaitable):
    async with asyncio.timeout(30):
        return await awaitable


def limit_of(op):
    """The seconds that an operation has, from its start on."""
    return None if op.deadline is None else round(op.deadline - op.get_loop().time() + op.elapsed)


def serve(app, wire):
    return asyncio.ensure_future(app(wire.scope, wire.receive, wire.send))


async def test_a_request_is_an_operation_and_its_answer_is_the_application_s():
    handler, wire = Handler(), Wire("/x")
    serving = serve(Middleware(handler), wire)
    await within(handler.began.wait())
    assert [(op.name, op.place) for op in calloff.operations()] == [("GET /x", "task")]
    handler.go_on.set()
    await within(serving)
    assert (wire.status, wire.body) == (200, b"ok")
    assert str(handler.op.state) == "completed"
    assert wire.asked == 0  # the request was young: nobody has listened


async def test_a_client_that_leaves_stops_the_handler():
    handler, wire = Handler(), Wire()
    serving = serve(Middleware(handler, lazy=0), wire)
    await within(handler.began.wait())
    wire.leave()
    await within(serving)
    assert isinstance(handler.saw, asyncio.CancelledError)
    assert handler.op.report.reason.kind is calloff.Kind.DISCONNECTED
    assert wire.sent == []


async def test_a_middleware_around_it_is_told_499():
    """For logs: a server that has nobody to send to drops it."""
    handler, wire, sent = Handler(), Wire(), []

    async def send(message):
        sent.append(message)

    serving = asyncio.ensure_future(Middleware(handler, lazy=0)(wire.scope, wire.receive, send))
    await within(handler.began.wait())
    wire.leave()
    await within(serving)
    assert sent[0]["status"] == 499


@pytest.mark.usefixtures("begins_first")
async def test_a_client_that_leaves_after_the_last_byte_stops_nothing():
    """Background tasks go on, also past the limit of the request."""
    handler, wire = Handler(before=_plain, after=_nothing), Wire(headers=LIMITS[:1])
    serving = serve(Middleware(handler, lazy=0), wire)
    await within(handler.began.wait())
    wire.leave()
    assert handler.op.deadline is None
    await asyncio.sleep(0.1)  # longer than the limit that the client gave
    handler.go_on.set()
    await within(serving)
    assert str(handler.op.state) == "completed"
    assert wire.status == 200


async def _nothing(receive, send):
    pass


@pytest.mark.parametrize("header", [*LIMITS, ("grpc-timeout", "50m")], ids=lambda header: header[0])
@pytest.mark.usefixtures("begins_first")
async def test_the_deadline_of_the_client(header):
    handler, wire = Handler(), Wire(headers=[header])
    await within(serve(Middleware(handler, timeout=60), wire))
    assert handler.op.report.reason.kind is calloff.Kind.DEADLINE
    assert wire.status == 504
    assert wire.headers["content-type"] == "application/problem+json"
    assert "retry-after" not in wire.headers
    assert json.loads(wire.body) == {
        "type": "about:blank",
        "title": "Gateway Timeout",
        "status": 504,
        "detail": "The request did not end within 0.05 s.",
    }


async def test_the_smallest_limit_counts():
    for timeout, headers, skew, told in (
        (None, [], 0, None),
        (60, [], 0, 60),
        (60, [("request-timeout", 30)], 0, 30),
        (20, [("request-timeout", 30)], 0, 20),
        (None, [("request-timeout", 30), ("grpc-timeout", "4S"), ("request-timeout-ms", 9000)], 1, 3),
    ):
        handler, wire = Handler(), Wire(headers=headers)
        serving = serve(Middleware(handler, timeout=timeout, skew=skew), wire)
        await within(handler.began.wait())
        assert limit_of(handler.op) == told
        handler.go_on.set()
        await within(serving)


async def test_only_headers_that_are_asked_for_are_read():
    handler, wire = Handler(), Wire(headers=[("request-timeout", 0), ("grpc-timeout", "9S")])
    serving = serve(Middleware(handler, read=["grpc-timeout"]), wire)
    await within(handler.began.wait())
    assert limit_of(handler.op) == 9
    handler.go_on.set()
    await within(serving)


@pytest.mark.parametrize(
    "header",
    [
        ("request-timeout", "soon"),
        ("request-timeout", "-1"),
        ("request-timeout", "nan"),
        ("request-timeout", "inf"),
        ("request-timeout", "1e3"),
        ("request-timeout-ms", "1.5"),
        ("request-timeout-ms", "9" * 40),
        ("grpc-timeout", "5"),
        ("grpc-timeout", "999999999S"),
        ("grpc-timeout", ""),
    ],
    ids=str,
)
def test_a_header_that_can_not_be_read_is_no_limit(header):
    async def main():
        handler, wire, before = Handler(), Wire(headers=[header]), counts.malformed
        serving = serve(Middleware(handler), wire)
        await within(handler.began.wait())
        assert handler.op.deadline is None
        assert counts.malformed == before + 1
        handler.go_on.set()
        await within(serving)

    asyncio.run(main())


async def test_what_nobody_waits_for_any_more_is_never_begun():
    handler, wire = Handler(), Wire(headers=[("grpc-timeout", "0S")])
    await within(serve(Middleware(handler), wire))
    assert wire.status == 504
    assert handler.op is None


async def test_what_is_called_off_by_somebody_is_answered_503():
    """And the words of whoever asked are not for the client."""
    handler, wire = Handler(), Wire()
    serving = serve(Middleware(handler, retry_after=7), wire)
    await within(handler.began.wait())
    handler.op.cancel("the database db-7 is down")
    await within(serving)
    assert (wire.status, wire.headers["retry-after"]) == (503, "7")
    assert "db-7" not in wire.body.decode()


@pytest.mark.usefixtures("begins_first")
async def test_the_whole_text_is_told_where_that_is_asked_for():
    handler, wire = Handler(), Wire()
    await within(serve(Middleware(handler, timeout=0.02, detail=True), wire))
    assert "test_middleware.py" in json.loads(wire.body)["detail"]


async def test_the_client_is_told_no_paths_and_no_lines():
    handler, wire = Handler(), Wire()
    await within(serve(Middleware(handler, timeout=0.02), wire))
    assert ".py" not in wire.body.decode()
    assert "Handler" not in wire.body.decode()


async def _half(receive, send):
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": b"half", "more_body": True})


@pytest.mark.usefixtures("begins_first")
async def test_half_a_response_is_broken_off():
    handler, wire = Handler(before=_half), Wire()
    with pytest.raises(BrokenOff, match=r"^the response to GET / was broken off: The request did not end within"):
        await within(serve(Middleware(handler, timeout=0.02), wire))
    assert wire.body == b"half"
    assert not wire.complete


async def test_a_client_that_leaves_a_stream_is_no_error():
    handler, wire = Handler(before=_half), Wire()
    serving = serve(Middleware(handler, lazy=0), wire)
    await within(handler.began.wait())
    wire.leave()
    await within(serving)
    assert handler.op.report.reason.kind is calloff.Kind.DISCONNECTED


@pytest.mark.usefixtures("begins_first")
async def test_a_client_that_takes_the_last_part_slowly_is_still_limited():
    """Until the last part is sent the response is not complete; a client that leaves then is the normal end."""
    handler, wire = Handler(before=_half, after=_last), Wire()
    stuck = asyncio.Event()

    async def send(message):
        await wire.send(message)
        if not message.get("more_body", True):
            await stuck.wait()

    serving = asyncio.ensure_future(Middleware(handler, timeout=0.1, lazy=0)(wire.scope, wire.receive, send))
    handler.go_on.set()
    with pytest.raises(BrokenOff):
        await within(serving)
    assert handler.op.report.reason.kind is calloff.Kind.DEADLINE


async def _last(receive, send):
    await send({"type": "http.response.body", "body": b"", "more_body": False})


async def test_trailers_come_after_the_last_part_of_the_body():
    async def with_trailers(receive, send):
        await send({"type": "http.response.start", "status": 200, "headers": [], "trailers": True})
        await send({"type": "http.response.body", "body": b"x"})

    async def trailers(receive, send):
        await send({"type": "http.response.trailers", "headers": []})
        assert calloff.current().deadline is None

    handler, wire = Handler(before=with_trailers, after=trailers), Wire()
    serving = serve(Middleware(handler, timeout=60), wire)
    await within(handler.began.wait())
    assert handler.op.deadline is not None
    handler.go_on.set()
    await within(serving)


@pytest.mark.parametrize("how", ["finish", "keep"])
async def test_a_request_that_is_finished_whatever_its_client_does(how):
    async def kept(receive, send):
        keep()

    handler = Handler(before=kept if how == "keep" else None)
    app = Middleware(handler, lazy=0, on_disconnect="finish" if how == "finish" else "stop")
    wire = Wire()
    serving = serve(app, wire)
    await within(handler.began.wait())
    wire.leave()
    await asyncio.sleep(0.02)
    handler.go_on.set()
    await within(serving)
    assert str(handler.op.state) == "completed"
    assert handler.op.report is None


def test_keep_outside_a_request_does_nothing():
    keep()


@pytest.mark.usefixtures("begins_first")
async def test_what_can_not_be_stopped_is_abandoned_and_can_send_no_more():
    stop, said = asyncio.Event(), list[Any]()

    async def stubborn(scope, receive, send):
        while not stop.is_set():
            with suppress(BaseException):
                await asyncio.sleep(60 if not said else 0.01)
            said.append("again")
        assert await receive() == {"type": "http.disconnect"}
        with pytest.raises(RequestOver):
            await send({"type": "http.response.start", "status": 200, "headers": []})
        said.append("refused")

    wire = Wire()
    await within(serve(Middleware(stubborn, timeout=0.02, grace=0.02), wire))
    assert wire.status == 504
    (op,) = calloff.operations()
    assert str(op.state) == "abandoned"
    stop.set()
    async with asyncio.timeout(30):
        while calloff.operations():
            await asyncio.sleep(0.01)
    assert said[-1] == "refused"
    assert len(wire.sent) == 2


async def test_a_handler_that_obeys_by_returning_is_answered_for():
    async def swallows(scope, receive, send):
        with suppress(asyncio.CancelledError):
            await asyncio.sleep(60)

    wire = Wire()
    await within(serve(Middleware(swallows, timeout=0.02), wire))
    assert wire.status == 504


async def test_a_client_that_waits_to_be_asked_for_its_body_is_asked_by_the_application_only():
    async def read(receive, send):
        assert (await receive())["body"] == b"data"

    handler = Handler(after=read)
    wire = Wire(method="POST", headers=[("expect", "100-continue")], body=[b"data"])
    serving = serve(Middleware(handler, lazy=0), wire)
    await within(handler.began.wait())
    await asyncio.sleep(0.05)
    assert wire.asked == 0
    handler.go_on.set()
    await within(serving)
    assert wire.asked == 1


async def test_when_it_has_been_asked_the_client_is_listened_to():
    async def read(receive, send):
        await receive()

    handler = Handler(before=read)
    wire = Wire(method="POST", headers=[("expect", "100-continue")], body=[b"data"])
    serving = serve(Middleware(handler, lazy=0.01), wire)
    await within(handler.began.wait())
    wire.leave()
    await within(serving)
    assert handler.op.report.reason.kind is calloff.Kind.DISCONNECTED


async def test_of_an_upload_that_is_not_read_a_bounded_part_is_taken():
    async def read(receive, send):
        got = []
        while True:
            message = await receive()
            got.append(message["body"])
            if not message["more_body"]:
                break
        assert got == [bytes([number]) * 1000 for number in range(100)]

    handler, wire = Handler(after=read), Wire(body=[bytes([number]) * 1000 for number in range(100)])
    serving = serve(Middleware(handler, lazy=0, ahead=4000), wire)
    await within(handler.began.wait())
    await wire.until(lambda: len(wire.given) == 4)
    await asyncio.sleep(0.05)
    assert len(wire.given) == 4
    handler.go_on.set()
    await within(serving)
    assert len(wire.given) == 100


async def test_an_application_that_listens_itself_hears_it_and_has_a_while():
    heard = asyncio.Event()

    async def listen(receive, send):
        while (await receive())["type"] != "http.disconnect":
            pass
        heard.set()

    for heard_for, stopped in ((0.02, True), (60, False)):
        heard.clear()
        handler, wire = Handler(before=listen), Wire()
        serving = serve(Middleware(handler, lazy=60, heard=heard_for), wire)  # else another listener may be the first
        await asyncio.sleep(0)
        wire.leave()
        await within(heard.wait())
        if not stopped:
            handler.go_on.set()
        await within(serving)
        assert (handler.op.report is not None) is stopped


async def test_looking_for_a_disconnect_now_and_then_loses_nothing():
    """As Starlette's `is_disconnected` does: it calls `receive` and cancels that at once."""

    async def look(receive):
        task = asyncio.ensure_future(receive())
        await asyncio.sleep(0)
        task.cancel()
        with suppress(asyncio.CancelledError):
            return await task

    async def poll(receive, send):
        assert (await receive())["body"] == b"one"
        for _ in range(20):
            assert await look(receive) is None
            await asyncio.sleep(0.001)
        wire.upload(b"two")
        assert (await receive())["body"] == b"two"
        await asyncio.sleep(0.01)  # long enough for somebody to listen
        waiting = asyncio.ensure_future(receive())
        await asyncio.sleep(0.01)
        wire.leave()
        assert (await waiting)["type"] == "http.disconnect"
        assert (await look(receive))["type"] == "http.disconnect"

    wire = Wire(body=[b"one"], hold_body=True)
    wire.upload(b"one", more=True)
    handler = Handler(before=poll)
    handler.go_on.set()
    await within(serve(Middleware(handler, lazy=0), wire))
    assert handler.saw is None


async def test_an_error_of_the_server_s_receive_is_the_application_s():
    async def broken():
        raise ConnectionAbortedError("no")

    async def read(receive, send):
        with pytest.raises(ConnectionAbortedError):
            await receive()

    handler, wire = Handler(after=read), Wire()
    serving = asyncio.ensure_future(Middleware(handler, lazy=0)(wire.scope, broken, wire.send))
    await within(handler.began.wait())
    await asyncio.sleep(0.02)
    handler.go_on.set()
    await within(serving)
    assert handler.saw is None


async def test_a_server_that_says_the_same_again_and_again_is_not_asked_for_ever():
    asked = 0

    async def empty():
        nonlocal asked
        asked += 1
        return {"type": "http.request", "body": b"", "more_body": False}

    handler, wire = Handler(), Wire()
    serving = asyncio.ensure_future(Middleware(handler, lazy=0)(wire.scope, empty, wire.send))
    await within(handler.began.wait())
    await asyncio.sleep(0.05)
    assert asked <= 2
    handler.go_on.set()
    await within(serving)


async def test_the_application_s_own_errors_go_out_as_they_are():
    async def boom(receive, send):
        raise ValueError("boom")

    async def inner(receive, send):
        with calloff.timeout(0.001):
            await asyncio.sleep(60)

    async def child(receive, send):
        op = calloff.start(asyncio.sleep(60))
        await asyncio.sleep(0)
        op.cancel()
        try:
            await op
        except asyncio.CancelledError as error:
            raise LookupError("of the child") from error

    for work, error in ((boom, ValueError), (inner, calloff.TimedOut), (child, LookupError)):
        wire = Wire()
        handler = Handler(before=work)
        with pytest.raises(error):
            await within(serve(Middleware(handler), wire))
        assert wire.sent == []


async def test_a_server_that_cancels_its_task_gets_its_cancel_back_and_the_client_a_503():
    handler, wire = Handler(), Wire()
    serving = serve(Middleware(handler), wire)
    await within(handler.began.wait())
    serving.cancel()
    with pytest.raises(asyncio.CancelledError):
        await within(serving)
    assert wire.status == 503
    assert isinstance(handler.saw, asyncio.CancelledError)


async def test_lifespan_is_left_alone():
    seen = []

    async def app(scope, receive, send):
        seen.append((scope["type"], calloff.current()))

    nothing: Any = None
    await Middleware(app)({"type": "lifespan"}, nothing, nothing)
    assert seen == [("lifespan", None)]


async def test_a_name_that_the_application_gives_stays():
    async def name(receive, send):
        calloff.current().name = "import"

    handler, wire = Handler(before=name), Wire()
    wire.scope["path_template"] = "/items/{id}"
    handler.go_on.set()
    await within(serve(Middleware(handler), wire))
    assert handler.op.name == "import"


@pytest.mark.parametrize("waits", [False, True])
async def test_whoever_hears_of_its_end_hears_the_name_of_its_route(monkeypatch, waits):
    """Also of one that ends in its first step, and however long its path is."""
    heard = []
    monkeypatch.setattr(hooks, "ended", (lambda op: heard.append(op.name),))

    async def app(scope, receive, send):
        if waits:
            await asyncio.sleep(0)
        scope["path_template"] = "/items/{id}"
        await answer(send)

    for method in ("GET", "GET", "PUT"):
        await within(serve(Middleware(app), Wire("/items/" + "1" * 5000, method=method)))
    assert heard == ["GET /items/{id}", "GET /items/{id}", "PUT /items/{id}"]


@pytest.mark.skipif(sys.version_info < (3, 12), reason="Python 3.11 can't begin a task at once")
async def test_a_request_that_does_not_wait_costs_no_turn_of_the_loop():
    async def quick(scope, receive, send):
        await answer(send)

    async def fails(scope, receive, send):
        raise LookupError

    wire = Wire()
    served = Middleware(quick, timeout=30)(wire.scope, wire.receive, wire.send)
    with pytest.raises(StopIteration):
        served.send(None)
    assert wire.complete
    wire = Wire()
    with pytest.raises(LookupError):
        Middleware(fails)(wire.scope, wire.receive, wire.send).send(None)


async def test_ten_thousand_quick_requests_leave_nothing(loop_kind):
    async def quick(scope, receive, send):
        await answer(send)

    app = Middleware(quick, timeout=30)
    for _ in range(100):
        await asyncio.gather(*[serve(app, Wire()) for _ in range(20)])
    assert not app._young.entries


# --- websockets


class Socket(Wire):
    def __init__(self):
        super().__init__("/ws", kind="websocket", body=[{"type": "websocket.connect"}])


async def _accept(receive, send):
    assert (await receive())["type"] == "websocket.connect"
    await send({"type": "websocket.accept"})


async def test_a_websocket_whose_client_leaves_is_stopped():
    handler, wire = Handler(before=_accept), Socket()
    serving = serve(Middleware(handler, lazy=0.01, heard=0.02), wire)
    await within(handler.began.wait())
    wire.leave()
    await within(serving)
    assert handler.op.name == "WS /ws"
    assert handler.op.report.reason.kind is calloff.Kind.DISCONNECTED
    assert [message["type"] for message in wire.sent] == ["websocket.accept"]


async def test_a_websocket_that_hears_it_itself_ends_in_its_own_way():
    async def listen(receive, send):
        await _accept(receive, send)
        got = []
        while (message := await receive())["type"] == "websocket.receive":
            got.append(message["text"])
            await asyncio.sleep(0.001)
        assert got == [str(number) for number in range(200)]
        assert message["type"] == (await receive())["type"] == "websocket.disconnect"

    wire = Socket()
    handler = Handler(before=listen, after=_nothing)
    handler.go_on.set()
    wire.upload(*[{"type": "websocket.receive", "text": str(number)} for number in range(200)])
    wire.leave()
    await within(serve(Middleware(handler, lazy=0, heard=60), wire))
    assert handler.op.report is None


@pytest.mark.parametrize(("kind", "code"), [("shutdown", 1012), ("requested", 1011)])
async def test_a_websocket_that_is_called_off_is_closed(kind, code):
    handler, wire = Handler(before=_accept), Socket()
    serving = serve(Middleware(handler), wire)
    await within(handler.began.wait())
    handler.op.cancel(calloff.Reason(calloff.Kind(kind)))
    await within(serving)
    assert wire.sent[-1] == {"type": "websocket.close", "code": code}


# --- bad input


@pytest.mark.parametrize(
    ("option", "says"),
    [
        ({"on_disconnect": "ignore"}, 'on_disconnect must be "stop" or "finish"'),
        ({"read": ["x-stainless-read-timeout"]}, "read must be some of grpc-timeout, request-timeout-ms,"),
        ({"timeout": -1}, "timeout"),
        ({"grace": float("nan")}, "grace"),
        ({"lazy": -1}, "lazy"),
        ({"heard": -1}, "heard"),
        ({"skew": -1}, "skew"),
        ({"ahead": -1}, "ahead must be a whole number"),
        ({"retry_after": 0.5}, "retry_after must be a whole number"),
    ],
    ids=str,
)
def test_bad_options_are_told(option, says):
    with pytest.raises(ValueError, match=says):
        Middleware(answer, **option)


def test_a_handler_that_blocks_the_loop_is_interrupted_at_its_deadline():
    """Under `calloff.run`, as any other operation."""

    async def blocks(scope, receive, send):
        time.sleep(60)

    async def main():
        wire = Wire(headers=LIMITS[:1])
        await Middleware(blocks)(wire.scope, wire.receive, wire.send)
        return wire.status

    assert calloff.run(main()) == 504
