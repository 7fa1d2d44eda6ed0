"""aio-pika 10.2.1 with aiormq 7.2.4: connecting and closing a channel do not survive a cancel.

Seen on 22 November 2026 with Python 3.13.0.

calloff sweep examples/sweep/found/aio_pika_channel.py:connect
calloff sweep examples/sweep/found/aio_pika_channel.py:open_and_close --setup connection --teardown close

Needs a RabbitMQ server: AMQP_URL (``amqp://guest:guest@127.0.0.1/``). Run by itself, it shows the damage without a sweep.
"""

import asyncio
import logging
import os

import aio_pika
from aio_pika.abc import AbstractConnection

URL = os.environ.get("AMQP_URL", "amqp://guest:guest@127.0.0.1/")


async def connect() -> None:
    connection = await aio_pika.connect(URL)
    await connection.close()


async def connection() -> AbstractConnection:
    return await aio_pika.connect(URL)


async def open_and_close(connection: AbstractConnection) -> None:
    channel = await connection.channel()
    await channel.close()


async def close(connection: AbstractConnection) -> None:
    await connection.close()


def readers() -> list[str]:
    return [name for task in asyncio.all_tasks() if (name := task.get_coro().__qualname__).startswith("Connection.__")]


async def main() -> None:
    task = asyncio.create_task(aio_pika.connect(URL))
    while not readers() and not task.done():
        await asyncio.sleep(0)
    task.cancel()  # the connection is open, connect() has not returned
    await asyncio.wait({task})
    await asyncio.sleep(1)
    print("connect() was cancelled:", task.cancelled(), "- a second later these tasks still serve it:", readers())

    swallowed = broken = 0
    for turns in range(5, 40):
        one = await connection()
        channel = await one.channel()
        task = asyncio.create_task(channel.close())
        for _ in range(turns):
            await asyncio.sleep(0)
        asked = task.cancel()
        await asyncio.wait({task})
        swallowed += asked and not task.cancelled()
        try:
            async with asyncio.timeout(2):
                await one.channel()
        except Exception as error:
            broken += 1
            why = error
    print(f"channel.close() called off at 35 moments: {swallowed} x it returned all the same;")
    print(f"{broken} x the connection, which others may use, was of no use afterwards: {why!r}")


if __name__ == "__main__":
    logging.disable()
    asyncio.run(main())
