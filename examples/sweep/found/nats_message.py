"""nats-py 2.16.0: a message that has arrived is lost when the one who waits for it is called off just then.

Seen on 22 November 2026 with Python 3.13.0.

calloff sweep examples/sweep/found/nats_message.py:next_message --setup client --check nothing_lost --teardown close
calloff sweep examples/sweep/found/nats_message.py:iterate --setup client --check nothing_lost --teardown close
calloff sweep examples/sweep/found/nats_message.py:connect

Needs a NATS server on 127.0.0.1, port NATS_PORT (4222). Run by itself, it shows the damage without a sweep.
"""

import asyncio
import os
from typing import Any

import nats

URL = f"nats://127.0.0.1:{os.environ.get('NATS_PORT', '4222')}"


class Client:
    """Two messages are on their way to the subscription."""

    connection: Any
    subscription: Any
    task: "asyncio.Task[None]"

    def __init__(self) -> None:
        self.got: list[bytes] = []

    async def publish(self) -> None:
        await asyncio.sleep(0.01)
        for text in (b"one", b"two"):
            await self.connection.publish("news", text)
        await self.connection.flush()


async def client() -> Client:
    client = Client()
    client.connection = await nats.connect(URL, allow_reconnect=False)
    client.subscription = await client.connection.subscribe("news")
    client.task = asyncio.create_task(client.publish())
    return client


async def next_message(client: Client) -> None:
    client.got.append((await client.subscription.next_msg(timeout=2)).data)


async def iterate(client: Client) -> None:
    async for message in client.subscription.messages:
        client.got.append(message.data)
        break


async def nothing_lost(client: Client) -> None:
    await client.task
    while len(client.got) < 2:
        client.got.append((await client.subscription.next_msg(timeout=1)).data)


async def close(client: Client) -> None:
    await client.task
    await client.connection.close()


async def connect() -> None:
    connection = await nats.connect(URL, allow_reconnect=False)
    await connection.close()


async def main() -> None:
    connection = await nats.connect(URL)
    subscription = await connection.subscribe("news")
    cancelled = lost = 0
    for number in range(50):
        task = asyncio.create_task(subscription.next_msg(timeout=2))
        await asyncio.sleep(0.005)
        (inner,) = subscription._pending_next_msgs_calls.values()
        await connection.publish("news", b"%d" % number)
        flush = asyncio.create_task(connection.flush())
        while not inner.done():
            await asyncio.sleep(0)
        task.cancel()  # the message is there, the task has not gone on
        await asyncio.wait({task, flush})
        if task.cancelled():
            cancelled += 1
            try:
                await subscription.next_msg(timeout=0.1)
            except nats.errors.TimeoutError:
                lost += 1
    print(f"{cancelled} cancelled as their message came, {lost} messages lost")
    await connection.close()


if __name__ == "__main__":
    asyncio.run(main())
