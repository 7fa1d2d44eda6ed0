"""pyzmq 27.3.0: a message that has arrived is lost when the one who waits for it is called off just then.

Seen on 22 November 2026 with Python 3.13.0.

calloff sweep examples/sweep/found/pyzmq_message.py:receive --setup sockets --check nothing_lost --teardown close

Run by itself, it shows the damage without a sweep.
"""

import asyncio

import zmq
import zmq.asyncio


class Sockets:
    """Two messages are on their way from one to the other."""

    def __init__(self) -> None:
        self.context = zmq.asyncio.Context()
        self.push = self.context.socket(zmq.PUSH)
        self.pull = self.context.socket(zmq.PULL)
        self.pull.connect(f"tcp://127.0.0.1:{self.push.bind_to_random_port('tcp://127.0.0.1')}")
        self.got: list[bytes] = []

    async def send(self, *texts: bytes) -> None:
        await asyncio.sleep(0.02)
        for text in texts:
            await self.push.send(text)


async def sockets() -> Sockets:
    sockets = Sockets()
    sockets.task = asyncio.create_task(sockets.send(b"one", b"two"))
    return sockets


async def receive(sockets: Sockets) -> None:
    sockets.got.append(await sockets.pull.recv())


async def nothing_lost(sockets: Sockets) -> None:
    await sockets.task
    async with asyncio.timeout(1):
        while len(sockets.got) < 2:
            await receive(sockets)


async def close(sockets: Sockets) -> None:
    sockets.push.close(0)
    sockets.pull.close(0)
    sockets.context.term()


async def main() -> None:
    pair = Sockets()
    cancelled = lost = 0
    for number in range(20):
        task = asyncio.create_task(receive(pair))
        await asyncio.sleep(0.01)
        future = pair.pull._recv_futures[0].future
        await pair.send(b"%d" % number)
        while not future.done():
            await asyncio.sleep(0)
        task.cancel()  # the message is there, the task has not gone on
        await asyncio.wait({task})
        if task.cancelled():
            cancelled += 1
            try:
                await asyncio.wait_for(pair.pull.recv(), 0.1)
            except TimeoutError:
                lost += 1
    print(f"{cancelled} cancelled as their message came, {lost} messages lost")
    await close(pair)


if __name__ == "__main__":
    asyncio.run(main())
