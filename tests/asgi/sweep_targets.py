"""What is swept: requests under the middleware, called off at every await from outside, as a server does it."""

import asyncio

from asgi.wire import Wire, answer

import calloff
from calloff.asgi import Middleware
from calloff.asgi._count import requests


async def _reads_and_answers(scope, receive, send):
    parts = []
    while True:
        message = await receive()
        parts.append(message["body"])
        if not message["more_body"]:
            break
    await asyncio.sleep(0)
    await answer(send, b"".join(parts))


async def _never_ends(scope, receive, send):
    await asyncio.sleep(3600)


async def _waits_then_asks(scope, receive, send):
    await scope["listened"].wait()  # until somebody has listened, and taken all
    await _reads_and_answers(scope, receive, send)


class Listened(Wire):
    """Tells when the whole body has been taken."""

    def __init__(self, *parts):
        super().__init__("/x", method="POST", body=parts)
        self.scope["listened"] = self._listened = asyncio.Event()

    async def receive(self):
        message = await super().receive()
        if not self._inbox:
            self._listened.set()
        return message


class World:
    """One application, for several requests: a slip in one must not be felt by the next."""

    def __init__(self):
        self.app = Middleware(_waits_then_asks, lazy=0, grace=1)
        self.limited = Middleware(_never_ends, timeout=0.01, lazy=60, grace=1)


async def setup():
    return World()


async def check(world):
    assert not requests, "a request is still listed"
    assert not calloff.operations(), "an operation is left"
    wire = Listened(b"a", b"b")
    await world.app(wire.scope, wire.receive, wire.send)
    assert wire.body == b"ab"


async def request(world):
    wire = Listened(b"one", b"two")
    await world.app(wire.scope, wire.receive, wire.send)
    assert wire.body == b"onetwo"


async def limited_request(world):
    wire = Wire("/x")
    await world.limited(wire.scope, wire.receive, wire.send)
    assert wire.status == 504


async def two_requests(world):
    async with asyncio.TaskGroup() as group:
        group.create_task(request(world))
        group.create_task(limited_request(world))
