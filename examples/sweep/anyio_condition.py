"""anyio 4.12.1: who is called off as it is notified takes the notification with it; the next one waits for ever.

calloff sweep examples/sweep/anyio_condition.py:wait --setup condition --bystander wait
"""

import asyncio

import anyio


async def condition() -> anyio.Condition:
    """Notifies one of those who wait."""
    condition = anyio.Condition()

    async def notify() -> None:
        await anyio.sleep(0.01)
        async with condition:
            condition.notify()

    condition.notifier = asyncio.create_task(notify())
    return condition


async def wait(condition: anyio.Condition) -> None:
    """Wait to be notified, and notify the next."""
    async with condition:
        await condition.wait()
        condition.notify()
