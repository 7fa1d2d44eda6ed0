"""A server as the application sees it: what uvicorn does for one connection, without a socket."""

import asyncio


class Wire:
    """One request (or websocket) and its client."""

    def __init__(self, path="/", *, method="GET", headers=(), body=(b"",), kind="http", hold_body=False):
        self.scope = {
            "type": kind,
            "asgi": {"version": "3.0", "spec_version": "2.3"},
            "http_version": "1.1",
            "method": method,
            "path": path,
            "raw_path": path.encode(),
            "query_string": b"",
            "root_path": "",
            "scheme": "http",
            "headers": [(name.encode(), str(value).encode()) for name, value in headers],
            "client": ("127.0.0.1", 1),
            "server": ("127.0.0.1", 80),
        }
        if kind == "websocket":
            del self.scope["method"]
        self.sent = []
        #: how often the application, or somebody in its name, has asked for a message
        self.asked = 0
        self.given = []
        self.complete = False
        self.changed = asyncio.Event()
        self._kind = kind
        self._gone = None
        self._inbox = []
        if not hold_body:
            self.upload(*body)

    def upload(self, *parts, more=False):
        """The client sends its body, or the messages of a websocket."""
        for number, part in enumerate(parts, 1):
            if self._kind == "websocket":
                self._inbox.append(part)
            else:
                last = number == len(parts) and not more
                self._inbox.append({"type": "http.request", "body": part, "more_body": not last})
        self._tell()

    def leave(self):
        """The client goes away."""
        self._gone = {"type": f"{self._kind}.disconnect"}
        if self._kind == "websocket":
            self._gone |= {"code": 1006, "reason": ""}
        self._tell()

    def _tell(self):
        self.changed.set()
        self.changed = asyncio.Event()

    async def receive(self):
        self.asked += 1
        while True:
            if self._inbox:
                self.given.append(self._inbox.pop(0))
                self._tell()
                return self.given[-1]
            if self.complete:
                return {"type": "http.disconnect"}
            if self._gone:
                return self._gone
            await self.changed.wait()

    async def send(self, message):
        if self._gone:
            return
        self.sent.append(message)
        if message["type"] == "http.response.body" and not message.get("more_body"):
            self.complete = True
        self._tell()

    async def until(self, condition):
        """Wait until something holds, looking whenever this wire has changed."""
        async with asyncio.timeout(30):
            while not condition():
                await self.changed.wait()

    @property
    def status(self):
        return self.sent[0]["status"] if self.sent else None

    @property
    def headers(self):
        return {name.decode(): value.decode() for name, value in self.sent[0]["headers"]}

    @property
    def body(self):
        return b"".join(message.get("body", b"") for message in self.sent)


async def answer(send, body=b"ok", status=200):
    await send({"type": "http.response.start", "status": status, "headers": []})
    await send({"type": "http.response.body", "body": body})
