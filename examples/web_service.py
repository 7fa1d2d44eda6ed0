"""A web service whose requests end when nobody waits for them any longer.

    python examples/web_service.py          (needs the extra: pip install 'calloff[serve]')

Each request is an operation. One client leaves in the middle, one says how long it waits, and then the server ends while a
third one is being served.
"""

import asyncio

import calloff
from calloff.asgi import Middleware, serving


async def app(scope, receive, send):
    try:
        await asyncio.sleep(0 if scope["path"] == "/quick" else 3600)
    except asyncio.CancelledError:
        print(calloff.current().name, "is called off:", calloff.current().reason.kind)
        raise
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"3")]})
    await send({"type": "http.response.body", "body": b"ok\n"})


async def ask(port, path, headers=""):
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(f"GET {path} HTTP/1.1\r\nHost: localhost\r\n{headers}\r\n".encode())
    return reader, writer


async def status(answer):
    reader, writer = answer
    line = (await reader.readline()).decode().strip()
    writer.close()
    return line


async def main():
    async with serving(Middleware(app), port=0, log_level="warning", lifespan="off", drain=0.2) as server:
        print("quick:", await status(await ask(server.port, "/quick")))
        print("one who waits 0.2 s:", await status(await ask(server.port, "/slow", "Request-Timeout: 0.2\r\n")))
        _, leaver = await ask(server.port, "/report")
        while not any(op.name == "GET /report" for op in calloff.operations()):
            await asyncio.sleep(0.01)
        leaver.close()
        while any(op.name == "GET /report" for op in calloff.operations()):
            await asyncio.sleep(0.01)
        last = await ask(server.port, "/last")
        while not any(op.name == "GET /last" for op in calloff.operations()):
            await asyncio.sleep(0.01)
    print("one who is there at the end:", await status(last))


if __name__ == "__main__":
    calloff.run(main(), grace=30)
