"""A program that can be seen, and called off, from outside: here by itself, through the same client as the command line.

    python examples/see_and_stop.py
    calloff run examples/see_and_stop.py:work      and in another terminal:   calloff ps, calloff cancel --name 'page-*'

`expose=True` lets `calloff ps` and the other verbs of the same user see it. Under `calloff run` that is always so.
"""

import asyncio
import os

import calloff
from calloff.control import Client, Query


async def fetch(page):
    calloff.progress(f"waiting for page {page}")
    await asyncio.sleep(3600)


async def work():
    async with calloff.group() as group:
        for page in (1, 2):
            group.start(fetch(page), name=f"page-{page}", timeout=600)
        group.start(calloff.command("sleep", "3600"))


async def main():
    op = calloff.start(work())
    async with Client() as client:  # it sees all processes of the user; the rest of this looks at our own
        rows = []
        while len(rows) < 3 or any(row.state != "running" for row in rows):
            await asyncio.sleep(0.01)
            rows = [row for row in (await client.list()).rows if row.parent == f"{os.getpid()}.{op.id}"]
        for row in rows:
            print(f"{row.name}, a {row.place}, is at: {row.where.source}")
        pages = Query(ids=tuple(row.id for row in rows if row.name.startswith("page")))
        async for stopped in client.cancel(pages, reason="no longer needed"):
            print(f"{stopped.row.name}: {stopped.outcome}, {stopped.row.rung}")
    outcome = await op.stop("that was all")
    print(type(outcome).__name__)


if __name__ == "__main__":
    calloff.run(main(), expose=True)
