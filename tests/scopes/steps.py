"""Tools for the tests of the scopes."""

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any


def cancelling() -> int:
    """The cancel requests of the running task."""
    task = asyncio.current_task()
    assert task is not None
    return task.cancelling()


async def turns(count: int) -> None:
    """Let the loop turn."""
    for _ in range(count):
        await asyncio.sleep(0)


async def stubborn(refusals: int, seconds: float = 3600) -> str:
    """Swallows that many cancels, then obeys the next one or ends."""
    for _ in range(refusals):
        try:
            await asyncio.sleep(seconds)
        except asyncio.CancelledError:
            pass
    await asyncio.sleep(seconds)
    return "ended"


async def cancelled_at(turn: int, work: Callable[[], Coroutine[Any, Any, Any]]) -> tuple[asyncio.Task[Any], bool]:
    """Run `work` as a task and cancel it natively after `turn` turns of the loop; whether that was still possible."""
    task = asyncio.get_running_loop().create_task(work())
    await turns(turn)
    asked = task.cancel()
    await asyncio.wait([task], timeout=30)
    assert task.done(), "it never ended"
    return task, asked
