"""aiorwlock 1.5.1: readers that queue behind a writer are not let in when the writer leaves the queue.

Seen on 22 November 2026 with Python 3.13.0.

calloff sweep examples/sweep/found/aiorwlock_reader.py:write --setup lock --check reader_is_in

Run by itself, it shows the damage without a sweep. A cancel at the very moment at which the writer begins to wait finds
nobody behind it; so `write` has a timer of 10 ms beside it, and the sweep calls it off when that fires, too.
"""

import asyncio

from aiorwlock import RWLock


class World:
    """Somebody reads, and will for a while; another reader comes 5 ms later."""

    def __init__(self) -> None:
        self.lock = RWLock()
        self.wrote = self.read = False
        self.first = asyncio.create_task(self.reads_for(0.1))
        self.second = asyncio.create_task(self.comes_later())

    async def reads_for(self, seconds: float) -> None:
        async with self.lock.reader:
            await asyncio.sleep(seconds)

    async def comes_later(self) -> None:
        await asyncio.sleep(0.005)
        async with self.lock.reader:
            self.read = True


async def lock() -> World:
    world = World()
    await asyncio.sleep(0)
    return world


async def write(world: World) -> None:
    timer = asyncio.create_task(asyncio.sleep(0.01))
    async with world.lock.writer:
        world.wrote = True
    await timer


async def reader_is_in(world: World) -> None:
    await asyncio.sleep(0.01)
    assert world.wrote or world.first.done() or world.read, "a reader waits behind a writer that has gone"


async def main() -> None:
    world = await lock()
    writer = asyncio.create_task(write(world))
    await asyncio.sleep(0.02)
    writer.cancel()
    await asyncio.sleep(0.02)
    print("nobody writes or wants to; the reader in the queue", "reads" if world.read else "still waits")
    late = asyncio.create_task(world.reads_for(0))
    await asyncio.sleep(0.01)
    print("a reader that came later", "has read" if late.done() else "waits, too")
    await world.second
    print("the reader in the queue has read, when the first one was through")


if __name__ == "__main__":
    asyncio.run(main())
