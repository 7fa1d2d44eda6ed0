"""Tasks of what is swept: a task factory that is put around the one that is there, and a coroutine of any awaitable."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

__all__ = ["awaited", "factory_like"]


def factory_like(previous: Any, made: Callable[[Callable[[Any], Any], Any], Any]) -> Any:
    """A task factory around `previous`; who asks whether tasks are eager (anyio does) sees no difference."""
    eager: Any = getattr(asyncio, "eager_task_factory", None)
    if eager is not None and getattr(previous, "__code__", None) is eager.__code__:
        kind = previous.__closure__[0].cell_contents

        def task(coro: Any, **options: Any) -> Any:
            return made(lambda driven: kind(driven, **options), coro)

        return asyncio.create_eager_task_factory(task)  # type: ignore[attr-defined,unused-ignore]

    def factory(loop: asyncio.AbstractEventLoop, coro: Any, **options: Any) -> Any:
        if previous is None:
            return made(lambda driven: asyncio.Task(driven, loop=loop, **options), coro)
        return made(lambda driven: previous(loop, driven, **options), coro)

    return factory


async def awaited(work: Awaitable[Any]) -> Any:
    """Make a coroutine of what can only be awaited."""
    return await work
