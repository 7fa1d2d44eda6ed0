"""What it costs a client to tell a server how long it waits: CPU of one request of httpx and aiohttp, plain and with ours.

The server is a process of its own that answers every head with the same words. Each round has all in turns, in an operation
with a limit, so that there is time to be told of; the figures of the same round are compared.
"""

import asyncio
import gc
import subprocess
import sys
import time
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack
from importlib.util import find_spec

import calloff
import calloff.http

from ._rows import AtMost, Figure, Row

SERVER = r"""
import asyncio
async def serve(reader, writer):
    try:
        while True:
            await reader.readuntil(b"\r\n\r\n")
            writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")
    except (OSError, EOFError):
        writer.close()
async def main():
    async with await asyncio.start_server(serve, "127.0.0.1", 0) as server:
        print(server.sockets[0].getsockname()[1], flush=True)
        await server.serve_forever()
asyncio.run(main())
"""
#: how much more CPU a request may cost with ours
GOALS = {"httpx": 1.08, "aiohttp": 1.06}
Ask = Callable[[], Awaitable[object]]


async def _load(ask: Ask, count: int) -> float:
    gc.collect()
    began = time.process_time()
    for _ in range(count):
        await ask()
    return (time.process_time() - began) / count


async def _measure(url: str, rounds: int, count: int) -> dict[str, Figure]:
    asks: dict[str, Ask] = {}
    async with AsyncExitStack() as stack:
        if find_spec("httpx") is not None:
            import httpx

            for name, hooks in (("httpx", []), ("httpx, ours", [calloff.http.httpx_hook])):
                client = await stack.enter_async_context(httpx.AsyncClient(event_hooks={"request": hooks}))
                asks[name] = lambda client=client: client.get(url)  # type: ignore[misc]  # of a default
        if find_spec("aiohttp") is not None:
            import aiohttp

            for name, middlewares in (("aiohttp", ()), ("aiohttp, ours", (calloff.http.aiohttp_middleware,))):
                session = await stack.enter_async_context(aiohttp.ClientSession(middlewares=middlewares))

                async def ask(session: aiohttp.ClientSession = session) -> str:
                    async with session.get(url) as response:
                        return await response.text()

                asks[name] = ask
        samples: dict[str, list[float]] = {name: [] for name in asks}
        for number in range(rounds + 1):
            for name in list(asks)[:: 1 if number % 2 else -1]:
                seconds = await calloff.call(_load(asks[name], count), timeout=300)
                if number:  # the first round warms up
                    samples[name].append(seconds)
    return {name: Figure(tuple(each)) for name, each in samples.items()}


def run(quick: bool) -> list[Row]:
    with subprocess.Popen([sys.executable, "-c", SERVER], stdout=subprocess.PIPE, text=True) as server:
        assert server.stdout is not None
        try:
            url = f"http://127.0.0.1:{int(server.stdout.readline())}/"
            found = asyncio.run(_measure(url, 20 if quick else 60, 50))
        finally:
            server.kill()
    return [
        Row(f"a request of {name}, with what is left", "s", found[f"{name}, ours"], name, found[name], AtMost(goal))
        for name, goal in GOALS.items()
        if name in found
    ]


if __name__ == "__main__":
    from ._rows import as_table

    print(as_table(run(quick=False)))
