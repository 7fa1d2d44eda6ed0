"""aiomqtt 2.5.1: a client whose connecting was called off can't be used again; a message that has just come is lost.

Seen on 22 November 2026 with Python 3.13.0.

calloff sweep examples/sweep/found/aiomqtt_client.py:connect
calloff sweep examples/sweep/found/aiomqtt_client.py:receive --setup client --check nothing_lost --teardown close

Needs an MQTT broker on 127.0.0.1, port MQTT_PORT (1883). Run by itself, it shows the damage without a sweep.
"""

import asyncio
import os

import aiomqtt

PORT = int(os.environ.get("MQTT_PORT", "1883"))


async def connect() -> None:
    async with aiomqtt.Client("127.0.0.1", PORT) as client:
        await client.subscribe("news")


class Client:
    """Two messages are on their way."""

    def __init__(self) -> None:
        self.mqtt = aiomqtt.Client("127.0.0.1", PORT)
        self.got: list[bytes] = []

    async def publish(self) -> None:
        await asyncio.sleep(0.01)
        for text in ("one", "two"):
            await self.mqtt.publish("news", text)


async def client() -> Client:
    client = Client()
    await client.mqtt.__aenter__()
    await client.mqtt.subscribe("news")
    client.task = asyncio.create_task(client.publish())
    return client


async def receive(client: Client) -> None:
    async for message in client.mqtt.messages:
        client.got.append(message.payload)
        break


async def nothing_lost(client: Client) -> None:
    await client.task
    async with asyncio.timeout(1):
        while len(client.got) < 2:
            await receive(client)


async def close(client: Client) -> None:
    await client.mqtt.__aexit__(None, None, None)


async def silence(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    await reader.read(1)
    await reader.read()
    writer.close()


async def main() -> None:
    server = await asyncio.start_server(silence, "127.0.0.1", 0)
    mute = aiomqtt.Client("127.0.0.1", server.sockets[0].getsockname()[1])
    for attempt in ("first", "second"):
        try:
            async with asyncio.timeout(0.2), mute:
                pass
        except (TimeoutError, aiomqtt.MqttError) as error:
            print(f"{attempt} attempt to connect: {error!r}")
    server.close()

    lost = cancelled = 0
    async with aiomqtt.Client("127.0.0.1", PORT) as talking:
        await talking.subscribe("talk")
        messages = talking.messages
        for number in range(20):
            task = asyncio.ensure_future(anext(messages))
            await asyncio.sleep(0.01)
            (getter,) = (task for task in asyncio.all_tasks() if task.get_coro().__qualname__ == "Queue.get")
            await talking.publish("talk", str(number))
            while not getter.done():
                await asyncio.sleep(0)
            task.cancel()  # the message is there, the task has not gone on
            await asyncio.wait({task})
            if task.cancelled():
                cancelled += 1
                try:
                    await asyncio.wait_for(anext(messages), 0.1)
                except TimeoutError:
                    lost += 1
    print(f"{cancelled} cancelled as their message came, {lost} messages lost")


if __name__ == "__main__":
    asyncio.run(main())
