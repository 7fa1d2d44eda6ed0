"""anyio 4.16.0: a cancel from outside is taken back by a task group, and is lost beside a deadline.

A group that ends inside of one that is called off hands what it has cancelled of its own task to the outer group, which
takes so many cancels back of another task, its own.

Seen on 26 November 2026 with Python 3.13.0.

calloff sweep examples/sweep/found/anyio_count.py:request
"""

import asyncio

import anyio


async def reads() -> None:
    """A part of the work that takes a moment to end."""
    with anyio.CancelScope(shield=True):
        await anyio.sleep(0.003)


async def handler() -> None:
    """Ends its own group while that is being waited for, as a middleware does when the response is sent."""
    async with anyio.create_task_group() as own:
        own.start_soon(reads)
        await anyio.sleep(0.001)
        own.cancel_scope.cancel()


async def request() -> None:
    """Two handlers side by side."""
    async with anyio.create_task_group() as group:
        group.start_soon(handler)
        group.start_soon(handler)


async def called_off(after: float) -> int:
    """What is left of one cancel: it should be 1."""
    task = asyncio.create_task(request())
    await asyncio.sleep(after)
    task.cancel()
    await asyncio.wait({task})
    return task.cancelling()


async def both(after: float) -> str:
    """What comes out when a deadline and a cancel from outside come at the same time."""

    async def limited() -> None:
        async with asyncio.timeout(after):
            await request()

    task = asyncio.create_task(limited())
    await asyncio.sleep(after)
    task.cancel()
    await asyncio.wait({task})
    return "the cancel" if task.cancelled() else type(task.exception()).__name__


async def main() -> None:
    """Try a few moments."""
    for after in (0.0005, 0.002):
        print(
            f"called off after {after * 1000:g} ms: cancelling() is {await called_off(after)}, both: {await both(after)}"
        )


if __name__ == "__main__":
    asyncio.run(main())
